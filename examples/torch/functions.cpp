#include "functions.hpp"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace po2quant_torch {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// `tensor` with its elements in memory by `strides`: itself if they are.
Tensor laid_out(const Tensor& tensor, at::IntArrayRef strides) {
    if (tensor.strides() == strides) return tensor;
    return at::empty_strided(tensor.sizes(), strides, tensor.options()).copy_(tensor);
}

struct FakeQuantize : torch::autograd::Function<FakeQuantize> {
    static variable_list forward(AutogradContext* context, const Tensor& x, const Tensor& exponents, std::int64_t axis,
                                 std::int64_t bits, bool is_signed, const std::string& rounding,
                                 const std::string& estimator, bool observing) {
        const auto [y, mask, seen] =
            ops::fake_quantize(x, exponents, axis, bits, is_signed, rounding, estimator, observing);
        context->save_for_backward({mask});
        context->saved_data["strides"] = x.strides();
        context->mark_non_differentiable({mask, seen});
        return {y, mask, seen};
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const Tensor mask = context->get_saved_variables()[0];
        const std::vector<std::int64_t> strides = context->saved_data["strides"].toIntVector();
        variable_list of_arguments(8);
        of_arguments[0] = ops::fake_quantize_backward(mask, laid_out(grads[0], strides));
        return of_arguments;
    }
};

struct TrainedThreshold : torch::autograd::Function<TrainedThreshold> {
    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& log2_t, std::int64_t axis,
                          std::int64_t bits, bool is_signed, const std::string& rounding) {
        const Tensor exponents = ops::tqt_exponents(log2_t, bits, is_signed);
        context->save_for_backward({x, exponents});
        context->saved_data["axis"] = axis;
        context->saved_data["bits"] = bits;
        context->saved_data["is_signed"] = is_signed;
        context->saved_data["rounding"] = rounding;
        return std::get<0>(ops::fake_quantize(x, exponents, axis, bits, is_signed, rounding));
    }

    static variable_list backward(AutogradContext* context, const variable_list& grads) {
        const variable_list saved = context->get_saved_variables();
        const Tensor& x = saved[0];
        auto& given = context->saved_data;
        const auto [grad_x, grad_log2_t] = ops::fake_quantize_backward_threshold(
            x, laid_out(grads[0], x.strides()), saved[1], given["axis"].toInt(), given["bits"].toInt(),
            given["is_signed"].toBool(), given["rounding"].toStringRef());
        return {grad_x, grad_log2_t, {}, {}, {}, {}};
    }
};

/// ops::fake_quantize with its gradient.
std::tuple<Tensor, Tensor, Tensor> differentiable(const Tensor& x, const Tensor& exponents, std::int64_t axis,
                                                  std::int64_t bits, bool is_signed, const std::string& rounding,
                                                  const std::string& estimator, bool observing) {
    const variable_list outputs =
        FakeQuantize::apply(x, exponents, axis, bits, is_signed, rounding, estimator, observing);
    return {outputs[0], outputs[1], outputs[2]};
}

}  // namespace

Tensor fake_quantize(const Tensor& x, const Tensor& exponents, std::int64_t axis, std::int64_t bits, bool is_signed,
                     const std::string& rounding, const std::string& estimator) {
    return std::get<0>(differentiable(x, exponents, axis, bits, is_signed, rounding, estimator, false));
}

std::pair<Tensor, Tensor> fake_quantize_observing(const Tensor& x, const Tensor& exponents, std::int64_t axis,
                                                  std::int64_t bits) {
    const auto [y, mask, seen] = differentiable(x, exponents, axis, bits, true, "half_up", "clip_code", true);
    return {y, seen};
}

Tensor trained_threshold(const Tensor& x, const Tensor& log2_t, std::int64_t axis, std::int64_t bits, bool is_signed,
                         const std::string& rounding) {
    return TrainedThreshold::apply(x, log2_t, axis, bits, is_signed, rounding);
}

TORCH_LIBRARY_IMPL(po2quant, AutogradCPU, m) { m.impl("fake_quantize", &differentiable); }

TORCH_LIBRARY_FRAGMENT(po2quant, m) {
    m.def(
        "trained_threshold(Tensor input, Tensor log2_t, int axis=0, int bits=8, bool is_signed=True, "
        "str rounding=\"half_up\") -> Tensor output",
        &trained_threshold);
}

}  // namespace po2quant_torch

// The passes of ops.hpp on the tensors' own memory and PyTorch's own threads, and their registration.
#include "ops.hpp"

#include <torch/library.h>

#include <po2quant/numerics/accumulator.hpp>
#include <po2quant/training/exponent_choice.hpp>
#include <po2quant/training/fake_quantize.hpp>
#include <po2quant/training/range_trackers.hpp>
#include <po2quant/training/threshold.hpp>
#include <po2quant/training/threshold_gradient.hpp>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "host.hpp"

namespace po2quant_torch::ops {
namespace {

namespace pq = po2quant;

// ---- arguments ------------------------------------------------------------------------------------------------------

template <class T>
std::span<const T> inputs(const char* name, const Tensor& t) {
    return elements<const T>(name, t);
}

template <class Enum>
Enum named(const char* argument, const std::string& name, std::initializer_list<std::pair<const char*, Enum>> names) {
    for (const auto& [known, value] : names)
        if (name == known) return value;
    TORCH_CHECK(false, "po2quant: ", argument, " is not \"", name, "\"");
}

pq::rounding rounding_of(const std::string& name) {
    return named<pq::rounding>("rounding", name,
                               {{"half_up", pq::rounding::half_up},
                                {"half_even", pq::rounding::half_even},
                                {"half_away", pq::rounding::half_away},
                                {"floor", pq::rounding::floor}});
}

pq::ste estimator_of(const std::string& name) {
    return named<pq::ste>("estimator", name,
                          {{"clip_code", pq::ste::clip_code},
                           {"clip_range", pq::ste::clip_range},
                           {"plain", pq::ste::plain},
                           {"pact", pq::ste::pact}});
}

pq::integer_format format_of(std::int64_t bits, bool is_signed) {
    TORCH_CHECK(pq::min_bits <= bits && bits <= pq::max_bits, "po2quant: bits is ", bits, ", not 2..16");
    return {.bits = static_cast<int>(bits), .is_signed = is_signed};
}

/// The channels along a dimension, as a channel_quantizer has them: `inner` elements of one lie together.
struct channels {
    std::size_t count;
    std::int64_t inner;
};
channels channels_of(const Tensor& t, std::int64_t axis) {
    TORCH_CHECK(-t.dim() <= axis && axis < t.dim(), "po2quant: axis is ", axis, " of ", t.dim(), " dimensions");
    const std::int64_t count = t.size(axis);
    return {static_cast<std::size_t>(count), count == 1 ? t.numel() : t.stride(axis)};
}

/// Calls f with the quantizer of the whole tensor, or with that of its channels.
template <class F>
auto with_quantizer(const Tensor& input, const Tensor& exponents, std::int64_t axis, pq::integer_format format,
                    const std::string& rounding, F&& f) {
    const std::span<const int> e = inputs<int>("exponents", exponents);
    const pq::rounding mode = rounding_of(rounding);
    if (e.size() == 1) return f(pq::quantizer{.format = format, .exponent = e[0], .mode = mode});
    const channels c = channels_of(input, axis);
    TORCH_CHECK(e.size() == c.count, "po2quant: ", e.size(), " exponents for ", c.count, " channels");
    return f(pq::channel_quantizer{.format = format, .exponents = e, .inner = c.inner, .mode = mode});
}

// ---- ranges and exponents -------------------------------------------------------------------------------------------

constexpr std::int64_t range_fields = 4;

Tensor to_tensor(std::span<const pq::range> ranges) {
    Tensor rows = at::empty({static_cast<std::int64_t>(ranges.size()), range_fields}, at::kDouble);
    auto* to = rows.data_ptr<double>();
    for (const pq::range& r : ranges)
        for (const double v : {static_cast<double>(r.min), static_cast<double>(r.max), static_cast<double>(r.finite),
                               static_cast<double>(r.non_finite)})
            *to++ = v;
    return rows;
}

std::vector<pq::range> to_ranges(const Tensor& rows) {
    TORCH_CHECK(rows.dim() == 2 && rows.size(1) == range_fields, "po2quant: ranges must be [n][", range_fields, "]");
    TORCH_CHECK(rows.is_contiguous(), "po2quant: ranges must be contiguous");
    const std::span<const double> from = inputs<double>("ranges", rows);
    std::vector<pq::range> ranges;
    for (std::size_t i = 0; i < from.size(); i += range_fields)
        ranges.push_back({static_cast<float>(from[i]), static_cast<float>(from[i + 1]),
                          static_cast<std::uint64_t>(from[i + 2]), static_cast<std::uint64_t>(from[i + 3])});
    return ranges;
}

void store(const pq::ema_range& average, const Tensor& state) {
    const auto bytes = pq::serialize(average);
    const std::span<std::uint8_t> to = elements<std::uint8_t>("state", state);
    std::transform(bytes.begin(), bytes.end(), to.begin(), [](std::byte b) { return static_cast<std::uint8_t>(b); });
}

pq::ema_range load(const Tensor& state) {
    return pq::deserialize<pq::ema_range>(std::as_bytes(inputs<std::uint8_t>("state", state)));
}

}  // namespace

Tensor observe(const Tensor& input, c10::optional<std::int64_t> axis) {
    const std::span<const float> x = inputs<float>("input", input);
    if (!axis.has_value()) {
        const pq::range seen = pq::observe(x, torch_threads{});
        return to_tensor({&seen, 1});
    }
    const channels c = channels_of(input, *axis);
    std::vector<pq::range> ranges(c.count);
    pq::observe_channels(x, c.inner, ranges, torch_threads{});
    return to_tensor(ranges);
}

Tensor exponents_for(const Tensor& ranges, std::int64_t bits, bool is_signed, std::int64_t max_k) {
    const pq::integer_format format = format_of(bits, is_signed);
    const std::vector<pq::range> seen = to_ranges(ranges);
    Tensor exponents = at::empty({ranges.size(0)}, at::kInt);
    std::transform(seen.begin(), seen.end(), exponents.data_ptr<int>(), [&](const pq::range& r) {
        return pq::exponent_for(r, format, static_cast<int>(std::clamp<std::int64_t>(max_k, -256, 256)));
    });
    return exponents;
}

Tensor least_error_exponents(const Tensor& input, c10::optional<std::int64_t> axis, std::int64_t bits, bool is_signed) {
    const std::span<const float> x = inputs<float>("input", input);
    const channels c = axis.has_value() ? channels_of(input, *axis) : channels{1, input.numel()};
    const std::vector<int> chosen =
        pq::choose_exponents(x, static_cast<std::int64_t>(c.count), c.inner, {.format = format_of(bits, is_signed)},
                             {.rule = pq::exponent_rule::no_clip,
                              .search = pq::exponent_search::squared_error,
                              .candidates = pq::candidate_rule{}.count},
                             torch_threads{});
    Tensor exponents = at::empty({static_cast<std::int64_t>(c.count)}, at::kInt);
    std::copy(chosen.begin(), chosen.end(), exponents.data_ptr<int>());
    return exponents;
}

Tensor tqt_exponents(const Tensor& log2_t, std::int64_t bits, bool is_signed) {
    const pq::integer_format format = format_of(bits, is_signed);
    const std::span<const double> thresholds = inputs<double>("log2_t", log2_t);
    Tensor exponents = at::empty({log2_t.numel()}, at::kInt);
    std::transform(thresholds.begin(), thresholds.end(), exponents.data_ptr<int>(),
                   [&](double t) { return pq::tqt_threshold{.log2_t = t}.exponent(format); });
    return exponents;
}

Tensor least_weight_exponents(const Tensor& bias, std::int64_t input_exponent) {
    TORCH_CHECK(pq::min_exponent <= input_exponent && input_exponent <= pq::max_exponent,
                "po2quant: input_exponent is ", input_exponent, ", not ", pq::min_exponent, "..", pq::max_exponent);
    const std::span<const float> b = inputs<float>("bias", bias);
    Tensor exponents = at::empty({bias.numel()}, at::kInt);
    std::transform(b.begin(), b.end(), exponents.data_ptr<int>(), [&](float v) {
        return std::isfinite(v) ? pq::least_weight_exponent(v, static_cast<int>(input_exponent)) : pq::min_exponent;
    });
    return exponents;
}

// ---- moving averages ------------------------------------------------------------------------------------------------

Tensor new_ema_range(double decay, std::int64_t delay) {
    TORCH_CHECK(delay >= 0, "po2quant: delay is ", delay, ", not 0 or more");
    Tensor state = at::empty({static_cast<std::int64_t>(pq::serialized_size<pq::ema_range>)}, at::kByte);
    store({.decay = static_cast<float>(decay), .delay = static_cast<std::uint64_t>(delay)}, state);
    return state;
}

void ema_range_update(const Tensor& state, const Tensor& seen) {
    pq::ema_range average = load(state);
    for (const pq::range& r : to_ranges(seen)) average.update(r);
    store(average, state);
}

Tensor ema_range_current(const Tensor& state) {
    const pq::range now = load(state).current();
    return to_tensor({&now, 1});
}

bool ema_range_quantizing(const Tensor& state) { return load(state).quantizing(); }

// ---- passes ---------------------------------------------------------------------------------------------------------

std::tuple<Tensor, Tensor, Tensor> fake_quantize(const Tensor& input, const Tensor& exponents, std::int64_t axis,
                                                 std::int64_t bits, bool is_signed, const std::string& rounding,
                                                 const std::string& estimator, bool observing) {
    const std::span<const float> x = inputs<float>("input", input);
    Tensor output = at::empty_like(input);
    Tensor mask = at::empty({static_cast<std::int64_t>(pq::mask_bytes(x.size()))}, at::kByte);
    std::vector<pq::range> seen(observing ? static_cast<std::size_t>(exponents.numel()) : 0);
    pq::forward_outputs besides{.mask = elements<std::uint8_t>("mask", mask), .estimator = estimator_of(estimator)};
    if (seen.size() == 1) besides.seen = seen.data();
    else besides.seen_channels = seen;
    with_quantizer(input, exponents, axis, format_of(bits, is_signed), rounding, [&](const auto& q) {
        pq::fake_quantize(x, elements<float>("output", output), q, besides, torch_threads{});
    });
    return {output, mask, to_tensor(seen)};
}

Tensor fake_quantize_backward(const Tensor& mask, const Tensor& grad_output) {
    Tensor grad_input = at::empty_like(grad_output);
    pq::fake_quantize_backward(inputs<std::uint8_t>("mask", mask), inputs<float>("grad_output", grad_output),
                               elements<float>("grad_input", grad_input), torch_threads{});
    return grad_input;
}

std::tuple<Tensor, Tensor> fake_quantize_backward_threshold(const Tensor& input, const Tensor& grad_output,
                                                            const Tensor& exponents, std::int64_t axis,
                                                            std::int64_t bits, bool is_signed,
                                                            const std::string& rounding) {
    TORCH_CHECK(input.strides() == grad_output.strides(), "po2quant: grad_output does not lie in memory as input does");
    const std::span<const float> x = inputs<float>("input", input);
    const std::span<const float> dy = inputs<float>("grad_output", grad_output);
    Tensor grad_input = at::empty_like(input);
    const std::span<float> dx = elements<float>("grad_input", grad_input);
    Tensor gradients = at::empty({exponents.numel()}, at::kDouble);
    const std::span<double> sums = elements<double>("gradients", gradients);
    constexpr auto error = pq::threshold_term::error;
    with_quantizer(input, exponents, axis, format_of(bits, is_signed), rounding,
                   [&]<class Quantizer>(const Quantizer& q) {
                       if constexpr (std::is_same_v<Quantizer, pq::quantizer>)
                           sums[0] = pq::fake_quantize_backward_threshold(x, dy, dx, q, error, {}, torch_threads{});
                       else pq::fake_quantize_backward_threshold(x, dy, dx, q, error, sums, {}, torch_threads{});
                   });
    const std::span<const int> e = inputs<int>("exponents", exponents);
    std::transform(sums.begin(), sums.end(), e.begin(), sums.begin(), pq::tqt_gradient);
    return {grad_input, gradients};
}

TORCH_LIBRARY(po2quant, m) {
    m.def("observe(Tensor input, int? axis=None) -> Tensor ranges");
    m.def("exponents_for(Tensor ranges, int bits=8, bool is_signed=True, int max_k=128) -> Tensor exponents");
    m.def("least_weight_exponents(Tensor bias, int input_exponent) -> Tensor exponents");
    m.def("least_error_exponents(Tensor input, int? axis=None, int bits=8, bool is_signed=True) -> Tensor exponents");
    m.def("tqt_exponents(Tensor log2_t, int bits=8, bool is_signed=True) -> Tensor exponents");
    m.def("new_ema_range(float decay=0.999, int delay=0) -> Tensor state", &new_ema_range);
    m.def("ema_range_update(Tensor(a!) state, Tensor seen) -> ()");
    m.def("ema_range_current(Tensor state) -> Tensor ranges");
    m.def("ema_range_quantizing(Tensor state) -> bool");
    m.def(
        "fake_quantize(Tensor input, Tensor exponents, int axis=0, int bits=8, bool is_signed=True, "
        "str rounding=\"half_up\", str estimator=\"clip_code\", bool observe=False) "
        "-> (Tensor output, Tensor mask, Tensor ranges)");
    m.def("fake_quantize_backward(Tensor mask, Tensor grad_output) -> Tensor grad_input");
    m.def(
        "fake_quantize_backward_threshold(Tensor input, Tensor grad_output, Tensor exponents, int axis=0, int bits=8, "
        "bool is_signed=True, str rounding=\"half_up\") -> (Tensor grad_input, Tensor grad_log2_t)");
}

TORCH_LIBRARY_IMPL(po2quant, CPU, m) {
    m.impl("observe", &observe);
    m.impl("exponents_for", &exponents_for);
    m.impl("least_weight_exponents", &least_weight_exponents);
    m.impl("least_error_exponents", &least_error_exponents);
    m.impl("tqt_exponents", &tqt_exponents);
    m.impl("ema_range_update", &ema_range_update);
    m.impl("ema_range_current", &ema_range_current);
    m.impl("ema_range_quantizing", &ema_range_quantizing);
    m.impl("fake_quantize", &fake_quantize);
    m.impl("fake_quantize_backward", &fake_quantize_backward);
    m.impl("fake_quantize_backward_threshold", &fake_quantize_backward_threshold);
}

}  // namespace po2quant_torch::ops

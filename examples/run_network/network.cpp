#include "network.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace run_network {

namespace pq = po2quant;

double tensor::real(std::size_t i) const {
    if (type == element::float32) return static_cast<double>(as<float>()[i]);
    const double code = type == element::int8    ? as<std::int8_t>()[i]
                        : type == element::int16 ? as<std::int16_t>()[i]
                                                 : as<std::int32_t>()[i];
    return std::ldexp(code, exponent) / static_cast<double>(divisor);
}

namespace {

std::string shown(const std::vector<std::int64_t>& shape) {
    std::string text;
    for (const std::int64_t length : shape) text += (text.empty() ? "" : "x") + std::to_string(length);
    return text;
}

/// Buffers that share one block where the ops between their first and last use are others. First fit, in the order of
/// their first use.
class memory_plan {
public:
    /// An int-sized handle.
    int add(std::size_t bytes, int first, int last) {
        buffers_.push_back({bytes, first, last, 0});
        return static_cast<int>(buffers_.size()) - 1;
    }
    void use(int buffer, int op) { at(buffer).last = std::max(at(buffer).last, op); }

    /// Sets all offsets, multiples of 64; returns the bytes in all.
    std::size_t arrange() {
        std::size_t all = 0;
        std::vector<const region*> placed;
        for (region& b : buffers_) {
            std::size_t offset = 0;
            std::sort(placed.begin(), placed.end(), [](auto* x, auto* y) { return x->offset < y->offset; });
            for (const region* other : placed) {
                if (other->last < b.first || b.last < other->first) continue;
                if (offset + rounded(b.bytes) <= other->offset) break;
                offset = std::max(offset, other->offset + rounded(other->bytes));
            }
            b.offset = offset;
            placed.push_back(&b);
            all = std::max(all, offset + rounded(b.bytes));
        }
        return all;
    }
    std::size_t offset(int buffer) const { return buffers_[static_cast<std::size_t>(buffer)].offset; }

private:
    struct region {
        std::size_t bytes;
        int first;
        int last;
        std::size_t offset;
    };
    static std::size_t rounded(std::size_t bytes) { return (bytes + 63) / 64 * 64; }
    region& at(int buffer) { return buffers_[static_cast<std::size_t>(buffer)]; }

    std::vector<region> buffers_;
};

}  // namespace

/// Builds a network op by op. Steps keep addresses of buffers, which are known only when all are; so each is made from
/// a function that is called at the end.
class builder {
public:
    builder(const model& m, const pq::layer_kernels& kernels, pool_form form)
        : model_(m), kernels_(kernels), form_(form) {}

    network build() {
        tensor input{.type = model_.input_bits == 16 ? element::int16 : element::int8,
                     .shape = model_.input_shape,
                     .exponent = model_.input_exponent};
        net_.values_.reserve(model_.ops.size() + 1);  // references to values stay good
        add_value(input, plan_.add(static_cast<std::size_t>(input.elements()) * input.element_bytes(), 0, 0));
        for (std::size_t i = 0; i < model_.ops.size(); ++i) {
            op_ = &model_.ops[i];
            index_ = static_cast<int>(i) + 1;
            for (const int v : op_->inputs) plan_.use(buffer_of(v), index_);
            net_.layers_.push_back({.name = op_->name, .kind = op_->kind, .value = index_});
            try {
                add_op();
            } catch (const std::invalid_argument& error) {
                fail("", error.what());
            }
            check_shape();
        }
        for (const int output : model_.outputs) plan_.use(buffer_of(output), static_cast<int>(model_.ops.size()) + 1);
        allocate();
        return std::move(net_);
    }

private:
    [[noreturn]] void fail(const std::string& field, const std::string& what) const {
        throw bad_model(op_->where + ": " + (field.empty() ? "" : field + ": ") + what);
    }
    int buffer_of(int value) const { return buffers_[static_cast<std::size_t>(value)]; }
    const tensor& input(std::size_t i = 0) const { return net_.values_[static_cast<std::size_t>(op_->inputs[i])]; }
    layer& current() { return net_.layers_.back(); }

    void add_value(tensor t, int buffer) {
        net_.values_.push_back(std::move(t));
        buffers_.push_back(buffer);
    }
    /// The op's result, in a buffer of its own.
    int add_result(tensor t) {
        const std::size_t bytes = static_cast<std::size_t>(t.elements()) * t.element_bytes();
        const int buffer = plan_.add(bytes, index_, index_);
        add_value(std::move(t), buffer);
        return buffer;
    }
    /// Memory for the time of this op.
    int add_scratch(std::size_t bytes) { return plan_.add(bytes, index_, index_); }

    void check_shape() const {
        const auto& shape = net_.values_.back().shape;
        if (!op_->output_shape.empty() && op_->output_shape != shape)
            fail("output_shape", "is 1x" + shown(op_->output_shape) + "; the op gives 1x" + shown(shape));
    }

    /// Writable memory of a buffer, once there is some.
    template <class T>
    std::span<T> memory(int buffer, std::int64_t count) const {
        return {reinterpret_cast<T*>(net_.memory_.get() + plan_.offset(buffer)), static_cast<std::size_t>(count)};
    }
    template <class T>
    std::span<const T> codes(int value) const {
        return memory<const T>(buffer_of(value), net_.values_[static_cast<std::size_t>(value)].elements());
    }

    pq::nhwc image_shape(const tensor& t) const {
        if (t.shape.size() == 3) return {1, t.shape[0], t.shape[1], t.shape[2]};
        if (t.shape.size() == 1) return {1, 1, 1, t.shape[0]};
        fail("inputs", "'" + model_.name_of(op_->inputs[0]) + "' has the shape 1x" + shown(t.shape) +
                           "; an image, or channels alone, is needed");
    }
    void need(const tensor& t, element type, const char* what) const {
        if (t.type != type || t.divisor != 1) fail("inputs", std::string("must be ") + what);
    }

    void add_op() {
        switch (op_->kind) {
        case op_kind::conv2d:
        case op_kind::depthwise_conv2d: return add_convolution();
        case op_kind::avg_pool2d: return add_average_pool();
        case op_kind::max_pool2d: return add_max_pool();
        case op_kind::reshape: return add_reshape();
        case op_kind::concat: return add_concat();
        case op_kind::add: return add_sum();
        case op_kind::sigmoid: return add_sigmoid();
        }
    }

    // ---- convolutions ----

    /// A float bias, times the divisor of the input, on the accumulator's grid, floored: exact behind a rounding half
    /// up.
    layer_bias floored_bias(int accumulator_exponent, std::int64_t divisor) const {
        layer_bias b{{}, {}, accumulator_exponent, divisor};
        for (const float v : op_->float_bias) {
            const double code =
                std::floor(std::ldexp(static_cast<double>(v) * static_cast<double>(divisor), -accumulator_exponent));
            if (!(std::abs(code) < 2147483648.0)) fail("bias", "does not fit 32 bits of the accumulator's exponent");
            b.i32.push_back(static_cast<std::int32_t>(code));
        }
        return b;
    }

    void add_convolution() {
        const tensor& in = input();
        if (in.type != element::int8 && in.type != element::int16) fail("inputs", "must be int8 or int16 codes");
        const pq::nhwc shape = image_shape(in);
        const std::int64_t inputs = op_->weight_shape[2];
        if (shape.channels != inputs)
            fail("cin",
                 "is " + std::to_string(inputs) + "; the input has " + std::to_string(shape.channels) + " channels");
        current().input_exponent = in.exponent;
        current().weight_exponents = op_->weight_exponents;
        const layer_bias b = bias_of(in);
        check_plan(in);

        const int bias_exponents[] = {b.exponent};
        const pq::requantization q{.input_exponent = in.exponent,
                                   .weight_exponents = op_->weight_exponents,
                                   .bias_exponents = bias_exponents,
                                   .output_exponent = op_->output_exponent.value_or(0),
                                   .clamp = op_->clamp,
                                   .input_format = format_of(in)};
        const pq::bias_codes codes_of_bias = !b.i16.empty()   ? pq::bias_codes(b.i16)
                                             : !b.i32.empty() ? pq::bias_codes(b.i32)
                                                              : pq::bias_codes();
        // Sums that are divided or kept have their bias added with its fraction.
        const bool apart = in.divisor != 1 || !op_->output_exponent;
        const pq::bias_codes folded = apart ? pq::bias_codes() : codes_of_bias;
        if (op_->kind == op_kind::depthwise_conv2d) {
            if (in.type != element::int8 || in.divisor != 1) fail("inputs", "must be int8 codes");
            const auto layer = std::make_shared<pq::depthwise_conv2d>(
                pq::depthwise_conv2d_shape{.input = shape, .window = op_->window}, op_->weights, folded, q,
                pq::weight_layout::hwio, kernels_.depthwise_conv2d);
            finish(layer, b, 1);
        } else {
            const auto layer = std::make_shared<pq::conv2d>(
                pq::conv2d_shape{.input = shape, .outputs = op_->outputs, .window = op_->window}, op_->weights, folded,
                q, pq::weight_layout::hwio, kernels_.conv2d);
            if (in.divisor != 1) finish_divided(layer, b);
            else finish(layer, b, inputs);
        }
    }

    template <class Layer>
    void finish(const std::shared_ptr<Layer>& layer, const layer_bias& b, std::int64_t inputs) {
        if (op_->output_exponent) finish_convolution(layer, layer->output(), inputs);
        else finish_sums(layer, b, inputs);
    }
    int weight_exponent() const {
        if (op_->weight_exponents.size() != 1) fail("weights: exponent", "is a list; here one number is needed");
        return op_->weight_exponents[0];
    }

    layer_bias bias_of(const tensor& in) const {
        if (op_->own_bias) return *op_->own_bias;
        const written_plan& plan = plan_of(in);
        // Sums of a pool lie on a finer grid than the plan's, which would have rounded too much of the bias away.
        const bool finer = in.pooled && form_ == pool_form::exact && !op_->float_bias.empty();
        if (plan.bias && !finer) return *plan.bias;
        if (!op_->float_bias.empty()) return floored_bias(in.exponent + weight_exponent(), in.divisor);
        return {};
    }
    const written_plan& plan_of(const tensor& in) const {
        if (op_->plan.accumulator_exponent) return op_->plan;
        return in.pooled && form_ == pool_form::int16 ? op_->behind_int16 : op_->behind_int8;
    }

    /// Refuses a file that says something else than its exponents do. Sums of a pool have a grid of their own.
    void check_plan(const tensor& in) const {
        if (in.pooled && form_ == pool_form::exact) return;
        if (op_->inputs[0] == 0 && model_.input_bits == 16) return;  // the plan is that of int8 inputs
        const written_plan& plan = plan_of(in);
        if (!plan.accumulator_exponent && !plan.shift) return;
        const int accumulator_exponent = in.exponent + weight_exponent();
        if (plan.accumulator_exponent && *plan.accumulator_exponent != accumulator_exponent)
            fail("integer: acc_exponent", "is " + std::to_string(*plan.accumulator_exponent) +
                                              "; the exponents of input and weights give " +
                                              std::to_string(accumulator_exponent));
        const int shift = op_->output_exponent.value_or(accumulator_exponent) - accumulator_exponent;
        if (plan.shift && *plan.shift != shift)
            fail("integer: requant_shift",
                 "is " + std::to_string(*plan.shift) + "; the exponents give " + std::to_string(shift));
    }

    /// What codes a value has, as narrowly as is known: narrower makes faster kernels and smaller certificates.
    pq::integer_format format_of(const tensor& t) const {
        if (t.type == element::int8) return t.never_negative ? pq::uint7 : pq::int8;
        if (!t.never_negative) return pq::int16;
        return {.bits = std::max<int>(8, std::bit_width(static_cast<std::uint64_t>(t.largest))), .is_signed = false};
    }

    template <class Layer>
    void finish_convolution(const std::shared_ptr<Layer>& layer, const pq::nhwc& out, std::int64_t inputs) {
        current().proof = layer->certificate();
        current().multiply_accumulates = out.elements() * inputs * op_->window.kernel.height * op_->window.kernel.width;
        const bool wide = input().type == element::int16;
        const int from = op_->inputs[0];
        const int to = add_result({.type = element::int8,
                                   .shape = result_shape(out),
                                   .exponent = *op_->output_exponent,
                                   .never_negative = op_->clamp != pq::activation::none});
        add_step([=, this] {
            const auto output = memory<std::int8_t>(to, out.elements());
            return [=, from8 = codes<std::int8_t>(from),
                    from16 = wide ? codes<std::int16_t>(from) : std::span<const std::int16_t>()](const executor& e) {
                if constexpr (std::is_same_v<Layer, pq::conv2d>) {
                    if (wide) return layer->run(from16, output, e);
                }
                layer->run(from8, output, e);
            };
        });
    }

    /// The sums themselves, as floats: the exact sum and bias, rounded once.
    template <class Layer>
    void finish_sums(const std::shared_ptr<Layer>& layer, const layer_bias& b, std::int64_t inputs) {
        const pq::nhwc out = layer->output();
        current().proof = layer->certificate();
        current().multiply_accumulates = out.elements() * inputs * op_->window.kernel.height * op_->window.kernel.width;
        std::vector<double> scale;
        std::vector<double> addend;
        for (std::size_t o = 0; o < static_cast<std::size_t>(op_->outputs); ++o) {
            scale.push_back(
                std::ldexp(1.0, input().exponent + op_->weight_exponents[op_->weight_exponents.size() == 1 ? 0 : o]));
            const double code = !b.i16.empty() ? b.i16[o] : !b.i32.empty() ? b.i32[o] : 0;
            const bool floats = !op_->own_bias && !op_->float_bias.empty();
            addend.push_back(floats ? op_->float_bias[o] : std::ldexp(code, b.exponent));
        }
        const bool wide = input().type == element::int16;
        const int from = op_->inputs[0];
        const int scratch = add_scratch(4 * static_cast<std::size_t>(out.elements()));
        const int to = add_result({.type = element::float32, .shape = result_shape(out)});
        add_step([=, this] {
            const auto sums = memory<std::int32_t>(scratch, out.elements());
            const auto output = memory<float>(to, out.elements());
            const auto from8 = codes<std::int8_t>(from);
            const auto from16 = wide ? codes<std::int16_t>(from) : std::span<const std::int16_t>();
            return [=](const executor& e) {
                if constexpr (std::is_same_v<Layer, pq::conv2d>) {
                    if (wide) layer->accumulate(from16, sums, e);
                    else layer->accumulate(from8, sums, e);
                } else {
                    layer->accumulate(from8, sums, e);
                }
                for (std::size_t i = 0; i < sums.size(); ++i)
                    output[i] = static_cast<float>(sums[i] * scale[i % scale.size()] + addend[i % addend.size()]);
            };
        });
    }

    /// Behind sums of `divisor` codes each: y = floor((2 (acc + divisor b) + divisor 2^s) / (2 divisor 2^s)).
    void finish_divided(const std::shared_ptr<pq::conv2d>& layer, const layer_bias& b) {
        if (!op_->output_exponent) fail("output_exponent", "is missing, behind an average pool that is not rounded");
        const int shift = *op_->output_exponent - input().exponent - weight_exponent();
        // From 1 on, a fraction of a bias may be dropped.
        if (shift < 1 || shift > 31)
            fail("output_exponent",
                 "asks for a shift of " + std::to_string(shift) + "; behind an average pool 1..31 are allowed");
        const pq::nhwc out = layer->output();
        const std::int64_t divisor = input().divisor;
        current().proof = layer->certificate();
        current().multiply_accumulates =
            out.elements() * op_->weight_shape[2] * op_->window.kernel.height * op_->window.kernel.width;
        std::vector<std::int64_t> offsets(static_cast<std::size_t>(op_->outputs), 0);
        const int up = b.exponent - (input().exponent + weight_exponent());
        if (up > 16) fail("bias", "has an exponent " + std::to_string(up) + " above the accumulator's; allowed: 16");
        const auto code = [&](std::size_t o) -> std::int64_t { return b.i16.empty() ? b.i32[o] : b.i16[o]; };
        for (std::size_t o = 0; o < offsets.size() && !(b.i16.empty() && b.i32.empty()); ++o)
            offsets[o] =
                up >= 0 ? divisor / b.divisor * code(o) << up : divisor / b.divisor * code(o) >> std::min(62, -up);
        const auto range = pq::clamp_range(op_->clamp, pq::int8, *op_->output_exponent, pq::rounding::half_up);
        const int from = op_->inputs[0];
        const int scratch = add_scratch(4 * static_cast<std::size_t>(out.elements()));
        const int to = add_result({.type = element::int8,
                                   .shape = result_shape(out),
                                   .exponent = *op_->output_exponent,
                                   .never_negative = op_->clamp != pq::activation::none});
        add_step([=, this] {
            const auto sums = memory<std::int32_t>(scratch, out.elements());
            const auto output = memory<std::int8_t>(to, out.elements());
            return [=, from16 = codes<std::int16_t>(from)](const executor& e) {
                layer->accumulate(from16, sums, e);
                for (std::size_t i = 0; i < sums.size(); ++i)
                    output[i] = static_cast<std::int8_t>(std::clamp<std::int64_t>(
                        pq::rounded_mean(sums[i] + offsets[i % offsets.size()], divisor << shift, 0), range.low,
                        range.high));
            };
        });
    }

    std::vector<std::int64_t> result_shape(const pq::nhwc& out) const {
        if (input().shape.size() == 1) return {out.channels};
        return {out.height, out.width, out.channels};
    }

    // ---- pools ----

    /// Whether all that read the op's result, through reshapes, are convolutions: those take sums.
    bool only_convolutions_read(int value) const {
        for (std::size_t i = 0; i < model_.ops.size(); ++i)
            for (const int v : model_.ops[i].inputs) {
                if (v != value) continue;
                const bool fine =
                    model_.ops[i].kind == op_kind::conv2d ||
                    (model_.ops[i].kind == op_kind::reshape && only_convolutions_read(static_cast<int>(i) + 1));
                if (!fine) return false;
            }
        return std::find(model_.outputs.begin(), model_.outputs.end(), value) == model_.outputs.end();
    }

    void add_average_pool() {
        const tensor& in = input();
        need(in, element::int8, "int8 codes");
        const pq::pool_shape shape{image_shape(in), op_->window};
        const pq::nhwc out = shape.output();
        const std::int64_t area = op_->window.kernel.height * op_->window.kernel.width;
        const auto padding = op_->window.padding;
        const bool same_area = padding.top + padding.bottom + padding.left + padding.right == 0;
        const int from = op_->inputs[0];
        tensor t{.shape = result_shape(out), .exponent = in.exponent, .never_negative = in.never_negative};
        const std::int64_t n = out.elements();

        if (op_->output_exponent && *op_->output_exponent != in.exponent) {
            // Quantized in the graph: the rounded quotient on the grid asked for.
            if (!same_area) fail("pad", "is not 0, and output_exponent differs from the input's");
            const int shift = *op_->output_exponent - in.exponent;
            if (shift < -22 || shift > 22)
                fail("output_exponent", "is " + std::to_string(shift) + " away from the input's; allowed: 22");
            t.exponent = *op_->output_exponent;
            current().form = "int8";
            const int scratch = add_scratch(4 * static_cast<std::size_t>(n));
            const int to = add_result(std::move(t));
            add_step([=, this] {
                const auto sums = memory<std::int32_t>(scratch, n);
                const auto means = memory<std::int8_t>(to, n);
                return [=, table = &kernels_.pool, input = codes<std::int8_t>(from)](const executor& e) {
                    pq::average_pool(shape, input, sums, e, *table);
                    const std::int64_t up = std::int64_t{1} << std::max(0, -shift);
                    const std::int64_t divisor = area << std::max(0, shift);
                    for (std::size_t i = 0; i < sums.size(); ++i)
                        means[i] = static_cast<std::int8_t>(
                            std::clamp<std::int64_t>(pq::rounded_mean(sums[i] * up, divisor, 0), -128, 127));
                };
            });
            return;
        }
        const bool unrounded = !op_->output_exponent && only_convolutions_read(index_);
        const bool fits = area * (in.never_negative ? 127 : 128) <= 32767;
        if (unrounded && form_ == pool_form::exact && same_area && fits) {
            // A power of two divides by its exponent.
            const bool power = std::has_single_bit(static_cast<std::uint64_t>(area));
            t.type = element::int16;
            t.exponent -= power ? std::countr_zero(static_cast<std::uint64_t>(area)) : 0;
            t.divisor = power ? 1 : area;
            t.pooled = true;
            current().form = "exact";
            t.largest = 127 * area;
            const int scratch = add_scratch(4 * static_cast<std::size_t>(n));
            const int to = add_result(std::move(t));
            add_step([=, this] {
                const auto sums = memory<std::int32_t>(scratch, n);
                const auto narrow = memory<std::int16_t>(to, n);
                return [=, table = &kernels_.pool, input = codes<std::int8_t>(from)](const executor& e) {
                    pq::average_pool(shape, input, sums, e, *table);
                    std::transform(sums.begin(), sums.end(), narrow.begin(),
                                   [](std::int32_t s) { return static_cast<std::int16_t>(s); });
                };
            });
        } else if (unrounded && form_ != pool_form::int8) {
            t.type = element::int16;
            t.exponent -= 8;
            t.largest = 127 * 256;
            t.pooled = true;
            current().form = "int16";
            add_means<std::int16_t>(shape, std::move(t));
        } else {
            current().form = "int8";
            add_means<std::int8_t>(shape, std::move(t));
        }
    }

    /// A mean as average_pool rounds it.
    template <class Code>
    void add_means(const pq::pool_shape& shape, tensor t) {
        const int from = op_->inputs[0];
        const std::int64_t n = t.elements();
        const int to = add_result(std::move(t));
        add_step([=, this] {
            const auto means = memory<Code>(to, n);
            return [=, table = &kernels_.pool, input = codes<std::int8_t>(from)](const executor& e) {
                pq::average_pool(shape, input, means, e, *table);
            };
        });
    }

    void add_max_pool() {
        const tensor& in = input();
        need(in, element::int8, "int8 codes");
        check_exponent(in.exponent);
        const pq::pool_shape shape{image_shape(in), op_->window};
        const pq::nhwc out = shape.output();
        const int from = op_->inputs[0];
        const int to =
            add_result({.shape = result_shape(out), .exponent = in.exponent, .never_negative = in.never_negative});
        add_step([=, this] {
            const auto output = memory<std::int8_t>(to, out.elements());
            return [=, table = &kernels_.pool, input = codes<std::int8_t>(from)](const executor& e) {
                pq::max_pool(shape, input, output, e, *table);
            };
        });
    }

    /// Ops that pass codes on keep their exponent.
    void check_exponent(int exponent) const {
        if (op_->output_exponent && *op_->output_exponent != exponent)
            fail("output_exponent", "is " + std::to_string(*op_->output_exponent) +
                                        "; the codes that it passes on have " + std::to_string(exponent));
    }

    // ---- around them ----

    void add_reshape() {
        tensor t = input();
        std::int64_t n = 1;
        for (const std::int64_t length : op_->output_shape) n *= length;
        if (n != t.elements())
            fail("output_shape", "1x" + shown(op_->output_shape) + " has " + std::to_string(n) +
                                     " elements; the input has " + std::to_string(t.elements()));
        if (t.divisor == 1 && t.type == element::int8) check_exponent(t.exponent);
        t.shape = op_->output_shape;
        add_value(std::move(t), buffer_of(op_->inputs[0]));
        net_.steps_.emplace_back();
        make_.emplace_back();
    }

    /// Along one axis: what stands before it are pixels, what it and the rest span are channels.
    void add_concat() {
        const auto axis = static_cast<std::size_t>(op_->axis) - 1;
        tensor t = input();
        std::int64_t length = 0;
        bool differ = false;
        t.never_negative = true;
        t.largest = 32767;
        for (std::size_t i = 0; i < op_->inputs.size(); ++i) {
            const tensor& part = input(i);
            need(part, element::int8, "int8 codes");
            if (axis >= part.shape.size() || part.shape.size() != t.shape.size())
                fail("inputs", "'" + model_.name_of(op_->inputs[i]) + "' has the shape 1x" + shown(part.shape) +
                                   "; the axis is " + std::to_string(op_->axis));
            for (std::size_t d = 0; d < t.shape.size(); ++d)
                if (d != axis && part.shape[d] != t.shape[d])
                    fail("inputs", "'" + model_.name_of(op_->inputs[i]) + "' has the shape 1x" + shown(part.shape) +
                                       "; the first has 1x" + shown(input().shape));
            length += part.shape[axis];
            differ = differ || part.exponent != t.exponent;
            t.exponent = std::min(t.exponent, part.exponent);
            t.never_negative = t.never_negative && part.never_negative;
        }
        t.shape[axis] = length;
        if (op_->output_exponent) t.exponent = *op_->output_exponent;
        else if (differ) t.type = element::int16;  // nothing is lost there
        std::int64_t pixels = 1;
        for (std::size_t d = 0; d < axis; ++d) pixels *= t.shape[d];
        std::vector<std::pair<int, pq::concat_part<std::int8_t>>> parts;
        for (std::size_t i = 0; i < op_->inputs.size(); ++i) {
            const tensor& part = input(i);
            if (!op_->output_exponent && part.exponent - t.exponent > 8)
                fail("inputs", "have exponents " + std::to_string(part.exponent - t.exponent) +
                                   " apart; without an output_exponent 8 are allowed");
            parts.push_back({op_->inputs[i], {{}, part.elements() / pixels, part.exponent}});
        }
        const pq::concat_options options{.output_exponent = t.exponent};
        const bool wide = t.type == element::int16;
        const std::int64_t n = t.elements();
        const int to = add_result(std::move(t));
        add_step([=, this] {
            std::vector<pq::concat_part<std::int8_t>> filled;
            for (auto [value, part] : parts) {
                part.codes = codes<std::int8_t>(value);
                filled.push_back(part);
            }
            const auto narrow_output = memory<std::int8_t>(to, n);
            const auto wide_output = memory<std::int16_t>(to, wide ? n : 0);
            return [=, table = &kernels_.rescale](const executor& e) {
                const std::span<const pq::concat_part<std::int8_t>> all(filled);
                if (wide) pq::concat(all, pixels, wide_output, options, e, *table);
                else pq::concat(all, pixels, narrow_output, options, e, *table);
            };
        });
    }

    void add_sum() {
        const tensor& a = input(0);
        const tensor& b = input(1);
        need(a, element::int8, "int8 codes");
        need(b, element::int8, "int8 codes");
        if (a.shape != b.shape) fail("inputs", "have the shapes 1x" + shown(a.shape) + " and 1x" + shown(b.shape));
        const pq::add_quantization q{.a_exponent = a.exponent,
                                     .b_exponent = b.exponent,
                                     .output_exponent = *op_->output_exponent,
                                     .clamp = op_->clamp};
        const int from[] = {op_->inputs[0], op_->inputs[1]};
        const std::int64_t n = a.elements();
        const int to = add_result(
            {.shape = a.shape, .exponent = q.output_exponent, .never_negative = op_->clamp != pq::activation::none});
        add_step([=, a_value = from[0], b_value = from[1], this] {
            const auto output = memory<std::int8_t>(to, n);
            return [=, table = &kernels_.rescale, x = codes<std::int8_t>(a_value),
                    y = codes<std::int8_t>(b_value)](const executor& e) { pq::add(x, y, output, q, e, *table); };
        });
    }

    void add_sigmoid() {
        const tensor in = input();
        const int from = op_->inputs[0];
        const std::int64_t n = in.elements();
        const int to = add_result({.type = element::float32, .shape = in.shape});
        add_step([=, this] {
            tensor x = in;
            x.data = net_.memory_.get() + plan_.offset(buffer_of(from));
            return [x, output = memory<float>(to, n)](const executor&) {
                for (std::size_t i = 0; i < output.size(); ++i)
                    output[i] = static_cast<float>(1 / (1 + std::exp(-x.real(i))));
            };
        });
    }

    // ---- memory ----

    template <class Make>
    void add_step(Make make) {
        net_.steps_.emplace_back();
        make_.push_back([make]() -> std::function<void(const executor&)> { return make(); });
    }

    void allocate() {
        net_.bytes_ = plan_.arrange();
        // Kernels never read past a tensor; whole lines, so that none is shared with other memory.
        void* block = std::aligned_alloc(64, std::max<std::size_t>(64, net_.bytes_));
        if (block == nullptr) throw std::bad_alloc();
        net_.memory_.reset(static_cast<std::byte*>(block));
        std::memset(block, 0, net_.bytes_);
        for (std::size_t v = 0; v < net_.values_.size(); ++v) {
            net_.offsets_.push_back(plan_.offset(buffers_[v]));
            net_.values_[v].data = net_.memory_.get() + net_.offsets_.back();
        }
        for (std::size_t i = 0; i < make_.size(); ++i)
            if (make_[i]) net_.steps_[i] = make_[i]();
    }

    const model& model_;
    const pq::layer_kernels& kernels_;
    pool_form form_;
    network net_;
    memory_plan plan_;
    std::vector<int> buffers_;  // of values
    std::vector<std::function<std::function<void(const executor&)>()>> make_;
    const op* op_ = nullptr;
    int index_ = 0;
};

network::network(const model& m, const pq::layer_kernels& kernels, pool_form form)
    : network(builder(m, kernels, form).build()) {}

}  // namespace run_network

#pragma once
/// The forward pass of fake-quantized convolutions, computed by integers: floats in, int8 products, floats out.
///
///   y(p, o) = Σ_t Σ_c  fake_quantize(x(p, t, c), q_x) * fake_quantize(w(t, c, o), q_w)  +  bias[o]
/// of finite numbers, rounded to float32 once, ties to even. Products are 2^(e_x + e_w) times products of codes, which
/// int32 sums without loss. Where the certificate says float32_exact, any float32 convolution of the two fake-quantized
/// tensors gives the same bits, in whatever order it sums, if it begins with +0 or the bias: a sum of 0 is +0 here.
/// Where it does not, float32 may round on the way, and this does not.
///
/// A training step quantizes and packs its weights once, then multiplies a batch with them; buffers are kept from step
/// to step. NaN counts as code 0, as in quantize: what fake_quantize would let through is not seen here, nor by the
/// certificate. A loop that may diverge looks at `range::non_finite` of the range it tracks.
#include <algorithm>
#include <bit>
#include <cmath>
#include <span>
#include <vector>

#include <po2quant/inference/conv2d_plan.hpp>
#include <po2quant/inference/depthwise_plan.hpp>
#include <po2quant/training/quantize.hpp>
#include <po2quant/training/streaming.hpp>

namespace po2quant {

namespace detail {

/// A finite float as code * 2^exponent, the code odd or 0.
struct odd_code {
    std::int32_t code;
    int exponent;
};
constexpr odd_code as_odd_code(float v) {
    const auto bits = std::bit_cast<std::uint32_t>(v);
    const auto biased = static_cast<int>(bits >> 23 & 0xffU);
    const std::uint32_t mantissa = (bits & 0x7fffffU) | (biased != 0 ? 0x800000U : 0U);
    if (mantissa == 0) return {0, 0};
    const int zeros = std::countr_zero(mantissa);
    const auto code = static_cast<std::int32_t>(mantissa >> zeros);
    return {v < 0 ? -code : code, (biased != 0 ? biased : 1) - 150 + zeros};
}

/// What differs between standard and depthwise convolutions.
struct conv2d_forward {
    using shape = conv2d_shape;
    using table = kernels::conv2d_table;
    static constexpr const char* name = "integer_forward_conv2d";
    static constexpr int input_bits = 16;

    conv2d_plan plan;
    packed_conv2d_weights packed;

    conv2d_forward(const shape& s, integer_format input, const table& t)
        : plan(s, input, t), packed(allocate_weights(s, plan.packing())) {}

    static void check(const shape& s) { check_conv2d_shape(name, s); }
    static std::int64_t outputs(const shape& s) { return s.outputs; }
    static std::int64_t block_channels(const shape& s) { return s.outputs / s.groups; }
    static std::int64_t inputs(const shape& s) { return s.group_inputs(); }
    const std::int32_t* offset_sums() const { return packed.tap_sums.data(); }
    template <class Executor>
    void pack(const std::int8_t* hwio, const Executor& executor) {
        executor.parallel_for(static_cast<std::int64_t>(packed.blocks.size()), [&](std::int64_t block) {
            pack_block(plan.shape(), plan.table(), packed.blocks[static_cast<std::size_t>(block)], hwio, packed);
        });
    }
    /// Codes as run takes them: offset, where the dot products want that, so that no kernel has to.
    void prepare(std::int8_t* codes, std::size_t count) const {
        plan.prepare_pixels(codes, static_cast<std::int64_t>(count));
    }
    void prepare(std::int16_t*, std::size_t) const {}
    template <class Executor>
    void run(const kernels::requantize_block& q, const std::int32_t* bias, const std::int8_t* codes, float* output,
             const Executor& executor) const {
        plan.run_prepared({packed.weights.data(), bias, q}, codes, output, executor);
    }
    template <class Executor>
    void run(const kernels::requantize_block& q, const std::int32_t* bias, const std::int16_t* codes, float* output,
             const Executor& executor) const {
        plan.run(plan.table().i16, {packed.weights.data(), bias, q}, codes, output, executor,
                 [](const auto&, const conv2d_block&) {});
    }
};

struct depthwise_forward {
    using shape = depthwise_conv2d_shape;
    using table = kernels::depthwise_table;
    static constexpr const char* name = "integer_forward_depthwise_conv2d";
    static constexpr int input_bits = 8;

    depthwise_plan plan;
    packed_depthwise_weights packed;

    depthwise_forward(const shape& s, integer_format input, const table& t)
        : plan(s, input, t), packed(allocate_weights(s, plan.packing())) {}

    static void check(const shape& s) { check_depthwise_shape(name, s); }
    static std::int64_t outputs(const shape& s) { return s.outputs(); }
    static std::int64_t block_channels(const shape& s) { return s.outputs(); }
    static std::int64_t inputs(const shape&) { return 1; }
    const std::int32_t* offset_sums() const { return packed.row_sums.data(); }
    template <class Executor>
    void pack(const std::int8_t* hwio, const Executor&) {
        pack_weights(plan.shape(), plan.table(), hwio, packed);
    }
    template <class Code>
    void prepare(Code*, std::size_t) const {}
    template <class Executor>
    void run(const kernels::requantize_block& q, const std::int32_t* bias, const std::int8_t* codes, float* output,
             const Executor& executor) const {
        plan.run({packed.weights.data(), bias, q}, codes, output, executor);
    }
};

/// As many images of a batch as leave their codes in L2, a divisor of it: at least one.
template <class Shape>
Shape part_of_batch(Shape shape) {
    constexpr std::int64_t most = std::int64_t{1} << 20;
    const std::int64_t image = shape.input.height * shape.input.width * shape.input.channels;
    const std::int64_t batch = shape.input.batch;
    std::int64_t part = std::clamp<std::int64_t>(most / image, 1, batch);
    while (batch % part != 0) --part;
    shape.input.batch = part;
    return shape;
}

/// integer_forward_conv2d and integer_forward_depthwise_conv2d.
template <class Layer>
class integer_forward {
public:
    using shape_type = typename Layer::shape;

    integer_forward(const shape_type& shape, integer_format input_format, weight_layout layout,
                    const typename Layer::table& table, const kernels::quantize_table& quantize)
        : shape_(checked(shape, input_format, layout)),
          input_format_(input_format),
          layout_(layout),
          quantize_(&quantize),
          layer_(part_of_batch(shape), input_format, table),
          wide_(input_format.signed_bits() > 8) {
        const auto lanes = static_cast<std::size_t>(layer_.packed.lane_count);
        const auto codes = static_cast<std::size_t>(layer_.plan.shape().input.elements());
        codes8_.resize(wide_ ? 0 : codes);
        codes16_.resize(wide_ ? codes : 0);
        weights_.resize(static_cast<std::size_t>(shape.weights()));
        hwio_.resize(layout == weight_layout::hwio ? 0 : weights_.size());
        lane_bias_.resize(lanes);
        exponent_.resize(lanes);
        scale_.resize(lanes);
        addend_.resize(lanes);
        bias_.resize(static_cast<std::size_t>(layer_.plan.bias_size()));
    }

    /// One forward pass: input NHWC floats by `input_q`, whose format is the constructor's; weights in the
    /// constructor's layout by `weight_q`, of at most 8 signed bits, with one exponent or one per output channel
    /// (`inner` as that layout has it: 1 for hwio, else the weights of one output); `bias` one float per output
    /// channel, on whatever grid, or empty; output NHWC floats of output(). Returns the certificate of this pass. Not
    /// for several threads at once: buffers are the object's.
    ///
    /// Throws std::invalid_argument, before anything is written to `output`, for a size, format or exponent out of
    /// range, spans that overlap the output, a bias that is not finite, and where int32 sums could overflow.
    template <executor Executor = serial_executor>
    const po2quant::certificate& run(std::span<const float> input, const quantizer& input_q,
                                     std::span<const float> weights, const channel_quantizer& weight_q,
                                     std::span<const float> bias, std::span<float> output,
                                     const Executor& executor = {}) {
        check_arguments(input, input_q, weights, weight_q, bias, output);
        take_weights(weights, weight_q, executor);
        take_bias(input_q.exponent, weight_q.exponents, bias);
        if (wide_) run_parts(codes16_.data(), input, input_q, output, executor);
        else run_parts(codes8_.data(), input, input_q, output, executor);
        return proof_;
    }

    const shape_type& shape() const { return shape_; }
    nhwc output() const { return shape_.output(); }
    /// Of the last run that was not refused: magnitudes are those of int32 sums of products, with the bias where it is
    /// on their grid; float32_exact says whether a float32 convolution of the fake-quantized tensors, bias added in
    /// float32, is exact.
    const po2quant::certificate& certificate() const { return proof_; }
    /// The instruction set whose kernels run.
    const char* arch() const { return layer_.plan.table().arch; }

private:
    static constexpr const char* name = Layer::name;

    static const shape_type& checked(const shape_type& shape, integer_format input_format, weight_layout layout) {
        Layer::check(shape);
        check_layout(name, layout);
        check_code_format(name, "input_format", input_format, Layer::input_bits);
        return shape;
    }

    void check_arguments(std::span<const float> input, const quantizer& input_q, std::span<const float> weights,
                         const channel_quantizer& weight_q, std::span<const float> bias,
                         std::span<const float> output) const {
        const auto size = [](std::int64_t n) { return static_cast<std::uint64_t>(n); };
        check_quantizer(name, input_q, input.size());
        if (input_q.format != input_format_) {
            const auto format = [](integer_format f) { return text(f.qmin(), "..", f.qmax()); };
            fail(name, "input_q.format", format(input_q.format), text("the constructor's, ", format(input_format_)));
        }
        check_span(name, "input", input, size(shape_.input.elements()));
        check_span(name, "weights", weights, size(shape_.weights()));
        const std::int64_t outputs = Layer::outputs(shape_);
        check_exponents(name, "weight_q.exponents", weight_q.exponents, outputs);
        const std::int64_t inner = layout_ == weight_layout::hwio ? 1 : shape_.weights() / outputs;
        if (weight_q.exponents.size() != 1) check_range(name, "weight_q.inner", weight_q.inner, inner, inner);
        check_format(name, weight_q.format);
        check_code_format(name, "weight_q.format", weight_q.format, 8);
        check_rounding(name, weight_q.mode);
        if (!bias.empty()) check_span(name, "bias", bias, size(outputs));
        for (std::size_t o = 0; o < bias.size(); ++o)
            if (!std::isfinite(bias[o])) fail(name, text("bias[", o, "]"), std::to_string(bias[o]), "finite numbers");
        check_span(name, "output", output, size(shape_.output().elements()));
        check_overlap(name, "output", output, input, false);
        check_overlap(name, "output", output, weights, false);
        check_overlap(name, "output", output, bias, false);
    }

    template <class Executor>
    void take_weights(std::span<const float> weights, const channel_quantizer& q, const Executor& executor) {
        channel_quantizer per_tensor = q;
        per_tensor.inner = static_cast<std::int64_t>(weights.size());
        const channel_quantizer& by = q.exponents.size() == 1 ? per_tensor : q;
        executor.parallel_for(task_count(weights.size()), [&](std::int64_t task) {
            const element_range part = task_range(task, weights.size());
            quantize_part(*quantize_, weights, weights_.data() + part.begin, part, by);
        });
        layer_.pack(weights_as_hwio(layer_.plan.table().pack, Layer::outputs(shape_), Layer::inputs(shape_),
                                    shape_.window.kernel, layout_, weights_.data(), hwio_.data()),
                    executor);
    }

    /// Certificate, and how sums become floats. A bias on the grid of the sums is one of their terms; any other is
    /// added to the scaled sum, which then has to be exact for the addition to be the only rounding.
    void take_bias(int input_exponent, std::span<const int> weight_exponents, std::span<const float> bias) {
        std::vector<std::int64_t> magnitude = std::move(proof_.magnitude);
        std::vector<bool> exact = std::move(proof_.channel_float32_exact);
        magnitude.clear();
        exact.clear();
        proof_ = {};  // but for the memory of its vectors
        proof_.magnitude = std::move(magnitude);
        proof_.channel_float32_exact = std::move(exact);
        const auto outputs = static_cast<std::size_t>(Layer::outputs(shape_));
        channel_bias_.assign(outputs, 0);
        kind_ = kernels::epilogue::floats;
        for (std::size_t o = 0; o < outputs; ++o) {
            channel_proof channel{.products = layer_.packed.sums[o].bounds(input_format_)};
            channel.accumulator_exponent = input_exponent + per_channel(weight_exponents, o);
            const float b = bias.empty() ? 0.0F : bias[o];
            const odd_code code = as_odd_code(b);
            channel.has_bias = code.code != 0;
            channel.bias = code.code;
            channel.bias_exponent = code.exponent;
            accumulator_bounds sums = channel.products;
            const std::int64_t aligned = aligned_bias(channel);
            const bool inside = finer_bits(channel) == 0 && -max_sum <= aligned + std::min<std::int64_t>(0, sums.low) &&
                                aligned + std::max<std::int64_t>(0, sums.high) <= max_sum;
            if (inside) {
                sums.low += std::min<std::int64_t>(0, aligned);
                sums.high += std::max<std::int64_t>(0, aligned);
                channel_bias_[o] = static_cast<std::int32_t>(aligned);
            }
            add_channel(proof_, sums.magnitude(), float32_sums_are_exact(channel));
            if (!proof_.int32_safe)
                fail(name, text("the worst sum of output channel ", o), std::to_string(sums.magnitude()),
                     "below 2^31: use narrower formats or fewer inputs");
            // float(sum) and its product with 2^e are exact, or rounded with nothing added to them.
            const int e = channel.accumulator_exponent;
            if (e < -126 || e > 96 || (!inside && sums.magnitude() >= std::int64_t{1} << 24))
                kind_ = kernels::epilogue::wide_floats;
        }
        layer_.plan.for_each_lane([&](std::size_t o, std::size_t lane) {
            const bool apart = channel_bias_[o] == 0 && !bias.empty();
            exponent_[lane] = input_exponent + per_channel(weight_exponents, o);
            scale_[lane] = exp2_float(std::clamp(exponent_[lane], -126, 127));  // read where it is not clamped
            addend_[lane] = apart ? bias[o] + 0.0F : 0.0F;                      // −0 is no addend
            lane_bias_[lane] = channel_bias_[o];
        });
        layer_.plan.fill_bias(lane_bias_.data(), layer_.offset_sums(), bias_.data());
    }

    /// Whether floats go past the caches: where those of a call, input and output, are 8 MB, more than a core's share
    /// of most last-level caches, and blocks of channels are whole lines.
    bool streams_output(std::span<const float> input, std::span<float> output) const {
        constexpr std::int64_t line = 64 / sizeof(float);
        return input.size_bytes() + output.size_bytes() >= stream_bytes / 4 &&
               Layer::block_channels(shape_) % line == 0 && reinterpret_cast<std::uintptr_t>(output.data()) % 64 == 0;
    }

    template <class Code, class Executor>
    void run_parts(Code* codes, std::span<const float> input, const quantizer& q, std::span<float> output,
                   const Executor& executor) const {
        if constexpr (sizeof(Code) * 8 <= Layer::input_bits) {
            const auto part = static_cast<std::size_t>(layer_.plan.shape().input.elements());
            const auto part_outputs = static_cast<std::size_t>(layer_.plan.shape().output().elements());
            const kernels::requantize_block as_floats{.shift = exponent_.data(),
                                                      .factor = nullptr,
                                                      .rounding_constant = nullptr,
                                                      .range = {},
                                                      .mode = rounding::half_up,
                                                      .kind = kind_,
                                                      .scale = scale_.data(),
                                                      .addend = addend_.data(),
                                                      .stream = streams_output(input, output)};
            for (std::size_t first = 0; first < input.size(); first += part) {
                executor.parallel_for(task_count(part), [&](std::int64_t task) {
                    const auto [begin, end] = task_range(task, part);
                    quantize_part(*quantize_, input, codes + begin, {first + begin, first + end}, q);
                    layer_.prepare(codes + begin, end - begin);
                });
                layer_.run(as_floats, bias_.data(), codes, output.data() + first / part * part_outputs, executor);
            }
        }
    }

    static constexpr std::int64_t max_sum = INT32_MAX;

    shape_type shape_;
    integer_format input_format_;
    weight_layout layout_;
    const kernels::quantize_table* quantize_;
    Layer layer_;  ///< for a part of the batch
    bool wide_;    ///< codes are int16
    aligned_vector<std::int8_t> codes8_;
    aligned_vector<std::int16_t> codes16_;
    aligned_vector<std::int8_t> weights_;
    aligned_vector<std::int8_t> hwio_;
    std::vector<std::int32_t> channel_bias_;
    std::vector<std::int32_t> lane_bias_;
    aligned_vector<std::int32_t> exponent_;
    aligned_vector<float> scale_;
    aligned_vector<float> addend_;
    aligned_vector<std::int32_t> bias_;
    kernels::epilogue kind_ = kernels::epilogue::floats;
    po2quant::certificate proof_;
};

}  // namespace detail

/// Standard convolution. The constructor decides all that follows from the shape, the format of the input codes (at
/// most 16 signed bits; formats that int8 holds run int8 kernels, and uint7, never negative, faster ones) and the
/// layout of the weights; it throws std::invalid_argument where one of them is out of range.
class integer_forward_conv2d : public detail::integer_forward<detail::conv2d_forward> {
public:
    /// The last argument chooses the kernels: an arch tag, by default the best that the compiler's flags allow, …
    template <class Arch = default_arch>
    explicit integer_forward_conv2d(const conv2d_shape& shape, integer_format input_format = int8,
                                    weight_layout layout = weight_layout::hwio, Arch = {})
        : integer_forward(shape, input_format, layout, kernels::conv2d_table_of<Arch>,
                          kernels::quantize_table_of<Arch>) {}
    /// … or tables of kernels that were compiled elsewhere, for another instruction set.
    using integer_forward::integer_forward;
};

/// Depthwise convolution: as the standard one, with input codes of at most 8 signed bits.
class integer_forward_depthwise_conv2d : public detail::integer_forward<detail::depthwise_forward> {
public:
    template <class Arch = default_arch>
    explicit integer_forward_depthwise_conv2d(const depthwise_conv2d_shape& shape, integer_format input_format = int8,
                                              weight_layout layout = weight_layout::hwio, Arch = {})
        : integer_forward(shape, input_format, layout, kernels::depthwise_table_of<Arch>,
                          kernels::quantize_table_of<Arch>) {}
    using integer_forward::integer_forward;
};

}  // namespace po2quant

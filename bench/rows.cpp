#include "rows.hpp"

#include <cstring>
#include <memory>
#include <random>

#include <benchmark/benchmark.h>

#include <po2quant/inference/integer_forward.hpp>
#include <po2quant/inference/separable_conv2d.hpp>

#include "layer_requantization.hpp"
#include "plain.hpp"
#include "runnable_tables.hpp"
#include "shapes.hpp"

namespace po2quant::bench {
namespace {

template <class T>
using buffer = std::vector<T, po2quant::detail::aligned_allocator<T>>;

template <class T>
buffer<T> random_codes(std::int64_t n, std::uint32_t seed) {
    std::mt19937 random(seed);
    buffer<T> codes(static_cast<std::size_t>(n));
    for (T& c : codes) c = static_cast<T>(random());
    return codes;
}

buffer<float> random_floats(std::int64_t n, std::uint32_t seed) {
    std::mt19937 random(seed);
    buffer<float> v(static_cast<std::size_t>(n));
    for (float& x : v) x = (static_cast<float>(random() >> 8) * 0x1p-24F - 0.5F) * 20.0F;  // −10 … 10: a fifth is cut
    return v;
}

template <class Storage>
buffer<Storage> stored(const buffer<float>& floats) {
    buffer<Storage> all;
    all.reserve(floats.size());
    for (const float v : floats) all.push_back(to_storage<Storage>(v));
    return all;
}

// ---- passes over floats ---------------------------------------------------------------------------------------------

struct pass_buffers {
    explicit pass_buffers(std::int64_t n)
        : size(static_cast<std::size_t>(n)),
          a(random_floats(n, 1)),
          b(random_floats(n, 2)),
          out(size),
          a_bfloat16(stored<bfloat16>(a)),
          b_bfloat16(stored<bfloat16>(b)),
          out_bfloat16(size),
          a_float16(stored<float16>(a)),
          b_float16(stored<float16>(b)),
          out_float16(size),
          codes(size),
          more(size),
          mask(size / 8) {
        for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = static_cast<std::uint8_t>(i * 37 % 256);
    }
    std::size_t size;
    buffer<float> a, b, out;
    buffer<bfloat16> a_bfloat16, b_bfloat16, out_bfloat16;
    buffer<float16> a_float16, b_float16, out_float16;
    buffer<std::int8_t> codes, more;
    buffer<std::uint8_t> mask;
    std::uint64_t counts[256] = {};
};

/// One pass: what it does on the buffers, the roof it is held against, and the bytes it reads and writes per element.
struct pass {
    const char* op;
    void (*run)(const kernel_table*, pass_buffers&);
    void (*roof)(pass_buffers&);
    int bytes;
    bool has_plain = true;
};

void copy_roof(pass_buffers& m) {
    std::memcpy(m.out.data(), m.a.data(), m.size * sizeof(float));
    benchmark::ClobberMemory();
}
void copy16_roof(pass_buffers& m) {
    std::memcpy(m.out_float16.data(), m.a_float16.data(), m.size * sizeof(float16));
    benchmark::ClobberMemory();
}
void read_roof(pass_buffers& m) { best().read(m.a.data(), m.size); }
void read2_write1_roof(pass_buffers& m) { best().read2_write1(m.a.data(), m.b.data(), m.out.data(), m.size); }
/// As many bytes as of 16-bit storage.
void read2_write1_16_roof(pass_buffers& m) { best().read2_write1(m.a.data(), m.b.data(), m.out.data(), m.size / 2); }
/// 5 bytes per element moved by memcpy: a quarter more than half of a copy of all floats.
void codes_roof(pass_buffers& m) {
    std::memcpy(m.out.data(), m.a.data(), m.size * 5 / 2);
    benchmark::ClobberMemory();
}
void add_roof(pass_buffers& m) { best().read2_write1(m.a.data(), m.b.data(), m.out.data(), m.size / 4); }

void in_place_roof(pass_buffers& m) { best().read_write(m.out.data(), m.size); }

// A null table stands for the plain loops, where there is one.
const pass passes[] = {
    {"fake_quantize",
     [](const kernel_table* k, pass_buffers& m) {
         (k ? k->fake_quantize : plain::fake_quantize)(m.a.data(), m.out.data(), m.size);
     },
     copy_roof, 8},
    {"fake_quantize_stochastic",
     [](const kernel_table* k, pass_buffers& m) {
         (k ? k->fake_quantize_stochastic : plain::fake_quantize_stochastic)(m.a.data(), m.out.data(), m.size);
     },
     copy_roof, 8},
    {"fake_quantize_bfloat16",
     [](const kernel_table* k, pass_buffers& m) {
         k->fake_quantize_bfloat16(m.a_bfloat16.data(), m.out_bfloat16.data(), m.size);
     },
     copy16_roof, 4, false},
    {"fake_quantize_float16",
     [](const kernel_table* k, pass_buffers& m) {
         k->fake_quantize_float16(m.a_float16.data(), m.out_float16.data(), m.size);
     },
     copy16_roof, 4, false},
    {"fake_quantize_in_place",
     [](const kernel_table* k, pass_buffers& m) {
         (k ? k->fake_quantize : plain::fake_quantize)(m.out.data(), m.out.data(), m.size);
     },
     in_place_roof, 8},
    {"fake_quantize_observe_mask",
     [](const kernel_table* k, pass_buffers& m) {
         k->fake_quantize_observe_mask(m.a.data(), m.out.data(), m.mask.data(), m.size);
     },
     copy_roof, 8, false},
    {"fake_quantize_channels_inner",
     [](const kernel_table* k, pass_buffers& m) { k->fake_quantize_channels_inner(m.a.data(), m.out.data(), m.size); },
     copy_roof, 8, false},
    {"fake_quantize_channels_outer",
     [](const kernel_table* k, pass_buffers& m) { k->fake_quantize_channels_outer(m.a.data(), m.out.data(), m.size); },
     copy_roof, 8, false},
    {"backward_mask",
     [](const kernel_table* k, pass_buffers& m) { k->backward_mask(m.mask.data(), m.b.data(), m.out.data(), m.size); },
     copy_roof, 8, false},
    {"backward_tqt",
     [](const kernel_table* k, pass_buffers& m) {
         benchmark::DoNotOptimize(k->backward_tqt(m.a.data(), m.b.data(), m.out.data(), m.size));
     },
     read2_write1_roof, 12, false},
    {"histogram", [](const kernel_table* k, pass_buffers& m) { k->histogram(m.a.data(), m.size, m.counts); }, read_roof,
     4, false},
    {"backward_ste",
     [](const kernel_table* k, pass_buffers& m) {
         (k ? k->fake_quantize_backward : plain::fake_quantize_backward)(m.a.data(), m.b.data(), m.out.data(), m.size);
     },
     read2_write1_roof, 12},
    {"backward_ste_bfloat16",
     [](const kernel_table* k, pass_buffers& m) {
         k->backward_bfloat16(m.a_bfloat16.data(), m.b_bfloat16.data(), m.out_bfloat16.data(), m.size);
     },
     read2_write1_16_roof, 6, false},
    {"backward_ste_float16",
     [](const kernel_table* k, pass_buffers& m) {
         k->backward_float16(m.a_float16.data(), m.b_float16.data(), m.out_float16.data(), m.size);
     },
     read2_write1_16_roof, 6, false},
    {"minmax",
     [](const kernel_table* k, pass_buffers& m) {
         benchmark::DoNotOptimize((k ? k->minmax : plain::minmax)(m.a.data(), m.size));
     },
     read_roof, 4},
    {"quantize",
     [](const kernel_table* k, pass_buffers& m) {
         (k ? k->quantize : plain::quantize)(m.a.data(), m.codes.data(), m.size);
     },
     codes_roof, 5},
    {"dequantize",
     [](const kernel_table* k, pass_buffers& m) {
         (k ? k->dequantize : plain::dequantize)(m.codes.data(), m.out.data(), m.size);
     },
     codes_roof, 5},
    {"add",
     [](const kernel_table* k, pass_buffers& m) {
         (k ? k->add : plain::add)(m.codes.data(), m.codes.data(), m.more.data(), m.size);
     },
     add_roof, 3},
};

workload open_pass(const pass& p, std::int64_t n) {
    // One set of buffers at a time: the rows of a size follow each other.
    static std::shared_ptr<pass_buffers> memory;
    if (!memory || memory->size != static_cast<std::size_t>(n)) {
        memory.reset();
        memory = std::make_shared<pass_buffers>(n);
    }
    workload w{.bytes = static_cast<double>(p.bytes) * static_cast<double>(n)};
    w.make = [&p, m = memory](const kernel_table* k) -> engine { return [&p, m, k] { p.run(k, *m); }; };
    w.bandwidth = [&p, m = memory] { p.roof(*m); };
    return w;
}

// ---- convolutions ---------------------------------------------------------------------------------------------------

template <class Shape>
Shape shape_of(const layer& l, std::int64_t batch = 1) {
    Shape s{.input = {.batch = batch, .height = l.size, .width = l.size, .channels = l.channels},
            .window = {.kernel = {l.kernel, l.kernel}, .stride = {l.stride, l.stride}}};
    if constexpr (requires { s.outputs = l.outputs; }) s.outputs = l.outputs;
    s.window.padding = same_padding(s.input, s.window);
    return s;
}

/// A layer's tensors.
template <class Shape>
struct layer_memory {
    explicit layer_memory(const Shape& s, integer_format format = int8)
        : shape(s),
          in(random_codes<std::int8_t>(s.input.elements(), 1)),
          weights(random_codes<std::int8_t>(s.weights(), 2)),
          out(static_cast<std::size_t>(s.output().elements())),
          bias(static_cast<std::size_t>(s.output().channels), 100),
          sums(bias.size()) {
        if (!format.is_signed)
            for (auto& c : in) c = static_cast<std::int8_t>(c & 127);
    }
    /// Each tensor once.
    double bytes() const { return static_cast<double>(in.size() + weights.size() + out.size()); }

    Shape shape;
    buffer<std::int8_t> in, weights, out;
    std::vector<std::int32_t> bias, sums;
};

conv2d op_of(const layer_memory<conv2d_shape>& m, const requantization& q, const kernel_table& k) {
    return {m.shape, m.weights, m.bias, q, weight_layout::hwio, k.layers.conv2d};
}
depthwise_conv2d op_of(const layer_memory<depthwise_conv2d_shape>& m, const requantization& q, const kernel_table& k) {
    return {m.shape, m.weights, m.bias, q, weight_layout::hwio, k.layers.depthwise_conv2d};
}

void run_plain(layer_memory<conv2d_shape>& m) {
    plain::conv2d(m.shape, m.in.data(), m.weights.data(), m.bias.data(), shift, m.out.data(), m.sums.data());
}
void run_plain(layer_memory<depthwise_conv2d_shape>& m) {
    plain::depthwise_conv2d(m.shape, m.in.data(), m.weights.data(), m.bias.data(), shift, m.out.data(), m.sums.data());
}

template <class Shape>
workload open_layer(const layer& l, const requantization& q) {
    const auto m = std::make_shared<layer_memory<Shape>>(shape_of<Shape>(l), q.input_format);
    workload w{.macs = static_cast<double>(m->shape.macs()), .bytes = m->bytes()};
    w.make = [m, q](const kernel_table* k) -> engine {
        if (k == nullptr) return [m] { run_plain(*m); };
        return [m, op = std::make_shared<decltype(op_of(*m, q, *k))>(op_of(*m, q, *k))] { op->run(m->in, m->out); };
    };
    return w;
}

workload open_convolution(const layer& l, const requantization& q) {
    return l.outputs == 0 ? open_layer<depthwise_conv2d_shape>(l, q) : open_layer<conv2d_shape>(l, q);
}

integer_forward_conv2d forward_of(const conv2d_shape& s, const kernel_table& k) {
    return {s, int8, weight_layout::hwio, k.layers.conv2d, k.layers.quantize};
}
integer_forward_depthwise_conv2d forward_of(const depthwise_conv2d_shape& s, const kernel_table& k) {
    return {s, int8, weight_layout::hwio, k.layers.depthwise_conv2d, k.layers.quantize};
}

buffer<float> normal_floats(std::int64_t n, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    buffer<float> values(static_cast<std::size_t>(n));
    for (float& v : values) v = normal(random);
    return values;
}

/// A training step's forward pass from floats to floats, weights quantized and packed in it.
template <class Shape>
workload open_forward(const layer& l) {
    struct memory {
        Shape shape;
        buffer<float> x, weights, y;
    };
    const auto shape = shape_of<Shape>(l, 8);
    const auto m = std::make_shared<memory>(memory{shape, normal_floats(shape.input.elements(), 1),
                                                   normal_floats(shape.weights(), 2),
                                                   buffer<float>(static_cast<std::size_t>(shape.output().elements()))});
    workload w{.macs = static_cast<double>(shape.macs()),
               .bytes = static_cast<double>(sizeof(float) * (m->x.size() + m->weights.size() + m->y.size()))};
    w.make = [m](const kernel_table* k) -> engine {
        return [m, op = std::make_shared<decltype(forward_of(m->shape, *k))>(forward_of(m->shape, *k))] {
            op->run(m->x, {.exponent = exponent}, m->weights, {.exponents = weight_exponents}, {}, m->y);
        };
    };
    return w;
}

workload open_integer_forward(const layer& l) {
    return l.outputs == 0 ? open_forward<depthwise_conv2d_shape>(l) : open_forward<conv2d_shape>(l);
}

workload open_block(const separable_block& b) {
    struct memory {
        layer_memory<depthwise_conv2d_shape> first;
        layer_memory<conv2d_shape> second;
    };
    const auto first = shape_of<depthwise_conv2d_shape>({b.name, b.size, b.channels, 0, 3, b.stride});
    const auto m =
        std::make_shared<memory>(memory{layer_memory<depthwise_conv2d_shape>(first),
                                        layer_memory<conv2d_shape>({.input = first.output(), .outputs = b.outputs})});
    workload w{.macs = static_cast<double>(first.macs() + m->second.shape.macs()),
               .bytes = m->first.bytes() + m->second.bytes() - 2 * static_cast<double>(m->second.in.size())};
    w.make = [m](const kernel_table* k) -> engine {
        return [m, op = std::make_shared<separable_conv2d>(op_of(m->first, layer_requantization(), *k),
                                                           op_of(m->second, layer_requantization(uint7), *k))] {
            op->run(m->first.in, m->second.out);
        };
    };
    w.make_apart = [m](const kernel_table* k) -> engine {
        return [m, depthwise = std::make_shared<depthwise_conv2d>(op_of(m->first, layer_requantization(), *k)),
                pointwise = std::make_shared<conv2d>(op_of(m->second, layer_requantization(uint7), *k))] {
            depthwise->run(m->first.in, m->first.out);
            pointwise->run(m->first.out, m->second.out);
        };
    };
    return w;
}

/// A convolution and the addition of a residual, which apart is a pass of its own in place.
workload open_residual(const layer& l) {
    static constexpr add_quantization sum{.a_exponent = -4, .b_exponent = -5, .output_exponent = -4};
    const auto m = std::make_shared<layer_memory<conv2d_shape>>(shape_of<conv2d_shape>(l));
    const auto residual =
        std::make_shared<const buffer<std::int8_t>>(random_codes<std::int8_t>(m->shape.output().elements(), 3));
    workload w{.macs = static_cast<double>(m->shape.macs()),
               .bytes = m->bytes() + static_cast<double>(residual->size())};
    w.make = [m, residual](const kernel_table* k) -> engine {
        return [m, residual, op = std::make_shared<conv2d>(op_of(*m, layer_requantization(), *k))] {
            op->run_add(m->in, *residual, m->out, sum);
        };
    };
    w.make_apart = [m, residual](const kernel_table* k) -> engine {
        return [m, residual, k, op = std::make_shared<conv2d>(op_of(*m, layer_requantization(), *k)),
                rule = po2quant::detail::plan_addition("residual", sum)] {
            op->run(m->in, m->out);
            k->layers.conv2d.add_residual(m->out.data(), residual->data(), 1, m->out.size(), 0, rule);
        };
    };
    return w;
}

}  // namespace

std::vector<row> all_rows() {
    std::vector<row> rows;
    for (const float_size& size : float_sizes)
        for (const pass& p : passes)
            rows.push_back({p.op, size.name, p.has_plain, [&p, &size] { return open_pass(p, size.elements); }});
    for (const layer& l : layers) {
        rows.push_back({l.outputs == 0 ? "depthwise_conv2d" : "conv2d", l.name, true,
                        [&l] { return open_convolution(l, layer_requantization()); }});
        if (l.outputs != 0)
            rows.push_back(
                {"conv2d_uint7", l.name, false, [&l] { return open_convolution(l, layer_requantization(uint7)); }});
    }
    for (const layer& l : rounded_layers)
        rows.push_back({l.outputs == 0 ? "depthwise_conv2d_half_even" : "conv2d_half_even", l.name, false,
                        [&l] { return open_convolution(l, layer_requantization(int8, rounding::half_even)); }});
    for (const layer& l : layers)
        rows.push_back({l.outputs == 0 ? "integer_forward_depthwise_conv2d" : "integer_forward_conv2d", l.name, false,
                        [&l] { return open_integer_forward(l); }});
    for (const separable_block& b : separable_blocks)
        rows.push_back({"separable_conv2d", b.name, false, [&b] { return open_block(b); }});
    for (const layer& l : residual_layers)
        rows.push_back({"conv2d_add", l.name, false, [&l] { return open_residual(l); }});
    return rows;
}

}  // namespace po2quant::bench

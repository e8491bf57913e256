// All benchmarks of this machine's instruction sets: names op/arch/shape, counters beside the roofs of the same run.
//   po2quant_bench [--filter REGEX] [--json FILE] [options of Google Benchmark]
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <po2quant/inference/integer_forward.hpp>
#include <po2quant/inference/separable_conv2d.hpp>

#include "measure.hpp"
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

void run_pass(benchmark::State& state, const pass& p, const kernel_table* table, std::int64_t n) {
    // One set of buffers at a time: the rows of a size follow each other.
    static std::unique_ptr<pass_buffers> shared;
    if (!shared || shared->size != static_cast<std::size_t>(n)) {
        shared.reset();
        shared = std::make_unique<pass_buffers>(n);
    }
    pass_buffers& memory = *shared;
    const timing t = measure(
        state, [&] { p.run(table, memory); }, [&] { p.roof(memory); });
    state.counters["bytes_per_second"] = static_cast<double>(p.bytes) * static_cast<double>(n) / t.kernel;
    state.counters["roof_fraction"] = t.roof / t.kernel;
    state.counters["spread"] = t.spread;
}

// ---- convolutions ---------------------------------------------------------------------------------------------------

constexpr int weight_exponents[] = {-7};
constexpr int bias_exponents[] = {-11};
constexpr int shift = 7;

requantization layer_requantization(integer_format input = int8) {
    return {.input_exponent = -4,
            .weight_exponents = weight_exponents,
            .bias_exponents = bias_exponents,
            .output_exponent = -4,
            .clamp = activation::relu6,
            .input_format = input};
}

/// Runs one layer beside the dot-product peak of the best instruction set.
template <class Run>
void run_layer(benchmark::State& state, std::int64_t macs, Run run) {
    constexpr std::int64_t repetitions = 2000;
    const std::int64_t peak_macs = best().dot_products(1) * repetitions;
    const timing t = measure(state, run, [] { best().dot_products(repetitions); });
    const double rate = static_cast<double>(macs) / t.kernel;
    state.counters["gmac_per_s"] = rate * 1e-9;
    state.counters["peak_fraction"] = rate / (static_cast<double>(peak_macs) / t.roof);
    state.counters["spread"] = t.spread;
}

/// Without a table, the plain loop.
void run_convolution(benchmark::State& state, const layer& l, const kernel_table* table, integer_format format = int8) {
    window2d window{.kernel = {l.kernel, l.kernel}, .stride = {l.stride, l.stride}};
    const nhwc input{.height = l.size, .width = l.size, .channels = l.channels};
    window.padding = same_padding(input, window);
    auto in = random_codes<std::int8_t>(input.elements(), 1);
    if (!format.is_signed)
        for (auto& c : in) c = static_cast<std::int8_t>(c & 127);
    if (l.outputs == 0) {
        const depthwise_conv2d_shape shape{.input = input, .window = window};
        const auto weights = random_codes<std::int8_t>(shape.weights(), 2);
        const std::vector<std::int32_t> bias(static_cast<std::size_t>(shape.outputs()), 100);
        buffer<std::int8_t> out(static_cast<std::size_t>(shape.output().elements()));
        if (table == nullptr) {
            std::vector<std::int32_t> sums(bias.size());
            run_layer(state, shape.macs(), [&] {
                plain::depthwise_conv2d(shape, in.data(), weights.data(), bias.data(), shift, out.data(), sums.data());
            });
            return;
        }
        const depthwise_conv2d op(shape, weights, bias, layer_requantization(format), weight_layout::hwio,
                                  table->layers.depthwise_conv2d);
        run_layer(state, shape.macs(), [&] { op.run(in, out); });
        return;
    }
    const conv2d_shape shape{.input = input, .outputs = l.outputs, .window = window};
    const auto weights = random_codes<std::int8_t>(shape.weights(), 2);
    const std::vector<std::int32_t> bias(static_cast<std::size_t>(shape.outputs), 100);
    buffer<std::int8_t> out(static_cast<std::size_t>(shape.output().elements()));
    if (table == nullptr) {
        std::vector<std::int32_t> sums(bias.size());
        run_layer(state, shape.macs(), [&] {
            plain::conv2d(shape, in.data(), weights.data(), bias.data(), shift, out.data(), sums.data());
        });
        return;
    }
    const conv2d op(shape, weights, bias, layer_requantization(format), weight_layout::hwio, table->layers.conv2d);
    run_layer(state, shape.macs(), [&] { op.run(in, out); });
}

template <class Values>
void fill_normal(Values& values, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (float& v : values) v = normal(random);
}

/// A training step's forward pass from floats to floats, weights quantized and packed in it; the roof is that of the
/// dot products all the same.
void run_integer_forward(benchmark::State& state, const layer& l, const kernel_table* table) {
    window2d window{.kernel = {l.kernel, l.kernel}, .stride = {l.stride, l.stride}};
    const nhwc input{.batch = 8, .height = l.size, .width = l.size, .channels = l.channels};
    window.padding = same_padding(input, window);
    const auto run = [&](auto op) {
        buffer<float> x(static_cast<std::size_t>(input.elements()));
        buffer<float> weights(static_cast<std::size_t>(op.shape().weights()));
        fill_normal(x, 1);
        fill_normal(weights, 2);
        buffer<float> y(static_cast<std::size_t>(op.output().elements()));
        run_layer(state, op.shape().macs(),
                  [&] { op.run(x, {.exponent = exponent}, weights, {.exponents = weight_exponents}, {}, y); });
        state.counters["roof_fraction"] = state.counters["peak_fraction"];
    };
    if (l.outputs == 0)
        run(integer_forward_depthwise_conv2d({input, 1, window}, int8, weight_layout::hwio,
                                             table->layers.depthwise_conv2d, table->layers.quantize));
    else
        run(integer_forward_conv2d({input, l.outputs, window}, int8, weight_layout::hwio, table->layers.conv2d,
                                   table->layers.quantize));
}

/// A fused op beside its ops apart.
template <class Fused, class Apart>
void run_fused(benchmark::State& state, std::int64_t macs, Fused fused, Apart apart) {
    const timing t = measure(state, fused, apart);
    state.counters["gmac_per_s"] = static_cast<double>(macs) / t.kernel * 1e-9;
    state.counters["speed_over_apart"] = t.roof / t.kernel;
    state.counters["spread"] = t.spread;
}

void run_block(benchmark::State& state, const separable_block& b, const kernel_table* table) {
    depthwise_conv2d_shape first{.input = {.height = b.size, .width = b.size, .channels = b.channels},
                                 .window = {.kernel = {3, 3}, .stride = {b.stride, b.stride}}};
    first.window.padding = same_padding(first.input, first.window);
    const conv2d_shape second{.input = first.output(), .outputs = b.outputs};
    const auto first_weights = random_codes<std::int8_t>(first.weights(), 1);
    const auto second_weights = random_codes<std::int8_t>(second.weights(), 2);
    const auto in = random_codes<std::int8_t>(first.input.elements(), 3);
    buffer<std::int8_t> between(static_cast<std::size_t>(first.output().elements()));
    buffer<std::int8_t> out(static_cast<std::size_t>(second.output().elements()));
    const depthwise_conv2d depthwise(first, first_weights, {}, layer_requantization(), weight_layout::hwio,
                                     table->layers.depthwise_conv2d);
    const conv2d pointwise(second, second_weights, {}, layer_requantization(uint7), weight_layout::hwio,
                           table->layers.conv2d);
    const separable_conv2d fused(depthwise, pointwise);
    run_fused(
        state, first.macs() + second.macs(), [&] { fused.run(in, out); },
        [&] {
            depthwise.run(in, between);
            pointwise.run(between, out);
        });
}

/// A convolution and the addition of a residual, which apart is a pass of its own in place.
void run_residual(benchmark::State& state, const layer& l, const kernel_table* table) {
    conv2d_shape shape{.input = {.height = l.size, .width = l.size, .channels = l.channels},
                       .outputs = l.outputs,
                       .window = {.kernel = {l.kernel, l.kernel}, .stride = {l.stride, l.stride}}};
    shape.window.padding = same_padding(shape.input, shape.window);
    const auto in = random_codes<std::int8_t>(shape.input.elements(), 1);
    const auto weights = random_codes<std::int8_t>(shape.weights(), 2);
    const auto residual = random_codes<std::int8_t>(shape.output().elements(), 3);
    buffer<std::int8_t> out(residual.size());
    const conv2d op(shape, weights, {}, layer_requantization(), weight_layout::hwio, table->layers.conv2d);
    const add_quantization sum{.a_exponent = -4, .b_exponent = -5, .output_exponent = -4};
    const kernels::addition rule = po2quant::detail::plan_addition("residual", sum);
    run_fused(
        state, shape.macs(), [&] { op.run_add(in, residual, out, sum); },
        [&] {
            op.run(in, out);
            table->layers.conv2d.add_residual(out.data(), residual.data(), 1, out.size(), 0, rule);
        });
}

// ---- registration and report ----------------------------------------------------------------------------------------

/// Timed batches of each row; its figures are their medians.
constexpr int samples = 15;

void register_all() {
    std::vector<const kernel_table*> tables;
    for (const kernel_table& table : runnable_tables()) tables.push_back(&table);
    for (const std::string& isa : other_isas()) std::fprintf(stderr, "not measured: this CPU has no %s\n", isa.c_str());
    tables.push_back(nullptr);
    const auto add = [](const std::string& name, auto run) {
        benchmark::RegisterBenchmark(name.c_str(), run)
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond)
            ->Iterations(samples);
    };
    const auto name_of = [](const kernel_table* table) { return std::string(table ? table->name : "plain_o3_native"); };
    for (const float_size& size : float_sizes)
        for (const pass& p : passes)
            for (const kernel_table* table : tables) {
                if (table == nullptr && !p.has_plain) continue;
                add(std::string(p.op) + "/" + name_of(table) + "/" + size.name,
                    [&p, table, &size](benchmark::State& state) { run_pass(state, p, table, size.elements); });
            }
    for (const layer& l : layers) {
        for (const kernel_table* table : tables) {
            const std::string arch = name_of(table);
            add(std::string(l.outputs == 0 ? "depthwise_conv2d/" : "conv2d/") + arch + "/" + l.name,
                [&l, table](benchmark::State& state) { run_convolution(state, l, table); });
        }
        if (l.outputs == 0) continue;
        for (const kernel_table* table : tables)
            if (table != nullptr)
                add(std::string("conv2d_uint7/") + table->name + "/" + l.name,
                    [&l, table](benchmark::State& state) { run_convolution(state, l, table, uint7); });
    }
    for (const layer& l : layers)
        for (const kernel_table* table : tables)
            if (table != nullptr)
                add(std::string(l.outputs == 0 ? "integer_forward_depthwise_conv2d/" : "integer_forward_conv2d/") +
                        table->name + "/" + l.name,
                    [&l, table](benchmark::State& state) { run_integer_forward(state, l, table); });
    for (const kernel_table* table : tables) {
        if (table == nullptr) continue;
        for (const separable_block& b : separable_blocks)
            add(std::string("separable_conv2d/") + table->name + "/" + b.name,
                [&b, table](benchmark::State& state) { run_block(state, b, table); });
        for (const layer& l : residual_layers)
            add(std::string("conv2d_add/") + table->name + "/" + l.name,
                [&l, table](benchmark::State& state) { run_residual(state, l, table); });
    }
}

/// Prints each row as it is done, as a row of a Markdown table.
class markdown_reporter : public benchmark::BenchmarkReporter {
public:
    bool ReportContext(const Context& context) override {
        std::printf(
            "| benchmark | µs | GMAC/s or GB/s | of peak, of roof, or over the ops apart | spread "
            "|\n|---|--:|--:|--:|--:|\n");
        (void)context;
        return true;
    }
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs) {
            std::string name = run.benchmark_name();
            if (const auto end = name.find("/iterations"); end != std::string::npos) name.resize(end);
            const auto value = [&run](const char* counter) {
                const auto at = run.counters.find(counter);
                return at == run.counters.end() ? 0.0 : at->second.value;
            };
            const bool macs = run.counters.count("gmac_per_s") != 0;
            std::printf("| %s | %.2f | %.1f | %.3f | %.0f %% |\n", name.c_str(), run.GetAdjustedRealTime(),
                        macs ? value("gmac_per_s") : value("bytes_per_second") * 1e-9,
                        run.counters.count("speed_over_apart") != 0 ? value("speed_over_apart")
                        : macs                                      ? value("peak_fraction")
                                                                    : value("roof_fraction"),
                        100 * value("spread"));
            std::fflush(stdout);
        }
    }
};

}  // namespace
}  // namespace po2quant::bench

int main(int argc, char** argv) {
    // --json and --filter under Google Benchmark's names.
    std::vector<std::string> arguments(argv, argv + argc);
    for (std::size_t i = 1; i < arguments.size(); ++i) {
        const bool json = arguments[i] == "--json";
        if (!json && arguments[i] != "--filter") continue;
        if (i + 1 == arguments.size()) {
            std::fprintf(stderr, "%s needs a value\n", arguments[i].c_str());
            return 2;
        }
        arguments[i] = (json ? "--benchmark_out=" : "--benchmark_filter=") + arguments[i + 1];
        arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
    std::vector<char*> pointers;
    for (std::string& argument : arguments) pointers.push_back(argument.data());
    int count = static_cast<int>(pointers.size());
    pointers.push_back(nullptr);
    benchmark::Initialize(&count, pointers.data());
    if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 2;
    benchmark::AddCustomContext("compiler", __VERSION__);
    benchmark::AddCustomContext("xsimd", std::to_string(XSIMD_VERSION_MAJOR) + "." +
                                             std::to_string(XSIMD_VERSION_MINOR) + "." +
                                             std::to_string(XSIMD_VERSION_PATCH));
    benchmark::AddCustomContext("best_isa", po2quant::bench::best().name);
    po2quant::bench::register_all();
    po2quant::bench::markdown_reporter table;
    benchmark::RunSpecifiedBenchmarks(&table);
    benchmark::Shutdown();
}

// Forward passes of training by integers beside oneDNN's float32 convolutions, on the layers of MobileNetV1 1.0 at 224,
// on one thread, in turn. Ours quantizes activations and weights, packs the weights, and leaves floats, all of it
// timed; oneDNN's has its weights in the layout that it likes best already. Given fake-quantized tensors, oneDNN must
// compute the same bits.
//   po2quant_forward_peers [--batch N] [--rounds N] [--json FILE]
#include <algorithm>
#include <bit>
#include <cstdio>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include <po2quant/inference/integer_forward.hpp>
#include <po2quant/training/fake_quantize.hpp>

#include "../runnable_tables.hpp"
#include "../shapes.hpp"
#include "../timing.hpp"

namespace po2quant::bench {
namespace {

template <class T>
using buffer = po2quant::detail::aligned_vector<T>;

struct options {
    std::int64_t batch = 8;
    int rounds = 15;
    std::string json;
};

/// A layer's tensors; activations as behind a ReLU, in part beyond the largest code.
struct tensors {
    nhwc input;
    window2d window;
    std::int64_t outputs;
    bool depthwise;
    buffer<float> x;
    buffer<float> weights;
    buffer<float> bias;
    buffer<float> y;

    tensors(const layer& l, std::int64_t batch)
        : input{batch, l.size, l.size, l.channels},
          window{.kernel = {l.kernel, l.kernel}, .stride = {l.stride, l.stride}},
          outputs(l.outputs == 0 ? l.channels : l.outputs),
          depthwise(l.outputs == 0) {
        window.padding = same_padding(input, window);
        const extent2d out = output_extent(input, window);
        x.resize(static_cast<std::size_t>(input.elements()));
        weights.resize(static_cast<std::size_t>(l.kernel * l.kernel * (depthwise ? 1 : l.channels) * outputs));
        bias.resize(static_cast<std::size_t>(outputs));
        y.resize(static_cast<std::size_t>(batch * out.height * out.width * outputs));
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        for (float& v : x) v = std::max(0.0F, 3 * normal(random));
        for (float& v : weights) v = 0.25F * normal(random);
        for (float& v : bias) v = static_cast<float>(static_cast<int>(random() % 2001) - 1000) * 0x1p-11F;
    }
};

constexpr quantizer input_q{.format = uint7, .exponent = exponent};
constexpr int weight_exponents[] = {-7};
constexpr channel_quantizer weight_q{.exponents = weight_exponents};

/// oneDNN's convolution, made once for tensors that stay where they are.
class float_convolution {
public:
    float_convolution(const tensors& t, const buffer<float>& x, const buffer<float>& weights, buffer<float>& y) {
        using namespace dnnl;
        using type = memory::data_type;
        using tag = memory::format_tag;
        const extent2d out = output_extent(t.input, t.window);
        const auto [kh, kw] = t.window.kernel;
        const memory::dims input{t.input.batch, t.input.channels, t.input.height, t.input.width};
        const memory::dims output{t.input.batch, t.outputs, out.height, out.width};
        const memory::dims shape =
            t.depthwise ? memory::dims{t.outputs, 1, 1, kh, kw} : memory::dims{t.outputs, t.input.channels, kh, kw};
        const memory::desc input_desc(input, type::f32, tag::nhwc);
        const memory::desc output_desc(output, type::f32, tag::nhwc);
        const memory::desc bias_desc({t.outputs}, type::f32, tag::x);
        const memory::desc any_weights(shape, type::f32, tag::any);
        const memory::dims strides{t.window.stride.height, t.window.stride.width};
        const memory::dims before{t.window.padding.top, t.window.padding.left};
        const memory::dims behind{t.window.padding.bottom, t.window.padding.right};
#if DNNL_VERSION_MAJOR >= 3
        const convolution_forward::primitive_desc chosen(cpu_, prop_kind::forward_training,
                                                         algorithm::convolution_direct, input_desc, any_weights,
                                                         bias_desc, output_desc, strides, before, behind);
#else
        const convolution_forward::primitive_desc chosen(
            convolution_forward::desc(prop_kind::forward_training, algorithm::convolution_direct, input_desc,
                                      any_weights, bias_desc, output_desc, strides, before, behind),
            cpu_);
#endif
        memory given(memory::desc(shape, type::f32, t.depthwise ? tag::hwigo : tag::hwio), cpu_,
                     const_cast<float*>(weights.data()));
        memory packed(chosen.weights_desc(), cpu_);
        reorder(given, packed).execute(queue_, given, packed);
        queue_.wait();
        convolution_ = convolution_forward(chosen);
        arguments_ = {{DNNL_ARG_SRC, memory(input_desc, cpu_, const_cast<float*>(x.data()))},
                      {DNNL_ARG_WEIGHTS, packed},
                      {DNNL_ARG_BIAS, memory(bias_desc, cpu_, const_cast<float*>(t.bias.data()))},
                      {DNNL_ARG_DST, memory(output_desc, cpu_, y.data())}};
    }
    void operator()() {
        convolution_.execute(queue_, arguments_);
        queue_.wait();
    }

private:
    dnnl::engine cpu_{dnnl::engine::kind::cpu, 0};
    dnnl::stream queue_{cpu_};
    dnnl::convolution_forward convolution_;
    std::unordered_map<int, dnnl::memory> arguments_;
};

struct result {
    const char* name;
    int count;
    double own;    ///< median seconds of the batch
    double other;  ///< the same
    double spread;
    bool exact;  ///< says the certificate
    std::int64_t compared;
    std::int64_t differing;
};

template <class Op>
result measure(const layer& l, int count, tensors& t, Op op, const options& o) {
    result r{l.name, count, 0, 0, 0, false, static_cast<std::int64_t>(t.y.size()), 0};
    const auto own = [&] { op.run(t.x, input_q, t.weights, weight_q, t.bias, t.y); };
    buffer<float> other_y(t.y.size());
    own();
    r.exact = op.certificate().float32_exact;
    {
        buffer<float> x(t.x.size());
        buffer<float> weights(t.weights.size());
        fake_quantize(t.x, x, input_q);
        fake_quantize(t.weights, weights, {.format = weight_q.format, .exponent = weight_exponents[0]});
        float_convolution(t, x, weights, other_y)();
        for (std::size_t i = 0; i < t.y.size(); ++i)
            r.differing += std::bit_cast<std::uint32_t>(t.y[i]) != std::bit_cast<std::uint32_t>(other_y[i]);
    }
    float_convolution other(t, t.x, t.weights, other_y);
    other();
    std::vector<double> own_times;
    std::vector<double> other_times;
    for (int round = 0; round < o.rounds; ++round) {
        // Each is timed behind a call of its own, as in a program that has one of them: what a call leaves in the
        // caches to be written back, its next one pays for.
        own();
        own_times.push_back(time_calls(own, 1));
        other();
        other_times.push_back(time_calls(other, 1));
    }
    r.own = quantile(own_times, 0.5);
    r.other = quantile(other_times, 0.5);
    r.spread = spread(own_times);
    return r;
}

result measure(const layer& l, int count, const options& o) {
    tensors t(l, o.batch);
    if (t.depthwise)
        return measure(l, count, t,
                       integer_forward_depthwise_conv2d({t.input, 1, t.window}, input_q.format, weight_layout::hwio,
                                                        best().layers.depthwise_conv2d, best().layers.quantize),
                       o);
    return measure(l, count, t,
                   integer_forward_conv2d({t.input, t.outputs, t.window}, input_q.format, weight_layout::hwio,
                                          best().layers.conv2d, best().layers.quantize),
                   o);
}

int run(const options& o) {
    omp_set_num_threads(1);
    const dnnl_version_t* v = dnnl_version();
    std::printf(
        "batches of %lld, %d rounds, one thread, %s; µs per image\n\n| layer, how often | integer_forward | "
        "oneDNN %d.%d.%d float32 | ratio | spread | differing |\n|---|--:|--:|--:|--:|--:|\n",
        static_cast<long long>(o.batch), o.rounds, best().name, v->major, v->minor, v->patch);
    const double image = 1e6 / static_cast<double>(o.batch);
    std::vector<result> results;
    double own = 0;
    double other = 0;
    std::int64_t compared = 0;
    std::int64_t differing = 0;
    bool wrong = false;
    for (const net_layer& n : mobilenet) {
        results.push_back(measure(n.shape, n.count, o));
        const result& r = results.back();
        own += n.count * r.own;
        other += n.count * r.other;
        compared += r.compared;
        differing += r.differing;
        wrong = wrong || (r.exact && r.differing != 0);
        std::printf("| `%s` × %d | %.1f | %.1f | %.2f | %.0f %% | %lld%s |\n", r.name, r.count, r.own * image,
                    r.other * image, r.other / r.own, 100 * r.spread, static_cast<long long>(r.differing),
                    r.exact ? "" : ", float32 rounds");
        std::fflush(stdout);
    }
    std::printf("| **MobileNetV1 1.0 at 224, convolutions** | %.0f | %.0f | **%.2f** | | |\n", own * image,
                other * image, other / own);
    std::printf("\n%lld outputs compared with those of oneDNN for fake-quantized tensors, %lld differ\n",
                static_cast<long long>(compared), static_cast<long long>(differing));
    if (!o.json.empty()) {
        std::ofstream out(o.json);
        const char* separator = "[\n";
        for (const result& r : results) {
            out << separator << R"(  {"layer": ")" << r.name << R"(", "count": )" << r.count << R"(, "batch": )"
                << o.batch << R"(, "integer_forward_us": )" << r.own * 1e6 << R"(, "float32_us": )" << r.other * 1e6
                << R"(, "ratio": )" << r.other / r.own << R"(, "spread": )" << r.spread << R"(, "float32_exact": )"
                << (r.exact ? "true" : "false") << R"(, "differing": )" << r.differing << "}";
            separator = ",\n";
        }
        out << "\n]\n";
        if (!out) std::fprintf(stderr, "%s could not be written\n", o.json.c_str());
    }
    return wrong ? 1 : 0;
}

}  // namespace
}  // namespace po2quant::bench

int main(int argc, char** argv) {
    po2quant::bench::options o;
    for (int i = 1; i < argc; i += 2) {
        const std::string name = argv[i];
        try {
            if (i + 1 == argc) throw std::invalid_argument("no value");
            if (name == "--batch") o.batch = std::clamp(std::stoi(argv[i + 1]), 1, 256);
            else if (name == "--rounds") o.rounds = std::max(3, std::stoi(argv[i + 1]));
            else if (name == "--json") o.json = argv[i + 1];
            else throw std::invalid_argument("unknown");
        } catch (const std::exception&) {
            std::fprintf(stderr, "%s: allowed are --batch N, --rounds N, --json FILE\n", name.c_str());
            return 2;
        }
    }
    return po2quant::bench::run(o);
}

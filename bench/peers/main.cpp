// Our convolutions beside those of other libraries, on one thread, in one run: every round times every engine once, in
// a new order, beside the dot-product peak of the machine. Results are compared before anything is timed.
//   po2quant_peers [--json FILE] [--filter REGEX] [--rounds N] [--seed N]
#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <memory>
#include <random>
#include <regex>
#include <span>
#include <string>
#include <vector>

#include <po2quant/inference/conv2d.hpp>
#include <po2quant/inference/depthwise_conv2d.hpp>

#include "../emulation.hpp"
#include "../in_turn.hpp"
#include "../layer_requantization.hpp"
#include "../options.hpp"
#include "../plain.hpp"
#include "../runnable_tables.hpp"
#include "../shapes.hpp"
#include "../timing.hpp"
#include "peer.hpp"

namespace po2quant::bench {
namespace {

template <class Op>
runner run_of(std::shared_ptr<Op> op, const peer_layer& l) {
    const auto in = static_cast<std::size_t>(l.input.elements());
    const auto out = static_cast<std::size_t>(l.output_elements());
    return [op, l, in, out] { op->run(std::span(l.codes, in), std::span(l.output, out)); };
}

/// Ours, for any int8 input or told that codes are 0..127.
peer our_peer(const char* name, integer_format input) {
    return {name, best().name, [input](const peer_layer& l) -> runner {
                const std::span bias(l.bias, static_cast<std::size_t>(l.output_channels()));
                if (l.depthwise()) {
                    const depthwise_conv2d_shape s{.input = l.input, .window = l.window};
                    return run_of(std::make_shared<depthwise_conv2d>(
                                      s, std::span(l.weights, static_cast<std::size_t>(s.weights())), bias,
                                      layer_requantization(input), weight_layout::hwio, best().layers.depthwise_conv2d),
                                  l);
                }
                const conv2d_shape s{.input = l.input, .outputs = l.outputs, .window = l.window};
                return run_of(
                    std::make_shared<conv2d>(s, std::span(l.weights, static_cast<std::size_t>(s.weights())), bias,
                                             layer_requantization(input), weight_layout::hwio, best().layers.conv2d),
                    l);
            }};
}

peer plain_peer() {
    return {"plain loop", "-O3 -march=native", [](const peer_layer& l) -> runner {
                const auto sums =
                    std::make_shared<std::vector<std::int32_t>>(static_cast<std::size_t>(l.output_channels()));
                return [l, sums] {
                    if (l.depthwise())
                        plain::depthwise_conv2d({.input = l.input, .window = l.window}, l.codes, l.weights, l.bias,
                                                l.shift, l.output, sums->data());
                    else
                        plain::conv2d({.input = l.input, .outputs = l.outputs, .window = l.window}, l.codes, l.weights,
                                      l.bias, l.shift, l.output, sums->data());
                };
            }};
}

struct row : contender {
    const peer* who;
    std::vector<std::int8_t> output;
    std::int64_t differing = 0;
    std::int64_t ties = 0;
};

std::vector<peer> peers() {
    std::vector<peer> all{our_peer("po2quant", int8), our_peer("po2quant uint7", uint7)};
#if defined(PO2QUANT_ONEDNN)
    all.push_back(onednn_peer());
#else
    std::fprintf(stderr, "not measured: oneDNN was not found\n");
#endif
#if defined(PO2QUANT_XNNPACK)
    all.push_back(xnnpack_peer());
#else
    std::fprintf(stderr, "not measured: XNNPACK was not found\n");
#endif
#if defined(PO2QUANT_GEMMLOWP)
    all.push_back(gemmlowp_peer());
#else
    std::fprintf(stderr, "not measured: gemmlowp was not found\n");
#endif
    all.push_back(plain_peer());
    return all;
}

struct result {
    std::string shape;
    double macs;
    double peak;  ///< multiply-accumulates per second
    int discarded;
    std::vector<row> rows;
};

/// Runs all engines on a layer, compares their outputs with ours, then times them in turn.
result measure(const std::vector<peer>& all, const layer& l, const options& o, std::mt19937& random) {
    window2d window{.kernel = {l.kernel, l.kernel}, .stride = {l.stride, l.stride}};
    const nhwc input{.height = l.size, .width = l.size, .channels = l.channels};
    window.padding = same_padding(input, window);
    peer_layer p{input, l.outputs, window, shift, nullptr, nullptr, nullptr, nullptr};
    const std::int64_t inputs = p.depthwise() ? 1 : l.channels;
    po2quant::detail::aligned_vector<std::int8_t> codes(static_cast<std::size_t>(input.elements()));
    std::vector<std::int8_t> weights(static_cast<std::size_t>(l.kernel * l.kernel * inputs * p.output_channels()));
    std::vector<std::int32_t> bias(static_cast<std::size_t>(p.output_channels()));
    for (auto& c : codes) c = static_cast<std::int8_t>(random() % 128);
    for (auto& w : weights) w = static_cast<std::int8_t>(random());
    for (auto& b : bias) b = static_cast<std::int32_t>(random() % 20001) - 10000;
    p.codes = codes.data();
    p.weights = weights.data();
    p.bias = bias.data();
    result r{l.name, static_cast<double>(p.output_elements() * l.kernel * l.kernel * inputs), 0, 0, {}};
    std::vector<std::int32_t> sums(static_cast<std::size_t>(p.output_elements()));
    po2quant::detail::aligned_vector<std::int8_t> output(sums.size());
    p.output = output.data();
    {
        const std::span in(p.codes, codes.size());
        const auto q = layer_requantization(int8);
        if (p.depthwise()) depthwise_conv2d({.input = input, .window = window}, weights, bias, q).accumulate(in, sums);
        else conv2d({.input = input, .outputs = l.outputs, .window = window}, weights, bias, q).accumulate(in, sums);
    }
    for (const peer& e : all) {
        const runner run = e.make(p);
        if (!run) {
            std::fprintf(stderr, "not measured: %s has no %s\n", e.name.c_str(), l.name);
            continue;
        }
        (*run)();
        row w{{*run, calls_for(*run, 2e-4), {}}, &e, {}, 0, 0};
        w.output.assign(output.begin(), output.end());
        for (std::size_t i = 0; !r.rows.empty() && i < w.output.size(); ++i) {
            if (w.output[i] == r.rows.front().output[i]) continue;
            ++w.differing;
            // Half to even instead of half up: one less, exactly at a tie.
            w.ties += (sums[i] & ((1 << shift) - 1)) == 1 << (shift - 1) && w.output[i] == r.rows.front().output[i] - 1;
        }
        r.rows.push_back(std::move(w));
    }
    std::vector<contender*> contenders;
    for (row& w : r.rows) contenders.push_back(&w);
    const auto [peak, discarded] = time_in_turn(contenders, o.rounds, random);
    r.peak = peak;
    r.discarded = discarded;
    return r;
}

double median_of(const result& r, const std::string& name) {
    for (const row& w : r.rows)
        if (w.who->name == name) return quantile(w.times, 0.5);
    return 0;
}

bool ours(const peer& p) { return p.name.starts_with("po2quant"); }

/// The fastest of the others.
const row* best_peer(const result& r) {
    const row* best = nullptr;
    for (const row& w : r.rows)
        if (!ours(*w.who) && (best == nullptr || quantile(w.times, 0.5) < quantile(best->times, 0.5))) best = &w;
    return best;
}

void print(const result& r, const std::vector<peer>& all) {
    std::printf("| `%s` |", r.shape.c_str());
    for (const peer& e : all) {
        const double t = median_of(r, e.name);
        if (t == 0) std::printf(" – |");
        else std::printf(" %.1f (%.2f) |", t * 1e6, r.macs / t / r.peak);
    }
    const row* other = best_peer(r);
    const std::vector<double>& own = r.rows.front().times;
    const double fastest = quantile(other->times, 0.5);
    std::printf(" **%.2f**, **%.2f** (%s) | %.0f %% |\n", fastest / quantile(own, 0.5),
                fastest / quantile(r.rows[1].times, 0.5), other->who->name.c_str(), 100 * spread(own));
    std::fflush(stdout);
}

void write_json(const std::string& path, const std::vector<result>& results) {
    std::ofstream out(path);
    const char* separator = "[\n";
    for (const result& r : results)
        for (const row& w : r.rows) {
            const double t = quantile(w.times, 0.5);
            out << separator << R"(  {"engine": ")" << w.who->name << R"(", "version": ")" << w.who->version
                << R"(", "shape": ")" << r.shape << R"(", "median_us": )" << t * 1e6 << R"(, "spread": )"
                << spread(w.times) << R"(, "peak_fraction": )" << r.macs / t / r.peak << R"(, "ratio": )"
                << t / median_of(r, "po2quant") << R"(, "differing": )" << w.differing << R"(, "ties": )" << w.ties
                << R"(, "discarded_rounds": )" << r.discarded << "}";
            separator = ",\n";
        }
    out << "\n]\n";
    if (!out) std::fprintf(stderr, "%s could not be written\n", path.c_str());
}

/// Bytes that one layer reads and writes beyond its caches, weights once: directly, and with an im2col buffer written
/// and read again.
void print_traffic() {
    const auto bytes = [](const layer& l, bool columns) {
        const std::int64_t side = (l.size + l.stride - 1) / l.stride;
        const std::int64_t outputs = l.outputs == 0 ? l.channels : l.outputs;
        const std::int64_t depth = l.kernel * l.kernel * l.channels;
        const std::int64_t direct =
            l.size * l.size * l.channels + depth * (l.outputs == 0 ? 1 : l.outputs) + side * side * outputs;
        return direct + (columns && l.kernel > 1 ? 2 * side * side * depth : 0);
    };
    double direct = 0;
    double columns = 0;
    for (const net_layer& n : mobilenet) {
        direct += n.count * static_cast<double>(bytes(n.shape, false));
        columns += n.count * static_cast<double>(bytes(n.shape, true));
    }
    std::printf(
        "\nMobileNetV1's 112x112x32 depthwise layer moves %.2f MB directly, %.2f MB with im2col; the whole net %.1f "
        "and %.1f MB.\n",
        static_cast<double>(bytes(mobilenet[1].shape, false)) * 1e-6,
        static_cast<double>(bytes(mobilenet[1].shape, true)) * 1e-6, direct * 1e-6, columns * 1e-6);
}

int run(const options& o) {
    const std::vector<peer> all = peers();
    std::mt19937 random(o.seed);
    std::printf(
        "seed %u, %d rounds, one thread; µs, in brackets the fraction of the %s dot-product peak of the same "
        "rounds\n\n",
        o.seed, o.rounds, best().name);
    std::printf("| layer |");
    for (const peer& e : all) std::printf(" %s %s |", e.name.c_str(), e.version.c_str());
    std::printf(" best of the others / ours, / ours told uint7 | spread |\n|---|");
    for (std::size_t i = 0; i < all.size() + 2; ++i) std::printf("--:|");
    std::printf("\n");
    std::vector<result> results;
    const auto add = [&](const layer& l) {
        results.push_back(measure(all, l, o, random));
        print(results.back(), all);
    };
    for (const layer& l : layers)
        if (std::regex_search(l.name, o.filter)) add(l);
    const auto found = [&](const char* name) {
        return std::find_if(results.begin(), results.end(), [&](const result& r) { return r.shape == name; });
    };
    // The sum over a network's layers; those that have not been timed are timed first.
    const auto add_network = [&](const char* title, std::span<const net_layer> network) {
        for (const net_layer& n : network)
            if (found(n.shape.name) == results.end()) add(n.shape);
        std::printf("| **%s, convolutions** |", title);
        double macs = 0;
        double floor = 0;
        for (const net_layer& n : network) {
            const result& r = *found(n.shape.name);
            macs += n.count * r.macs;
            floor += n.count * r.macs / r.peak;
        }
        double own = 0;
        double told = 0;
        double other = 0;
        for (const peer& e : all) {
            double sum = 0;
            bool whole = true;
            for (const net_layer& n : network) {
                const double t = median_of(*found(n.shape.name), e.name);
                whole = whole && t != 0;
                sum += n.count * t;
            }
            if (e.name == "po2quant") own = sum;
            else if (ours(e)) told = sum;
            else if (whole && (other == 0 || sum < other)) other = sum;
            std::printf(whole ? " %.1f (%.2f) |" : " %.1f without depthwise |", sum * 1e6, floor / sum);
        }
        std::printf(" **%.2f**, **%.2f** | |\n", other / own, other / told);
        return std::array{macs, floor};
    };
    const auto print_floor = [](const char* title, std::array<double, 2> sums) {
        std::printf("\n%s: %.1f MMAC; at the peak they would take %.1f µs.\n", title, sums[0] * 1e-6, sums[1] * 1e6);
    };
    const bool whole = std::regex_search("mobilenet_v1", o.filter);
    const bool quarter = std::regex_search("mobilenet_v1_025", o.filter);
    const auto whole_sums = whole ? add_network("MobileNetV1 1.0 at 224", mobilenet) : std::array<double, 2>{};
    const auto quarter_sums = quarter ? add_network("MobileNetV1 0.25 at 128", mobilenet_025) : std::array<double, 2>{};
    if (whole) {
        print_floor("MobileNetV1 1.0 at 224", whole_sums);
        print_traffic();
    }
    if (quarter) print_floor("MobileNetV1 0.25 at 128", quarter_sums);
    if (!o.json.empty()) write_json(o.json, results);
    int wrong = 0;
    std::printf("\nOutputs that differ from ours, of them ties rounded to even instead of up:\n");
    for (const peer& e : all) {
        std::int64_t differing = 0;
        std::int64_t ties = 0;
        std::int64_t compared = 0;
        int discarded = 0;
        for (const result& r : results) {
            discarded += r.discarded;
            for (const row& w : r.rows)
                if (w.who->name == e.name) {
                    differing += w.differing, ties += w.ties, compared += static_cast<std::int64_t>(w.output.size());
                    if (w.differing != w.ties) {
                        std::printf("  %s: %s differs in %lld outputs that are no ties\n", e.name.c_str(),
                                    r.shape.c_str(), static_cast<long long>(w.differing - w.ties));
                        ++wrong;
                    }
                }
        }
        if (e.name == "po2quant") std::printf("  %d rounds were discarded\n", discarded);
        else
            std::printf("  %s: %lld of %lld, %lld ties\n", e.name.c_str(), static_cast<long long>(differing),
                        static_cast<long long>(compared), static_cast<long long>(ties));
    }
    return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace po2quant::bench

int main(int argc, char** argv) {
    po2quant::bench::refuse_emulation();
    return po2quant::bench::run(po2quant::bench::parse_options(argc, argv));
}

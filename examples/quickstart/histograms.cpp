#include <cmath>

#include "report.hpp"

namespace quickstart {
namespace {

constexpr int bins_per_code = 4;

histogram empty_histogram(std::string title, int low, int high) {
    histogram h{std::move(title), low, {}, {}};
    h.codes.resize(static_cast<std::size_t>(high - low + 1));
    h.before.resize(h.codes.size() * bins_per_code);
    return h;
}

/// A value before rounding, in units of codes: code c owns [c − 1/2, c + 1/2). What saturates counts at the ends.
void count(histogram& h, float value) {
    const auto codes = static_cast<float>(h.codes.size());
    const float place = std::fmin(std::fmax(value - static_cast<float>(h.low) + 0.5F, 0.0F), codes * (1.0F - 0x1p-20F));
    ++h.codes[static_cast<std::size_t>(place)];
    ++h.before[static_cast<std::size_t>(place * bins_per_code)];
}

}  // namespace

std::vector<histogram> histograms(const quantized_graph& graph) {
    std::vector<histogram> all;
    for (std::size_t i = 0; i < graph.net().layers.size(); ++i) {
        const layer& l = graph.net().layers[i];
        const layer_grids& g = graph.grids(i);
        if (l.learns()) {
            histogram weights =
                empty_histogram(l.shape.name + ": weights, codes of 2^" + exponent_range(g.weight_exponents),
                                pq::int8.qmin(), pq::int8.qmax());
            for (std::size_t w = 0; w < l.weights.value.size(); ++w)
                count(weights, std::ldexp(l.weights.value[w], -g.weight_exponents[w % g.weight_exponents.size()]));
            all.push_back(std::move(weights));
        }
        if (l.shape.kind == op::fully_connected || l.shape.kind == op::average_pool) continue;
        histogram outputs = empty_histogram(l.shape.name + ": outputs, codes of 2^" + std::to_string(g.output_exponent),
                                            0, pq::int8.qmax());
        for (const float v : graph.clamped(i)) count(outputs, std::ldexp(v, -g.output_exponent));
        all.push_back(std::move(outputs));
    }
    return all;
}

}  // namespace quickstart

#pragma once
/// Certificates of layers that need not be safe, and of a whole network as a table to print.
#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include <po2quant/inference/certificate.hpp>
#include <po2quant/inference/depthwise_conv2d.hpp>

namespace po2quant {

namespace detail {

inline certificate certify_products(const requantization& q, const bias_codes& bias,
                                    const std::vector<accumulator_bounds>& products) {
    certificate all;
    for (std::size_t o = 0; o < products.size(); ++o) certify_channel(all, channel_of(q, bias, products[o], o));
    return all;
}

}  // namespace detail

/// The certificate that a conv2d of these arguments would have, also where an accumulator could overflow and conv2d is
/// refused. Throws std::invalid_argument for arguments that are out of range otherwise.
inline certificate certify(const conv2d_shape& shape, std::span<const std::int8_t> weights, const bias_codes& bias,
                           const requantization& q, weight_layout layout = weight_layout::hwio) {
    constexpr const char* function = "certify";
    detail::check_conv2d_shape(function, shape);
    detail::check_layout(function, layout);
    detail::check_requantization(function, q, bias, shape.outputs);
    detail::check_span(function, "weights", weights, static_cast<std::uint64_t>(shape.weights()));
    return detail::certify_products(q, bias, detail::product_bounds(shape, weights, layout, q.input_format));
}

/// The same for a depthwise_conv2d.
inline certificate certify(const depthwise_conv2d_shape& shape, std::span<const std::int8_t> weights,
                           const bias_codes& bias, const requantization& q,
                           weight_layout layout = weight_layout::hwio) {
    constexpr const char* function = "certify";
    detail::check_depthwise_shape(function, shape);
    detail::check_layout(function, layout);
    detail::check_code_format(function, "input_format", q.input_format, 8);
    detail::check_requantization(function, q, bias, shape.outputs());
    detail::check_span(function, "weights", weights, static_cast<std::uint64_t>(shape.weights()));
    return detail::certify_products(q, bias, detail::product_bounds(shape, weights, layout, q.input_format));
}

/// One layer of a report.
struct certificate_row {
    std::string name;
    certificate layer;
};

namespace detail {

/// Lines of cells as a table: columns as wide as their widest cell, the first to the left, the others to the right, a
/// rule under the first line and, if `total`, above the last.
inline std::string table(const std::vector<std::vector<std::string>>& lines, bool total) {
    // Characters of UTF-8: all bytes but those that continue one.
    const auto width_of = [](const std::string& s) {
        return static_cast<std::size_t>(
            std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
    };
    std::vector<std::size_t> widths(lines.front().size());
    for (const auto& line : lines)
        for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width_of(line[i]));
    std::size_t whole = 2 * (widths.size() - 1);
    for (const std::size_t width : widths) whole += width;
    const std::string rule = std::string(whole, '-') + "\n";
    std::string all;
    for (std::size_t l = 0; l < lines.size(); ++l) {
        if (total && l + 1 == lines.size()) all += rule;
        for (std::size_t i = 0; i < widths.size(); ++i) {
            const std::string blank(widths[i] - width_of(lines[l][i]), ' ');
            if (i == 0) all += lines[l][i] + blank;
            else all += "  " + blank + lines[l][i];
        }
        all += "\n";
        if (l == 0) all += rule;
    }
    return all;
}

/// "yes", or how many of all channels.
inline std::string share(std::size_t good, std::size_t all) { return good == all ? "yes" : text(good, " of ", all); }

inline std::size_t float32_exact_channels(const certificate& c) {
    return static_cast<std::size_t>(std::count(c.channel_float32_exact.begin(), c.channel_float32_exact.end(), true));
}

inline std::size_t int32_safe_channels(const certificate& c) {
    return static_cast<std::size_t>(std::count_if(
        c.magnitude.begin(), c.magnitude.end(), [](std::int64_t m) { return certificate::accumulator_bits(m) <= 32; }));
}

}  // namespace detail

/// One line per layer and one for all of them, each ending in a newline:
///
///   layer    channels  worst |acc|  bits  float32 exact  int32 safe  worst channel
///   ------------------------------------------------------------------------------
///   conv1           8        54864    17            yes         yes              3
///   fc              2     21907456    26         1 of 2         yes              0
///   ------------------------------------------------------------------------------
///   network        10     21907456    26        9 of 10         yes             fc
///
/// bits is the narrowest two's complement accumulator that holds every sum; a column says how many channels hold where
/// not all do. The network's worst channel is that of the layer named there.
inline std::string certificate_report(std::span<const certificate_row> rows) {
    detail::check_span("certificate_report", "rows", rows, rows.size());
    std::vector<std::vector<std::string>> lines{
        {"layer", "channels", "worst |acc|", "bits", "float32 exact", "int32 safe", "worst channel"}};
    std::size_t channels = 0;
    std::size_t exact = 0;
    std::size_t safe = 0;
    const certificate_row* worst = nullptr;
    for (const certificate_row& row : rows) {
        const certificate& c = row.layer;
        const std::size_t own_exact = detail::float32_exact_channels(c);
        const std::size_t own_safe = detail::int32_safe_channels(c);
        lines.push_back({row.name, std::to_string(c.channels()), std::to_string(c.worst), std::to_string(c.bits),
                         detail::share(own_exact, c.channels()), detail::share(own_safe, c.channels()),
                         std::to_string(c.worst_channel)});
        channels += c.channels();
        exact += own_exact;
        safe += own_safe;
        if (worst == nullptr || c.worst > worst->layer.worst) worst = &row;
    }
    const std::int64_t magnitude = worst == nullptr ? 0 : worst->layer.worst;
    lines.push_back({"network", std::to_string(channels), std::to_string(magnitude),
                     std::to_string(certificate::accumulator_bits(magnitude)), detail::share(exact, channels),
                     detail::share(safe, channels), worst == nullptr ? "-" : worst->name});
    return detail::table(lines, true);
}

/// One line per channel of a layer: channel, worst |acc|, bits, float32 exact, int32 safe.
inline std::string channel_report(const certificate& layer) {
    std::vector<std::vector<std::string>> lines{{"channel", "worst |acc|", "bits", "float32 exact", "int32 safe"}};
    for (std::size_t c = 0; c < layer.channels(); ++c)
        lines.push_back({std::to_string(c), std::to_string(layer.magnitude[c]), std::to_string(layer.channel_bits(c)),
                         layer.channel_float32_exact[c] ? "yes" : "no", layer.channel_int32_safe(c) ? "yes" : "no"});
    return detail::table(lines, false);
}

}  // namespace po2quant

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "report.hpp"

namespace quickstart {
namespace {

/// A drawing of given size; text and lines in, a file out.
class drawing {
public:
    drawing(int width, int height) : width_(width), height_(height) {}

    void line(double x1, double y1, double x2, double y2, const char* colour, double width = 1) {
        body_ << "<line x1='" << x1 << "' y1='" << y1 << "' x2='" << x2 << "' y2='" << y2 << "' stroke='" << colour
              << "' stroke-width='" << width << "'/>\n";
    }
    void bar(double x, double y, double width, double height, const char* colour) {
        body_ << "<rect x='" << x << "' y='" << y << "' width='" << width << "' height='" << height << "' fill='"
              << colour << "'/>\n";
    }
    void text(double x, double y, const std::string& words, const char* anchor = "start", int size = 12) {
        body_ << "<text x='" << x << "' y='" << y << "' font-size='" << size << "' text-anchor='" << anchor << "'>"
              << words << "</text>\n";
    }
    void path(const std::vector<std::pair<double, double>>& points, const char* colour, const char* dashes = "none",
              double width = 2) {
        body_ << "<polyline fill='none' stroke='" << colour << "' stroke-width='" << width << "' stroke-dasharray='"
              << dashes << "' points='";
        for (const auto& [x, y] : points) body_ << x << ',' << y << ' ';
        body_ << "'/>\n";
    }
    void save(const std::filesystem::path& file) const {
        std::ofstream(file) << "<svg xmlns='http://www.w3.org/2000/svg' width='" << width_ << "' height='" << height_
                            << "' font-family='sans-serif'>\n<rect width='100%' height='100%' fill='white'/>\n"
                            << body_.str() << "</svg>\n";
    }

private:
    int width_;
    int height_;
    std::ostringstream body_;
};

std::string number(double v, int digits) {
    std::ostringstream out;
    out.precision(digits);
    out << std::fixed << v;
    return out.str();
}

constexpr const char* blue = "#2166ac";
constexpr const char* red = "#b2182b";
constexpr const char* grey = "#dddddd";

/// Every count spread over its neighbours, less and less up to `reach` bins away.
std::vector<double> smooth(const std::vector<std::int64_t>& counts, int reach) {
    const auto size = static_cast<int>(counts.size());
    std::vector<double> all(counts.size());
    for (int to = 0; to < size; ++to) {
        double weights = 0;
        for (int from = std::max(0, to - reach); from <= std::min(size - 1, to + reach); ++from) {
            const double weight = reach + 1 - std::abs(from - to);
            all[static_cast<std::size_t>(to)] += weight * static_cast<double>(counts[static_cast<std::size_t>(from)]);
            weights += weight;
        }
        all[static_cast<std::size_t>(to)] /= weights;
    }
    return all;
}

/// One panel of the curves: `value` of every point of both phases over time.
template <class Value>
void draw_panel(drawing& d, const report& r, double top, const char* title, double low, double high, int digits,
                const char* colour, const char* dashes, Value value) {
    constexpr double left = 60;
    constexpr double width = 640;
    constexpr double height = 200;
    const double total = r.float_training.seconds + r.qat.seconds;
    const auto px = [&](double seconds) { return left + width * seconds / total; };
    const auto py = [&](double v) { return top + height * (1 - (std::clamp(v, low, high) - low) / (high - low)); };
    d.text(left, top - 10, title);
    for (int i = 0; i <= 4; ++i) {
        const double v = low + (high - low) * i / 4;
        d.line(left, py(v), left + width, py(v), grey);
        d.text(left - 6, py(v) + 4, number(v, digits), "end");
    }
    const double border = px(r.float_training.seconds);
    d.line(border, top, border, top + height, "#888888");
    d.text(border - 6, top + height + 16, "float32", "end");
    d.text(border + 6, top + height + 16, "fine-tuning with 2^e grids");
    double offset = 0;
    for (const training_result* phase : {&r.float_training, &r.qat}) {
        std::vector<std::pair<double, double>> points;
        for (const curve_point& p : phase->curve) points.emplace_back(px(offset + p.seconds), py(value(p)));
        d.path(points, colour, dashes);
        offset += phase->seconds;
    }
}

}  // namespace

void write_curves_svg(const std::filesystem::path& file, const report& r) {
    drawing d(740, 560);
    double most = 0;
    double least = 100;
    for (const training_result* phase : {&r.float_training, &r.qat})
        for (const curve_point& p : phase->curve) {
            most = std::max(most, p.loss);
            least = std::min({least, p.train_accuracy, p.test_accuracy});
        }
    least = 100 - 20 * std::ceil((100 - std::clamp(least, 0.0, 90.0)) / 20);
    draw_panel(d, r, 50, "loss per image", 0, std::max(0.4, 0.4 * std::ceil(most / 0.4)), 1, red, "none",
               [](const curve_point& p) { return p.loss; });
    const char* title = "accuracy in percent: training images (dashed), test images (solid)";
    draw_panel(d, r, 320, title, least, 100, 0, blue, "5 3", [](const curve_point& p) { return p.train_accuracy; });
    draw_panel(d, r, 320, "", least, 100, 0, blue, "none", [](const curve_point& p) { return p.test_accuracy; });
    d.save(file);
}

void write_histograms_svg(const std::filesystem::path& file, const std::vector<histogram>& all) {
    constexpr double panel_width = 560;
    constexpr double panel_height = 110;
    constexpr double step_y = 170;
    const int rows = static_cast<int>((all.size() + 1) / 2);
    drawing d(1240, 60 + static_cast<int>(step_y) * rows);
    d.text(30, 26,
           "Bars: how often each code is used (logarithmic). Line: density of the values before rounding, smoothed. "
           "One grid line per 16 codes.");
    for (std::size_t i = 0; i < all.size(); ++i) {
        const histogram& h = all[i];
        const double left = 30 + static_cast<double>(i % 2) * 600;
        const double bottom = 60 + static_cast<double>(i / 2) * step_y + 20 + panel_height;
        const auto codes = static_cast<double>(h.codes.size());
        const double step = panel_width / codes;
        double most = 1;
        for (const std::int64_t n : h.codes) most = std::max(most, static_cast<double>(n));
        const double unit = panel_height / std::log1p(most);
        d.text(left, bottom - panel_height - 6, h.title);
        for (int code = h.low; code < h.low + static_cast<int>(h.codes.size()); ++code) {
            if (code % 16 != 0) continue;
            const double x = left + step * (code - h.low + 0.5);
            d.line(x, bottom - panel_height, x, bottom, grey);
            if (code % 32 == 0) d.text(x, bottom + 14, std::to_string(code), "middle", 10);
        }
        for (std::size_t c = 0; c < h.codes.size(); ++c) {
            const double height = unit * std::log1p(static_cast<double>(h.codes[c]));
            if (height > 0) d.bar(left + step * static_cast<double>(c), bottom - height, step * 0.8, height, "#92c5de");
        }
        std::vector<std::pair<double, double>> line;
        const double bin = panel_width / static_cast<double>(h.before.size());
        const double per_code = static_cast<double>(h.before.size()) / codes;
        const std::vector<double> density = smooth(h.before, static_cast<int>(4 * per_code));
        for (std::size_t b = 0; b < density.size(); ++b)
            line.emplace_back(left + bin * (static_cast<double>(b) + 0.5),
                              bottom - std::min(panel_height, unit * std::log1p(density[b] * per_code)));
        d.path(line, red, "none", 1.5);
        d.line(left, bottom, left + panel_width, bottom, "black");
    }
    d.save(file);
}

}  // namespace quickstart

#include <fstream>

#include "report.hpp"

namespace quickstart {
namespace {

/// "conv2 3x3/2" becomes "conv2"; C wants identifiers.
std::string identifier(const layer_shape& s) { return s.name.substr(0, s.name.find(' ')); }

template <class T>
void write_array(std::ostream& out, const char* type, const std::string& name, const std::vector<T>& values) {
    if (values.empty()) return;
    out << "static const " << type << ' ' << name << '[' << values.size() << "] = {";
    for (std::size_t i = 0; i < values.size(); ++i) out << (i % 24 == 0 ? "\n    " : " ") << int{values[i]} << ',';
    out << "\n};\n";
}

/// How far a layer's sums are shifted right to become its outputs.
std::vector<int> shifts(const integer_layer& l) {
    std::vector<int> all;
    for (const int e : l.weight_exponents) all.push_back(l.output_exponent - l.input_exponent - e);
    return all;
}

void write_layer(std::ostream& out, const integer_layer& l) {
    const std::string name = identifier(l.shape);
    const pq::nhwc from = l.shape.input;
    const pq::nhwc to = l.shape.output();
    const pq::window2d& w = l.shape.window;
    out << "\n/* " << l.shape.name << ": " << from.height << 'x' << from.width << 'x' << from.channels << " * 2^"
        << l.input_exponent << " -> " << to.height << 'x' << to.width << 'x' << to.channels << " * 2^"
        << l.output_exponent;
    if (l.shape.kind == op::average_pool) {
        out << "; window " << w.kernel.height << 'x' << w.kernel.width << ", stride " << w.stride.height
            << ";\n   mean = floor((512 * sum + " << l.shape.taps() << ") / " << 2 * l.shape.taps()
            << "), then shifted right by " << l.output_exponent - (l.input_exponent - 8)
            << " (half up) and saturated to int8 */\n";
        return;
    }
    out << "; kernel " << w.kernel.height << 'x' << w.kernel.width << ", stride " << w.stride.height
        << ", zeros around " << w.padding.top << (l.shape.clamp == pq::activation::relu ? ", ReLU" : "")
        << ";\n   weights " << (l.shape.kind == op::depthwise_conv2d ? "[KH][KW][C]" : "[KH][KW][Cin][Cout]");
    if (l.shape.kind == op::fully_connected) out << "; the int32 sums are the logits";
    out << " */\n";
    write_array(out, "int8_t", name + "_weights", l.weights);
    write_array(out, "int16_t", name + "_bias", l.bias);
    write_array(out, "int8_t", name + "_weight_exponents", l.weight_exponents);
    write_array(out, "int8_t", name + "_bias_exponents", l.bias_exponents);
    if (l.shape.kind != op::fully_connected) write_array(out, "int8_t", name + "_shifts", shifts(l));
}

}  // namespace

void write_c_header(const std::filesystem::path& file, const integer_network& net) {
    std::ofstream out(file);
    out << "/* An integer network. A tensor is codes q and an exponent e: its real values are q * 2^e.\n"
           "     sum = products of codes + (bias << (bias exponent - input exponent - weight exponent))\n"
           "     y   = saturate((sum + (1 << (shift - 1))) >> shift), then max(y, 0) where it says ReLU\n"
           "   Exponents and shifts: one for all, or one per output channel. Input: round(pixel / 2), at most 127,\n"
           "   exponent "
        << input_quantizer.exponent << ". */\n#pragma once\n#include <stdint.h>\n";
    for (const integer_layer& l : net.layers()) write_layer(out, l);
}

}  // namespace quickstart

#include "model.hpp"

#include <fstream>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include <po2quant/numerics/exponent.hpp>

#include "npy.hpp"

namespace run_network {

namespace fs = std::filesystem;
using json = nlohmann::json;

namespace {

/// A part of the file that knows where it stands.
class node {
public:
    node(const json& value, std::string where) : value_(&value), where_(std::move(where)) {}

    [[noreturn]] void fail(const std::string& what) const { throw bad_model(where_ + ": " + what); }
    const std::string& where() const { return where_; }
    node called(const std::string& name) const { return {*value_, where_ + " (" + name + ")"}; }

    bool has(const char* key) const {
        return value_->is_object() && value_->contains(key) && !(*value_)[key].is_null();
    }
    node at(const char* key) const {
        if (!value_->is_object()) fail("is no object");
        if (!value_->contains(key)) throw bad_model(where_ + ": " + key + ": is missing");
        return {(*value_)[key], where_ + ": " + key};
    }
    std::vector<node> items() const {
        if (!value_->is_array()) fail("is " + shown() + "; a list is needed");
        std::vector<node> all;
        for (std::size_t i = 0; i < value_->size(); ++i)
            all.emplace_back((*value_)[i], where_ + "[" + std::to_string(i) + "]");
        return all;
    }
    bool is_list() const { return value_->is_array(); }
    std::string text() const {
        if (!value_->is_string()) fail("is " + shown() + "; text is needed");
        return value_->get<std::string>();
    }
    bool truth() const {
        if (!value_->is_boolean()) fail("is " + shown() + "; true or false is needed");
        return value_->get<bool>();
    }
    std::int64_t integer(std::int64_t low, std::int64_t high) const {
        const bool fits = value_->is_number_integer() &&
                          (!value_->is_number_unsigned() || value_->get<std::uint64_t>() <= std::uint64_t{1} << 62);
        const std::int64_t v = fits ? value_->get<std::int64_t>() : 0;
        if (!fits || v < low || v > high)
            fail("is " + shown() + "; allowed: integers " + std::to_string(low) + ".." + std::to_string(high));
        return v;
    }
    int exponent() const { return static_cast<int>(integer(po2quant::min_exponent, po2quant::max_exponent)); }
    std::vector<std::int64_t> integers(std::size_t count, std::int64_t low, std::int64_t high) const {
        const std::vector<node> all = items();
        if (all.size() != count)
            fail("has " + std::to_string(all.size()) + " numbers; " + std::to_string(count) + " are needed");
        std::vector<std::int64_t> numbers;
        for (const node& n : all) numbers.push_back(n.integer(low, high));
        return numbers;
    }

private:
    std::string shown() const {
        const std::string text = value_->dump(-1, ' ', false, json::error_handler_t::replace);
        return text.size() <= 60 ? text : text.substr(0, 57) + "...";
    }

    const json* value_;
    std::string where_;
};

constexpr std::int64_t most_elements = std::int64_t{1} << 31;

/// A shape with the batch first, which must be 1; returned without it.
std::vector<std::int64_t> shape_without_batch(const node& n) {
    std::vector<std::int64_t> shape;
    std::int64_t elements = 1;
    for (const node& length : n.items()) {
        shape.push_back(length.integer(1, std::int64_t{1} << 20));
        elements *= shape.back();
        if (elements > most_elements) n.fail("has more than 2^31 elements");
    }
    if (shape.size() < 2 || shape.size() > 4) n.fail("has " + std::to_string(shape.size()) + " lengths; allowed: 2..4");
    if (shape[0] != 1) n.fail("begins with a batch of " + std::to_string(shape[0]) + "; it must be 1");
    shape.erase(shape.begin());
    return shape;
}

std::string shown(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    return text + "]";
}

class reader {
public:
    explicit reader(const fs::path& folder) { model_.folder = folder; }

    model read() {
        const fs::path file = model_.folder / "model.json";
        std::ifstream stream(file, std::ios::binary);
        if (!stream) throw bad_model(file.string() + ": cannot be opened");
        std::stringstream text;
        text << stream.rdbuf();
        json parsed;
        try {
            parsed = json::parse(text.str());
        } catch (const json::parse_error& error) {
            throw bad_model(file.string() + ": is no JSON: byte " + std::to_string(error.byte));
        }
        const node root(parsed, file.string());
        if (root.has("format") && root.at("format").text() != "po2net")
            root.at("format").fail("is '" + root.at("format").text() + "'; allowed: 'po2net'");
        if (root.has("version")) root.at("version").integer(1, 1);
        model_.name = root.has("name") ? root.at("name").text() : model_.folder.filename().string();

        const node input = root.at("input");
        model_.input_name = input.at("name").text();
        model_.input_shape = shape_without_batch(input.at("shape"));
        model_.input_exponent = input.at("exponent").exponent();
        if (input.has("bits")) {
            model_.input_bits = static_cast<int>(input.at("bits").integer(8, 16));
            if (model_.input_bits != 8 && model_.input_bits != 16) input.at("bits").fail("is neither 8 nor 16");
        }
        values_[model_.input_name] = 0;

        for (const node& n : root.at("ops").items()) {
            const std::string name = n.at("name").text();
            read_op(n.called(name), name);
        }
        if (model_.ops.empty()) root.at("ops").fail("is empty");
        for (const node& output : root.at("outputs").items()) model_.outputs.push_back(value_of(output));
        if (model_.outputs.empty()) root.at("outputs").fail("is empty");
        return std::move(model_);
    }

private:
    int value_of(const node& n) const {
        const auto found = values_.find(n.text());
        if (found == values_.end()) n.fail("is '" + n.text() + "', which is neither the input nor an op before");
        return found->second;
    }

    void read_op(const node& n, const std::string& name) {
        static const std::map<std::string, op_kind> kinds = {{"conv2d", op_kind::conv2d},
                                                             {"depthwise_conv2d", op_kind::depthwise_conv2d},
                                                             {"avg_pool2d", op_kind::avg_pool2d},
                                                             {"max_pool2d", op_kind::max_pool2d},
                                                             {"reshape", op_kind::reshape},
                                                             {"concat", op_kind::concat},
                                                             {"add", op_kind::add},
                                                             {"sigmoid", op_kind::sigmoid}};
        const std::string kind = n.at("op").text();
        const auto found = kinds.find(kind);
        if (found == kinds.end()) {
            std::string allowed;
            for (const auto& [known, unused] : kinds) allowed += (allowed.empty() ? "" : ", ") + known;
            n.at("op").fail("is '" + kind + "'; allowed: " + allowed);
        }
        op o{.kind = found->second, .name = name, .where = n.where(), .inputs = {}};
        for (const node& input : n.at("inputs").items()) o.inputs.push_back(value_of(input));
        const std::size_t wanted = o.kind == op_kind::add ? 2 : 1;
        if (o.kind == op_kind::concat ? o.inputs.empty() : o.inputs.size() != wanted)
            n.at("inputs").fail("names " + std::to_string(o.inputs.size()) + " values; needed: " +
                                (o.kind == op_kind::concat ? "one or more" : std::to_string(wanted)));
        if (n.has("output_exponent")) o.output_exponent = n.at("output_exponent").exponent();
        if (n.has("output_bits")) n.at("output_bits").integer(8, 8);
        if (n.has("output_shape")) o.output_shape = shape_without_batch(n.at("output_shape"));
        const bool convolution = o.kind == op_kind::conv2d || o.kind == op_kind::depthwise_conv2d;
        if (convolution || o.kind == op_kind::avg_pool2d || o.kind == op_kind::max_pool2d) read_window(n, o);
        if (convolution || o.kind == op_kind::add) read_activation(n, o);
        if (o.kind == op_kind::add) n.at("output_exponent").exponent();
        if (convolution && !o.output_exponent && o.clamp != po2quant::activation::none)
            n.at("activation").fail("is not none, where no output_exponent is given");
        if (convolution) read_convolution(n, o);
        if (o.kind == op_kind::concat) o.axis = n.at("axis").integer(1, 3);
        if (o.kind == op_kind::reshape) n.at("output_shape");
        if (!values_.emplace(name, static_cast<int>(model_.ops.size()) + 1).second)
            n.at("name").fail("is that of something before");
        model_.ops.push_back(std::move(o));
    }

    static void read_window(const node& n, op& o) {
        const auto pair = [&](const char* key, po2quant::extent2d otherwise) -> po2quant::extent2d {
            if (!n.has(key)) return otherwise;
            const auto v = n.at(key).integers(2, 1, 1 << 16);
            return {v[0], v[1]};
        };
        n.at("kernel");
        o.window.kernel = pair("kernel", {});
        o.window.stride = pair("stride", {});
        o.window.dilation = pair("dilation", {});
        if (!n.has("pad")) return;
        const auto pad = n.at("pad").integers(4, 0, 1 << 16);
        o.window.padding = {pad[0], pad[1], pad[2], pad[3]};
    }

    static void read_activation(const node& n, op& o) {
        if (!n.has("activation")) return;
        const std::string name = n.at("activation").text();
        if (name == "relu6") o.clamp = po2quant::activation::relu6;
        else if (name == "relu") o.clamp = po2quant::activation::relu;
        else if (name != "none") n.at("activation").fail("is '" + name + "'; allowed: none, relu, relu6");
    }

    /// An array of the folder; names that lead out of it are refused.
    template <class T>
    npy_array<T> array(const node& n) const {
        const fs::path file = n.text();
        if (file.is_absolute() || file.filename() != file)
            n.fail("is '" + file.string() + "'; a file of the folder is needed");
        try {
            return read_npy<T>(model_.folder / file);
        } catch (const std::runtime_error& error) {
            throw bad_model(std::string(error.what()) + " (" + n.where() + ")");
        }
    }

    template <class T>
    std::vector<T> channels(const node& n, std::int64_t count) const {
        npy_array<T> all = array<T>(n);
        if (all.shape != std::vector<std::int64_t>{count})
            n.fail("has the shape " + shown(all.shape) + "; needed: " + shown({count}));
        return std::move(all.values);
    }

    void read_convolution(const node& n, op& o) const {
        const bool depthwise = o.kind == op_kind::depthwise_conv2d;
        const node weights = n.at("weights");
        if (weights.has("bits")) weights.at("bits").integer(2, 8);
        const std::string layout = depthwise ? "HWC" : "HWIO";
        if (weights.has("layout") && weights.at("layout").text() != layout)
            weights.at("layout").fail("is '" + weights.at("layout").text() + "'; needed: '" + layout + "'");
        npy_array<std::int8_t> codes = array<std::int8_t>(weights.at("int"));
        const std::int64_t inputs = n.at("cin").integer(1, 1 << 20);
        o.outputs = n.at("cout").integer(1, 1 << 20);
        if (depthwise && o.outputs != inputs)
            n.at("cout").fail("is " + std::to_string(o.outputs) + "; cin is " + std::to_string(inputs));
        std::vector<std::int64_t> shape = {o.window.kernel.height, o.window.kernel.width, inputs};
        if (!depthwise) shape.push_back(o.outputs);
        if (codes.shape != shape)
            weights.at("int").fail("has the shape " + shown(codes.shape) + "; kernel, cin and cout ask for " +
                                   shown(shape));
        if (weights.has("shape") && weights.at("shape").integers(shape.size(), 1, most_elements) != shape)
            weights.at("shape").fail("differs from kernel, cin and cout, which ask for " + shown(shape));
        o.weight_exponents = exponents(weights.at("exponent"), o.outputs);
        o.weight_shape = shape;
        o.weights = std::move(codes.values);

        if (n.has("integer")) {
            const node plan = n.at("integer");
            o.plan = read_plan(plan, o.outputs);
            if (plan.has("input_int8")) o.behind_int8 = read_plan(plan.at("input_int8"), o.outputs);
            if (plan.has("input_int16")) o.behind_int16 = read_plan(plan.at("input_int16"), o.outputs);
        }
        if (!n.has("bias")) return;
        const node b = n.at("bias");
        if (b.at("quantized").truth()) {
            layer_bias own;
            own.exponent = b.at("exponent").exponent();
            own.i16 = channels<std::int16_t>(b.at("int"), o.outputs);
            o.own_bias = std::move(own);
        } else if (b.has("float")) {
            o.float_bias = channels<float>(b.at("float"), o.outputs);
        }
    }

    /// One exponent, or one per output channel.
    static std::vector<int> exponents(const node& n, std::int64_t outputs) {
        if (!n.is_list()) return {n.exponent()};
        std::vector<int> all;
        for (const node& e : n.items()) all.push_back(e.exponent());
        if (all.size() != static_cast<std::size_t>(outputs))
            n.fail("has " + std::to_string(all.size()) + " numbers; cout is " + std::to_string(outputs));
        return all;
    }

    written_plan read_plan(const node& n, std::int64_t outputs) const {
        written_plan plan;
        if (n.has("acc_exponent"))
            plan.accumulator_exponent = static_cast<int>(n.at("acc_exponent").integer(-256, 256));
        if (n.has("requant_shift")) plan.shift = static_cast<int>(n.at("requant_shift").integer(-256, 256));
        if (n.has("bias_int"))
            plan.bias =
                layer_bias{{}, channels<std::int32_t>(n.at("bias_int"), outputs), n.at("acc_exponent").exponent(), 1};
        return plan;
    }

    model model_;
    std::map<std::string, int> values_;
};

}  // namespace

const char* name_of(op_kind kind) {
    switch (kind) {
    case op_kind::conv2d: return "conv2d";
    case op_kind::depthwise_conv2d: return "depthwise";
    case op_kind::avg_pool2d: return "avg_pool";
    case op_kind::max_pool2d: return "max_pool";
    case op_kind::reshape: return "reshape";
    case op_kind::concat: return "concat";
    case op_kind::add: return "add";
    case op_kind::sigmoid: return "sigmoid";
    }
    return "";
}

model read_model(const fs::path& folder) { return reader(folder).read(); }

}  // namespace run_network

// examples/run_network: random networks of every op against the scalar reference, on every instruction set of the CPU;
// files that are wrong are refused by name.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include <unistd.h>

#include <nlohmann/json.hpp>

#include <po2quant/reference/conv2d.hpp>
#include <po2quant/reference/pool.hpp>
#include <po2quant/reference/requantize.hpp>

#include "golden.hpp"
#include "isa_kernels.hpp"
#include "network.hpp"
#include "npy.hpp"
#include "sha256.hpp"

#include "inference/random_layers.hpp"
#include "support/catch.hpp"

namespace po2quant::test {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

/// A folder that goes with the object.
struct temporary_folder {
    fs::path path = fs::temp_directory_path() / ("run_network_test_" + std::to_string(getpid()));
    temporary_folder() {
        fs::remove_all(path);
        fs::create_directories(path);
    }
    ~temporary_folder() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;
};

/// What an op gives, by the reference: codes of any width, or floats of a sigmoid.
struct result {
    std::vector<std::int64_t> shape;
    int exponent = 0;
    bool wide = false;
    std::vector<std::int32_t> codes;
    std::vector<float> floats;

    std::vector<std::int8_t> narrow() const { return {codes.begin(), codes.end()}; }
    nhwc image() const { return {1, shape[0], shape[1], shape[2]}; }
};

/// Writes a random network that has every op, and works out what each must give.
class random_network {
public:
    random_network(const fs::path& folder, random_source& random, run_network::pool_form form, bool wide_input)
        : folder_(folder), random_(random), form_(form) {
        const std::int64_t channels = random.one_of(std::vector<int>{1, 3, 4, 8, 17});
        result in;
        in.shape = {random.integer(7, 20), random.integer(7, 20), channels};
        in.exponent = wide_input ? -11 : -7;
        in.wide = wide_input;
        for (std::int64_t i = 0; i < in.image().elements(); ++i)
            in.codes.push_back(
                static_cast<std::int32_t>(wide_input ? random.integer(-2048, 2047) : random.integer(-128, 127)));
        model_["format"] = "po2net";
        model_["name"] = "random";
        model_["input"] = {
            {"name", "image"}, {"shape", batched(in.shape)}, {"exponent", in.exponent}, {"bits", wide_input ? 16 : 8}};
        results["image"] = in;

        convolution("first", "image", random.one_of(std::vector<int>{8, 16, 24, 40}), 3, random.integer(1, 2), "relu6");
        depthwise("depthwise", "first", 3, random.integer(1, 2));
        convolution("left", "depthwise", 16, 1, 1, "none");
        convolution("right", "depthwise", 16, 3, 1, "relu");
        add("sum", "left", "right");
        max_pool("pooled", "sum");
        convolution("box", "pooled", 4, 1, 1, "none");
        convolution("more", "sum", 4, 1, 1, "none");
        reshape("box_list", "box", {results["box"].shape[0] * results["box"].shape[1], 4});
        reshape("more_list", "more", {results["more"].shape[0] * results["more"].shape[1], 4});
        concat("all", {"box_list", "more_list"});
        sums("sums", "sum", 5);
        signed_pool_ = random.integer(0, 1) != 0;
        convolution("last", "sum", 33, 1, 1, signed_pool_ ? "none" : "relu6");
        average("mean", "last");
        dense("dense", "mean", 10);
        reshape("logits", "dense", {10});
        sigmoid("probabilities", "logits");
        model_["outputs"] = {"all", "logits", "probabilities", "sums"};
        write();
    }

    void write() const {
        const std::string text = model_.dump(1);
        run_network::write_file(folder_ / "model.json", std::as_bytes(std::span(text.data(), text.size())));
    }
    /// Goldens of this image: digests of all, arrays of some.
    void write_goldens() const {
        const fs::path folder = folder_ / "goldens";
        fs::create_directories(folder / "layers");
        json goldens = {{"images", {{{"name", "one"}}}}, {"input_exponent", results.at("image").exponent}};
        for (const auto& [name, r] : results) {
            if (name == "sums")
                goldens["sha256"]["one"][name] = run_network::sha256(std::as_bytes(std::span(r.floats)));
            if (!r.floats.empty() || name == "mean" || name == "image") continue;
            std::vector<std::int64_t> shape = batched(r.shape);
            if (r.wide) {
                const std::vector<std::int16_t> codes(r.codes.begin(), r.codes.end());
                goldens["sha256"]["one"][name] = run_network::sha256(std::as_bytes(std::span(codes)));
            } else {
                const std::vector<std::int8_t> codes = r.narrow();
                goldens["sha256"]["one"][name] = run_network::sha256(std::as_bytes(std::span(codes)));
                if (name == "left")
                    run_network::write_npy<std::int8_t>(folder / "layers" / "left.i8.npy", shape, codes);
            }
        }
        const result& in = results.at("image");
        if (in.wide)
            run_network::write_npy<std::int16_t>(folder / ("input_i16_e" + std::to_string(in.exponent) + ".npy"),
                                                 batched(in.shape),
                                                 std::vector<std::int16_t>(in.codes.begin(), in.codes.end()));
        else run_network::write_npy<std::int8_t>(folder / "input_i8.npy", batched(in.shape), in.narrow());
        const std::string text = goldens.dump();
        run_network::write_file(folder / "goldens.json", std::as_bytes(std::span(text.data(), text.size())));
    }

    json model_;
    std::map<std::string, result> results;

private:
    static std::vector<std::int64_t> batched(std::vector<std::int64_t> shape) {
        shape.insert(shape.begin(), 1);
        return shape;
    }
    json& begin(const char* op, const std::string& name, const std::vector<std::string>& inputs) {
        json& ops = model_["ops"];
        ops.push_back({{"name", name}, {"op", op}, {"inputs", inputs}});
        return ops.back();
    }
    void finish(json& op, const std::string& name, result r) {
        op["output_shape"] = batched(r.shape);
        results[name] = std::move(r);
    }
    static json pair(const extent2d& e) { return {e.height, e.width}; }
    void window(json& op, const window2d& w) const {
        op["kernel"] = pair(w.kernel);
        op["stride"] = pair(w.stride);
        op["dilation"] = pair(w.dilation);
        op["pad"] = {w.padding.top, w.padding.bottom, w.padding.left, w.padding.right};
    }
    std::vector<std::int8_t> random_weights(const std::string& name, const std::vector<std::int64_t>& shape) {
        std::int64_t n = 1;
        for (const std::int64_t length : shape) n *= length;
        std::vector<std::int8_t> weights(static_cast<std::size_t>(n));
        fill(weights, random_);
        run_network::write_npy<std::int8_t>(folder_ / (name + ".weights.npy"), shape, weights);
        return weights;
    }
    static activation activation_of(const std::string& name) {
        return name == "none" ? activation::none : name == "relu" ? activation::relu : activation::relu6;
    }

    void convolution(const std::string& name, const std::string& from, std::int64_t outputs, std::int64_t kernel,
                     std::int64_t stride, const std::string& clamp) {
        layer(name, from, outputs, kernel, stride, clamp, false);
    }
    void depthwise(const std::string& name, const std::string& from, std::int64_t kernel, std::int64_t stride) {
        layer(name, from, results[from].shape[2], kernel, stride, "relu6", true);
    }
    void layer(const std::string& name, const std::string& from, std::int64_t outputs, std::int64_t kernel,
               std::int64_t stride, const std::string& clamp, bool channels_apart) {
        const result& in = results[from];
        json& op = begin(channels_apart ? "depthwise_conv2d" : "conv2d", name, {from});
        window2d w{.kernel = {kernel, kernel}, .stride = {stride, stride}};
        w.padding = same_padding(in.image(), w);
        window(op, w);
        op["cin"] = in.shape[2];
        op["cout"] = outputs;
        op["activation"] = clamp;
        // Some layers have an exponent for each channel.
        const bool by_channel = name != "first" && random_.integer(0, 2) == 0;
        std::vector<int> weight_exponents(by_channel ? static_cast<std::size_t>(outputs) : 1);
        for (int& e : weight_exponents) e = static_cast<int>(random_.integer(-9, -6));
        std::vector<std::int64_t> shape = {kernel, kernel, in.shape[2]};
        if (!channels_apart) shape.push_back(outputs);
        const std::vector<std::int8_t> weights = random_weights(name, shape);
        op["weights"] = {{"int", name + ".weights.npy"}, {"bits", 8}};
        if (weight_exponents.size() == 1) op["weights"]["exponent"] = weight_exponents[0];
        else op["weights"]["exponent"] = weight_exponents;
        std::vector<std::int16_t> bias(static_cast<std::size_t>(outputs));
        fill(bias, random_);
        run_network::write_npy<std::int16_t>(folder_ / (name + ".bias.npy"), std::vector<std::int64_t>{outputs}, bias);
        const int bias_exponent = static_cast<int>(random_.integer(-15, -9));
        op["bias"] = {{"quantized", true}, {"bits", 16}, {"exponent", bias_exponent}, {"int", name + ".bias.npy"}};
        result r;
        r.exponent = static_cast<int>(random_.integer(-5, -3));
        op["output_exponent"] = r.exponent;
        if (weight_exponents.size() == 1) {
            const int acc = in.exponent + weight_exponents[0];
            op["integer"] = {{"acc_exponent", acc}, {"requant_shift", r.exponent - acc}};
        }
        const int bias_exponents[] = {bias_exponent};
        requantization q{.input_exponent = in.exponent,
                         .weight_exponents = weight_exponents,
                         .bias_exponents = bias_exponents,
                         .output_exponent = r.exponent,
                         .clamp = activation_of(clamp)};
        std::vector<std::int32_t> sums;
        nhwc out;
        if (channels_apart) {
            const depthwise_conv2d_shape s{.input = in.image(), .window = w};
            out = s.output();
            sums.resize(static_cast<std::size_t>(out.elements()));
            reference::depthwise_conv2d_sums(s, in.narrow(), weights, bias_codes(bias), q, weight_layout::hwio, sums);
        } else {
            const conv2d_shape s{.input = in.image(), .outputs = outputs, .window = w};
            out = s.output();
            sums.resize(static_cast<std::size_t>(out.elements()));
            const std::vector<std::int16_t> wide(in.codes.begin(), in.codes.end());
            reference::conv2d_sums<std::int16_t>(s, wide, weights, bias_codes(bias), q, weight_layout::hwio, sums);
        }
        std::vector<std::int8_t> codes(sums.size());
        reference::requantize_sums(sums, codes, out.channels, q);
        r.shape = {out.height, out.width, out.channels};
        r.codes.assign(codes.begin(), codes.end());
        finish(op, name, std::move(r));
    }

    /// A layer without a grid of its own: floats, the exact sum and bias rounded once.
    void sums(const std::string& name, const std::string& from, std::int64_t outputs) {
        const result& in = results[from];
        json& op = begin("conv2d", name, {from});
        window(op, {});
        op["cin"] = in.shape[2];
        op["cout"] = outputs;
        const std::vector<std::int8_t> weights = random_weights(name, {1, 1, in.shape[2], outputs});
        const int weight_exponent = static_cast<int>(random_.integer(-9, -6));
        op["weights"] = {{"int", name + ".weights.npy"}, {"exponent", weight_exponent}};
        std::vector<std::int16_t> bias(static_cast<std::size_t>(outputs));
        fill(bias, random_);
        run_network::write_npy<std::int16_t>(folder_ / (name + ".bias.npy"), std::vector<std::int64_t>{outputs}, bias);
        const int bias_exponent = -20;  // finer than the sums
        op["bias"] = {{"quantized", true}, {"exponent", bias_exponent}, {"int", name + ".bias.npy"}};
        op["output_exponent"] = nullptr;
        result r;
        r.shape = {in.shape[0], in.shape[1], outputs};
        const auto inputs = static_cast<std::size_t>(in.shape[2]);
        for (std::size_t pixel = 0; pixel < in.codes.size() / inputs; ++pixel)
            for (std::size_t o = 0; o < bias.size(); ++o) {
                std::int64_t sum = 0;
                for (std::size_t c = 0; c < inputs; ++c)
                    sum += std::int64_t{in.codes[pixel * inputs + c]} * weights[c * bias.size() + o];
                r.floats.push_back(
                    static_cast<float>(std::ldexp(static_cast<double>(sum), in.exponent + weight_exponent) +
                                       std::ldexp(static_cast<double>(bias[o]), bias_exponent)));
            }
        finish(op, name, std::move(r));
    }

    void add(const std::string& name, const std::string& a, const std::string& b) {
        json& op = begin("add", name, {a, b});
        result r = results[a];
        r.exponent = static_cast<int>(random_.integer(-4, -2));
        op["output_exponent"] = r.exponent;
        op["activation"] = "relu";
        std::vector<std::int8_t> codes(r.codes.size());
        reference::add(results[a].narrow(), results[b].narrow(), codes, results[a].exponent, results[b].exponent,
                       r.exponent, rounding::half_up, {0, 127});
        r.codes.assign(codes.begin(), codes.end());
        finish(op, name, std::move(r));
    }
    void max_pool(const std::string& name, const std::string& from) {
        json& op = begin("max_pool2d", name, {from});
        const result& in = results[from];
        window2d w{.kernel = {2, 2}, .stride = {2, 2}};
        w.padding = same_padding(in.image(), w);
        window(op, w);
        const pool_shape s{in.image(), w};
        std::vector<std::int8_t> codes(static_cast<std::size_t>(s.output().elements()));
        reference::max_pool(s, in.narrow(), codes);
        finish(
            op, name,
            {{s.output().height, s.output().width, in.shape[2]}, in.exponent, false, {codes.begin(), codes.end()}, {}});
    }
    void reshape(const std::string& name, const std::string& from, const std::vector<std::int64_t>& shape) {
        json& op = begin("reshape", name, {from});
        result r = results[from];
        r.shape = shape;
        finish(op, name, std::move(r));
    }
    void concat(const std::string& name, const std::vector<std::string>& parts) {
        json& op = begin("concat", name, parts);
        op["axis"] = 1;
        result r = results[parts[0]];
        r.codes.clear();
        r.shape[0] = 0;
        for (const std::string& part : parts) {
            r.wide = r.wide || results[part].exponent != r.exponent;
            r.exponent = std::min(r.exponent, results[part].exponent);
        }
        for (const std::string& part : parts) {
            r.shape[0] += results[part].shape[0];
            for (const std::int32_t code : results[part].codes)
                r.codes.push_back(code * (1 << (results[part].exponent - r.exponent)));
        }
        finish(op, name, std::move(r));
    }
    void average(const std::string& name, const std::string& from) {
        json& op = begin("avg_pool2d", name, {from});
        const result& in = results[from];
        window(op, {.kernel = {in.shape[0], in.shape[1]}});
        op["output_exponent"] = nullptr;
        result r;
        r.shape = {1, 1, in.shape[2]};
        r.exponent = in.exponent;
        const pool_shape s{in.image(), {.kernel = {in.shape[0], in.shape[1]}}};
        r.codes.resize(static_cast<std::size_t>(in.shape[2]));
        reference::average_pool(s, std::span<const std::int8_t>(in.narrow()), std::span<std::int32_t>(r.codes));
        area_ = in.shape[0] * in.shape[1];
        exact_ = form_ == run_network::pool_form::exact && area_ * (signed_pool_ ? 128 : 127) <= 32767;
        if (!exact_) {
            // Sums that int16 does not hold leave as means of 16 bits.
            r.wide = form_ != run_network::pool_form::int8;
            if (r.wide) {
                std::vector<std::int16_t> means(r.codes.size());
                reference::average_pool(s, std::span<const std::int8_t>(in.narrow()), std::span<std::int16_t>(means));
                r.codes.assign(means.begin(), means.end());
                r.exponent -= 8;
            } else {
                std::vector<std::int8_t> means(r.codes.size());
                reference::average_pool(s, std::span<const std::int8_t>(in.narrow()), std::span<std::int8_t>(means));
                r.codes.assign(means.begin(), means.end());
            }
        }
        finish(op, name, std::move(r));
    }
    /// floor((2 N + D) / (2 D)) of the exact quotient: sums of codes times weights over the area, and a float bias.
    void dense(const std::string& name, const std::string& from, std::int64_t outputs) {
        const result& in = results[from];
        json& op = begin("conv2d", name, {from});
        window(op, {});
        op["cin"] = in.shape[2];
        op["cout"] = outputs;
        op["activation"] = "none";
        const int weight_exponent = -8;
        const std::vector<std::int8_t> weights = random_weights(name, {1, 1, in.shape[2], outputs});
        op["weights"] = {{"int", name + ".weights.npy"}, {"exponent", weight_exponent}};
        const int acc =
            (form_ == run_network::pool_form::int8 || exact_ ? in.exponent : in.exponent + 8) + weight_exponent;
        constexpr int fraction = 6;  // bits of the bias below the grid of the int8 plan
        std::vector<float> bias;
        std::vector<std::int64_t> bias_code;
        std::vector<std::int32_t> floor8;
        std::vector<std::int32_t> floor16;
        for (std::int64_t o = 0; o < outputs; ++o) {
            bias_code.push_back(random_.integer(-200000, 200000));
            bias.push_back(std::ldexp(static_cast<float>(bias_code.back()), acc - fraction));
            floor8.push_back(static_cast<std::int32_t>(bias_code.back() >> fraction));
            floor16.push_back(static_cast<std::int32_t>(bias_code.back() * 4));  // 8 bits finer, 6 are there
        }
        run_network::write_npy<float>(folder_ / "dense.bias.npy", std::vector<std::int64_t>{outputs}, bias);
        run_network::write_npy<std::int32_t>(folder_ / "dense.bias8.npy", std::vector<std::int64_t>{outputs}, floor8);
        run_network::write_npy<std::int32_t>(folder_ / "dense.bias16.npy", std::vector<std::int64_t>{outputs}, floor16);
        op["bias"] = {{"quantized", false}, {"float", "dense.bias.npy"}};
        result r;
        r.exponent = -2;
        op["output_exponent"] = r.exponent;
        op["integer"] = {
            {"input_int8",
             {{"acc_exponent", acc}, {"requant_shift", r.exponent - acc}, {"bias_int", "dense.bias8.npy"}}},
            {"input_int16",
             {{"acc_exponent", acc - 8}, {"requant_shift", r.exponent - acc + 8}, {"bias_int", "dense.bias16.npy"}}}};
        r.shape = {1, 1, outputs};
        const int shift = r.exponent - acc;
        for (std::int64_t o = 0; o < outputs; ++o) {
            std::int64_t sum = 0;
            for (std::size_t c = 0; c < in.codes.size(); ++c)
                sum += std::int64_t{in.codes[c]} *
                       weights[c * static_cast<std::size_t>(outputs) + static_cast<std::size_t>(o)];
            const auto at = static_cast<std::size_t>(o);
            // Over a common denominator.
            std::int64_t numerator = 0;
            std::int64_t denominator = 0;
            if (exact_) {
                numerator = (sum << fraction) + area_ * bias_code[at];
                denominator = area_ << (fraction + shift);
            } else if (form_ == run_network::pool_form::int8) {
                numerator = sum + floor8[at];
                denominator = std::int64_t{1} << shift;
            } else {
                numerator = sum + floor16[at];
                denominator = std::int64_t{1} << (shift + 8);
            }
            const std::int64_t twice = 2 * numerator + denominator;
            const std::int64_t y =
                twice >= 0 ? twice / (2 * denominator) : -((-twice + 2 * denominator - 1) / (2 * denominator));
            r.codes.push_back(static_cast<std::int32_t>(std::min<std::int64_t>(127, std::max<std::int64_t>(-128, y))));
        }
        finish(op, name, std::move(r));
    }
    void sigmoid(const std::string& name, const std::string& from) {
        json& op = begin("sigmoid", name, {from});
        result r;
        r.shape = results[from].shape;
        for (const std::int32_t code : results[from].codes)
            r.floats.push_back(static_cast<float>(1 / (1 + std::exp(-std::ldexp(code, results[from].exponent)))));
        finish(op, name, std::move(r));
    }

    fs::path folder_;
    random_source& random_;
    run_network::pool_form form_;
    std::int64_t area_ = 1;
    bool signed_pool_ = false;
    bool exact_ = true;
};

void check_same(const run_network::tensor& t, const result& want) {
    REQUIRE(t.shape == want.shape);
    if (t.type == run_network::element::float32) {
        for (std::size_t i = 0; i < want.floats.size(); ++i) CHECK(t.as<float>()[i] == want.floats[i]);
        return;
    }
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < want.codes.size(); ++i) {
        const std::int32_t code =
            t.type == run_network::element::int8 ? t.as<std::int8_t>()[i] : t.as<std::int16_t>()[i];
        wrong += code != want.codes[i];
    }
    CHECK(wrong == 0);
}

void set_input(run_network::network& net, const result& in) {
    const auto bytes = net.input();
    for (std::size_t i = 0; i < in.codes.size(); ++i) {
        if (in.wide) reinterpret_cast<std::int16_t*>(bytes.data())[i] = static_cast<std::int16_t>(in.codes[i]);
        else reinterpret_cast<std::int8_t*>(bytes.data())[i] = static_cast<std::int8_t>(in.codes[i]);
    }
}

TEST_CASE("digests of known messages") {
    CHECK(run_network::sha256({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    const char text[] = "abc";
    CHECK(run_network::sha256(std::as_bytes(std::span(text, 3))) ==
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("random networks equal the reference, op by op") {
    random_source random;
    const temporary_folder folder;
    const run_network::pool_form forms[] = {run_network::pool_form::exact, run_network::pool_form::int16,
                                            run_network::pool_form::int8};
    for (int round = 0; round < (full() ? 300 : 24); ++round) {
        const run_network::pool_form form = forms[round % 3];
        const random_network written(folder.path, random, form, round % 4 == 3);
        written.write_goldens();
        const run_network::model m = run_network::read_model(folder.path);
        for (const run_network::isa_kernels& isa : run_network::runnable_kernels()) {
            INFO("round " << round << ", " << isa.layers.arch);
            run_network::network net(m, isa.layers, form);
            set_input(net, written.results.at("image"));
            const run_network::goldens goldens(m, m.input_bits);
            run_network::comparison compared;
            net.run(run_network::executor{1}, [&](std::size_t i) {
                const run_network::layer& l = net.layers()[i];
                INFO(l.name);
                check_same(net.value(l.value), written.results.at(l.name));
                const run_network::comparison c = goldens.compare(l, net.value(l.value), form, 0);
                compared = {compared.compared + c.compared, compared.differing + c.differing};
            });
            CHECK(compared.compared > 0);
            CHECK(compared.differing == 0);
            // Outputs are still there, though others have been written where they could.
            for (const int output : m.outputs) check_same(net.value(output), written.results.at(m.name_of(output)));
#if defined(_OPENMP)
            set_input(net, written.results.at("image"));
            net.run(run_network::executor{2});
            for (const int output : m.outputs) check_same(net.value(output), written.results.at(m.name_of(output)));
#endif
        }
    }
}

TEST_CASE("goldens that differ are counted") {
    random_source random;
    const temporary_folder folder;
    const random_network written(folder.path, random, run_network::pool_form::exact, false);
    written.write_goldens();
    const fs::path golden = folder.path / "goldens" / "layers" / "left.i8.npy";
    auto array = run_network::read_npy<std::int8_t>(golden);
    array.values.front() = static_cast<std::int8_t>(array.values.front() ^ 1);
    array.values.back() = static_cast<std::int8_t>(array.values.back() ^ 2);
    run_network::write_npy<std::int8_t>(golden, array.shape, array.values);
    const run_network::model m = run_network::read_model(folder.path);
    run_network::network net(m, run_network::kernels_of("").layers);
    set_input(net, written.results.at("image"));
    const run_network::goldens goldens(m, 8);
    net.run(run_network::executor{1}, [&](std::size_t i) {
        const run_network::layer& l = net.layers()[i];
        CHECK(goldens.compare(l, net.value(l.value), run_network::pool_form::exact, 0).differing ==
              (l.name == "left" ? 2 : 0));
    });
}

TEST_CASE("npy files") {
    const temporary_folder folder;
    const fs::path file = folder.path / "x.npy";
    const std::vector<std::int16_t> values = {1, -2, 300, -32768, 5, 6};
    run_network::write_npy<std::int16_t>(file, std::vector<std::int64_t>{2, 3}, values);
    const auto read = run_network::read_npy<std::int16_t>(file);
    CHECK(read.shape == std::vector<std::int64_t>{2, 3});
    CHECK(read.values == values);
    const auto refused = [&](const std::string& part) {
        std::string message;
        try {
            run_network::read_npy<std::int16_t>(file);
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
        INFO("message: " << message << "; should name: " << part);
        CHECK(message.find(file.string()) == 0);
        CHECK(message.find(part) != std::string::npos);
        CHECK(message.find('\n') == std::string::npos);
    };
    std::ifstream stream(file, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(stream)), {});
    const auto write = [&](const std::string& text) {
        std::ofstream(file, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
    };
    const auto replaced = [&](const std::string& from, const std::string& to) {
        std::string text = all;
        text.replace(text.find(from), from.size(), to);
        return text;
    };
    // Cut off anywhere: refused, and nothing is read behind the end.
    for (std::size_t size = 0; size < all.size(); ++size) {
        write(all.substr(0, size));
        refused("");
    }
    write(all.substr(0, all.size() - 1));
    refused("11 bytes of values; its shape asks for 12");
    write(all + "x");
    refused("13 bytes of values; its shape asks for 12");
    write(replaced("<i2", "<i4"));
    refused("'<i4', not '<i2'");
    write(replaced("False", "True "));
    refused("C order");
    write(replaced("(2,3,)", "(-,3,)"));
    refused("no number");
    write(replaced("(2,3,)", "(2,3, "));
    refused("shape");
    fs::remove(file);
    refused("cannot be opened");
}

/// The model with one thing changed must be refused with a line that names the file and the parts.
class refusal {
public:
    refusal() : network_(folder_.path, random_, run_network::pool_form::exact, false) {}

    template <class Change>
    void operator()(Change change, std::initializer_list<const char*> parts) {
        json changed = network_.model_;
        change(changed);
        const std::string text = changed.dump();
        check(text, parts);
    }
    void check(const std::string& text, std::initializer_list<const char*> parts) {
        run_network::write_file(folder_.path / "model.json", std::as_bytes(std::span(text.data(), text.size())));
        std::string message;
        try {
            const run_network::model m = run_network::read_model(folder_.path);
            run_network::network net(m, run_network::kernels_of("").layers);
        } catch (const run_network::bad_model& error) {
            message = error.what();
        }
        INFO("message: " << (message.empty() ? "nothing was thrown" : message));
        CHECK(message.find(folder_.path.string()) == 0);
        CHECK(message.find('\n') == std::string::npos);
        for (const char* part : parts) {
            INFO("should name: " << part);
            CHECK(message.find(part) != std::string::npos);
        }
    }
    const fs::path& folder() const { return folder_.path; }

private:
    temporary_folder folder_;
    random_source random_;
    random_network network_;
};

TEST_CASE("models that are wrong are refused by file and field") {
    refusal refused;
    const auto op = [](json& m, const char* name) -> json& {
        for (json& o : m["ops"])
            if (o["name"] == name) return o;
        throw std::logic_error(name);
    };
    refused.check("{", {"model.json", "JSON"});
    refused.check("[]", {"model.json", "object"});
    refused([](json& m) { m.erase("input"); }, {"input", "missing"});
    refused([](json& m) { m["format"] = "onnx"; }, {"format", "onnx", "po2net"});
    refused([](json& m) { m["version"] = 2; }, {"version", "2", "1..1"});
    refused([](json& m) { m["input"]["exponent"] = 1000; }, {"input: exponent", "1000"});
    refused([](json& m) { m["input"]["exponent"] = "-7"; }, {"input: exponent", "\"-7\""});
    refused([](json& m) { m["input"]["shape"] = {2, 8, 8, 3}; }, {"input: shape", "2", "1"});
    refused([](json& m) { m["input"]["bits"] = 12; }, {"input: bits", "8", "16"});
    refused([](json& m) { m["outputs"] = {"nothing"}; }, {"outputs", "nothing"});
    refused([](json& m) { m["outputs"] = json::array(); }, {"outputs", "empty"});
    refused([](json& m) { m["ops"] = json::array(); }, {"ops", "empty"});
    refused([&](json& m) { op(m, "sum")["op"] = "multiply"; }, {"(sum)", "op", "multiply", "conv2d"});
    refused([&](json& m) { op(m, "sum").erase("name"); }, {"ops[4]", "name", "missing"});
    refused([&](json& m) { op(m, "sum")["name"] = "left"; }, {"(left)", "name", "before"});
    refused([&](json& m) { op(m, "sum")["inputs"] = {"left"}; }, {"(sum)", "inputs", "1", "2"});
    refused([&](json& m) { op(m, "sum")["inputs"] = {"left", "image"}; }, {"(sum)", "inputs", "shapes"});
    refused([&](json& m) { op(m, "sum")["inputs"] = {"left", "pooled"}; }, {"(sum)", "inputs[1]", "pooled"});
    refused([&](json& m) { op(m, "sum").erase("output_exponent"); }, {"(sum)", "output_exponent", "missing"});
    refused([&](json& m) { op(m, "first")["output_exponent"] = -200; }, {"(first)", "output_exponent", "-200"});
    refused([&](json& m) { op(m, "first")["output_exponent"] = -9; }, {"(first)", "requant_shift"});
    refused([&](json& m) { op(m, "first")["integer"]["acc_exponent"] = -30; }, {"(first)", "acc_exponent", "-30"});
    refused([&](json& m) { op(m, "dense")["integer"]["input_int8"]["bias_int"] = "left.bias.npy"; },
            {"left.bias.npy", "(dense)"});
    refused([&](json& m) { op(m, "first")["output_shape"] = {1, 1, 1, 8}; }, {"(first)", "output_shape", "1x1x1x8"});
    refused([&](json& m) { op(m, "first")["output_bits"] = 4; }, {"(first)", "output_bits", "4"});
    refused([&](json& m) { op(m, "first")["kernel"] = {3}; }, {"(first)", "kernel", "2 are needed"});
    refused([&](json& m) { op(m, "first")["stride"] = {0, 1}; }, {"(first)", "stride[0]", "0"});
    refused([&](json& m) { op(m, "first")["pad"] = {1, 1, -1, 1}; }, {"(first)", "pad[2]", "-1"});
    refused([&](json& m) { op(m, "first")["kernel"] = {3, 5}; }, {"(first)", "weights", "shape"});
    refused([&](json& m) { op(m, "first")["cin"] = 5; }, {"(first)", "weights", "shape"});
    refused([&](json& m) { op(m, "first")["activation"] = "gelu"; }, {"(first)", "activation", "gelu", "relu6"});
    refused([&](json& m) { op(m, "first")["weights"]["int"] = "missing.npy"; },
            {"missing.npy", "cannot be opened", "(first)"});
    refused([&](json& m) { op(m, "first")["weights"]["int"] = "../first.weights.npy"; },
            {"(first)", "weights: int", "folder"});
    refused([&](json& m) { op(m, "first")["weights"]["int"] = "first.bias.npy"; },
            {"first.bias.npy", "<i2", "(first)"});
    refused([&](json& m) { op(m, "first")["weights"]["int"] = "left.weights.npy"; },
            {"(first)", "weights: int", "shape"});
    refused(
        [&](json& m) {
            op(m, "first")["weights"]["exponent"] = {-7, -7, -7};
        },
        {"(first)", "weights: exponent", "3", "cout"});
    refused([&](json& m) { op(m, "first")["output_exponent"] = nullptr; },
            {"(first)", "activation", "output_exponent"});
    refused([&](json& m) { op(m, "first")["weights"]["layout"] = "OIHW"; }, {"(first)", "layout", "OIHW", "HWIO"});
    refused([&](json& m) { op(m, "first")["bias"]["int"] = "last.bias.npy"; }, {"(first)", "bias: int", "shape"});
    refused([&](json& m) { op(m, "first")["bias"]["exponent"] = 90; }, {"(first)", "accumulator"});
    refused([&](json& m) { op(m, "pooled")["kernel"] = {2000, 2000}; }, {"(pooled)"});
    refused([&](json& m) { op(m, "pooled")["output_exponent"] = 3; }, {"(pooled)", "output_exponent", "3"});
    refused([&](json& m) { op(m, "box_list")["output_shape"] = {1, 7, 4}; }, {"(box_list)", "output_shape", "28"});
    refused([&](json& m) { op(m, "all")["axis"] = 2; }, {"(all)", "inputs"});
    refused([&](json& m) { op(m, "all")["axis"] = 0; }, {"(all)", "axis", "0"});
    refused(
        [&](json& m) {
            op(m, "all")["inputs"] = {"box_list", "probabilities"};
        },
        {"(all)", "inputs[1]", "probabilities"});
    refused([&](json& m) { op(m, "dense")["inputs"] = {"all"}; }, {"(dense)", "inputs"});
    {
        std::ofstream(refused.folder() / "cut.npy", std::ios::binary) << "\x93NUMPY";
        refused([&](json& m) { op(m, "first")["weights"]["int"] = "cut.npy"; }, {"cut.npy", "(first)"});
    }
    fs::remove(refused.folder() / "model.json");
    std::string message;
    try {
        run_network::read_model(refused.folder());
    } catch (const run_network::bad_model& error) {
        message = error.what();
    }
    CHECK(message.find("cannot be opened") != std::string::npos);
}

}  // namespace
}  // namespace po2quant::test

// The original project's trained networks, run layer by layer with integer ops and compared with their goldens: every
// tensor that is given whole, and the SHA-256 of every layer of every image.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>

#include <po2quant/po2quant.hpp>

#include "inference/kernels.hpp"
#include "support/catch.hpp"
#include "support/npy.hpp"
#include "support/sha256.hpp"

namespace po2quant::test {
namespace {

using json = nlohmann::json;

#if defined(_OPENMP)
constexpr openmp_executor threads = openmp;
#else
constexpr serial_executor threads = serial;
#endif

/// Codes of a batch of images; exactly one of the two vectors is used.
struct tensor {
    nhwc shape;
    int exponent = 0;
    std::vector<std::int8_t> i8;
    std::vector<std::int16_t> i16;
};

struct counts {
    std::size_t values = 0;
    std::size_t digests = 0;
};

class network {
public:
    explicit network(const std::string& folder)
        : folder_(folder), model_(read(folder + "/model.json")), goldens_(read(folder + "/goldens/goldens.json")) {}

    /// Runs all images at once, with int8 input, or with the int16 input of the file `wide_input`.
    counts run(const std::optional<std::string>& wide_input) {
        digests_ = wide_input ? goldens_["input_i16"]["sha256"] : goldens_["sha256"];
        wide_ = wide_input.has_value();
        counted_ = {};
        tensors_.clear();
        tensor input;
        const auto load = [&](const auto& array, auto& codes) {
            images_ = array.shape[0];
            input.shape = {array.shape[0], array.shape[1], array.shape[2], array.shape[3]};
            codes = array.values;
        };
        if (wide_input) load(read_npy<std::int16_t>(folder_ + "/goldens/" + *wide_input), input.i16);
        else load(read_npy<std::int8_t>(folder_ + "/goldens/input_i8.npy"), input.i8);
        input.exponent =
            wide_input ? goldens_["input_i16"]["exponent"].get<int>() : goldens_["input_exponent"].get<int>();
        REQUIRE(images_ == static_cast<std::int64_t>(goldens_["images"].size()));
        tensors_[model_["input"]["name"]] = input;
        for (const json& op : model_["ops"]) step(op);
        return counted_;
    }

private:
    static json read(const std::string& path) {
        std::ifstream file(path);
        return json::parse(file);
    }

    void step(const json& op) {
        const std::string kind = op["op"];
        const std::string name = op["name"];
        INFO(folder_ << ": " << name);
        const tensor& in = tensors_.at(op["inputs"][0]);
        if (kind == "avg_pool2d") return average(op, in);
        if (kind == "sigmoid") return;  // float, behind the last integers
        tensor out;
        if (kind == "conv2d" || kind == "depthwise_conv2d") {
            if (tensors_.count(std::string(op["inputs"][0]) + ".sum")) return dense(op);
            out = convolve(op, in, bias_of(op), 0);
        } else if (kind == "max_pool2d") {
            const pool_shape shape{in.shape, window_of(op)};
            out = {shape.output(), in.exponent, std::vector<std::int8_t>(elements(shape.output())), {}};
            max_pool(shape, in.i8, out.i8, threads);
        } else if (kind == "reshape") {
            out = in;
        } else if (kind == "concat") {
            return join(op);
        } else {
            FAIL("unknown op " << kind);
        }
        compare(name, out);
        tensors_[name] = std::move(out);
    }

    struct bias {
        std::vector<std::int16_t> i16;
        std::vector<std::int32_t> i32;
        int exponent = 0;
        bias_codes codes() const { return i16.empty() ? bias_codes(i32) : bias_codes(i16); }
    };

    bias bias_of(const json& op) const {
        const json& b = op["bias"];
        if (b["quantized"])
            return {read_npy<std::int16_t>(folder_ + "/" + std::string(b["int"])).values, {}, b["exponent"]};
        return plan_bias(op["integer"]);
    }
    bias plan_bias(const json& plan) const {
        return {{}, read_npy<std::int32_t>(folder_ + "/" + std::string(plan["bias_int"])).values, plan["acc_exponent"]};
    }

    static window2d window_of(const json& op) {
        const json& pad = op["pad"];
        return {.kernel = {op["kernel"][0], op["kernel"][1]},
                .stride = {op["stride"][0], op["stride"][1]},
                .padding = {pad[0], pad[1], pad[2], pad[3]}};
    }
    static std::size_t elements(const nhwc& shape) { return static_cast<std::size_t>(shape.elements()); }

    /// One convolution; with `sums` its int32 sums are kept instead of codes.
    tensor convolve(const json& op, const tensor& in, const bias& b, std::vector<std::int32_t>* sums) const {
        const auto weights = read_npy<std::int8_t>(folder_ + "/" + std::string(op["weights"]["int"])).values;
        const int weight_exponents[] = {op["weights"]["exponent"].get<int>()};
        const int bias_exponents[] = {b.exponent};
        const requantization q{.input_exponent = in.exponent,
                               .weight_exponents = weight_exponents,
                               .bias_exponents = bias_exponents,
                               .output_exponent = op["output_exponent"],
                               .clamp = op["activation"] == "relu6" ? activation::relu6 : activation::none,
                               .input_format = in.i16.empty() ? int8 : int16};
        tensor out;
        out.exponent = q.output_exponent;
        const auto run = [&](const auto& layer) {
            out.shape = layer.output();
            out.i8.resize(elements(out.shape));
            if constexpr (requires { layer.run(in.i16, out.i8, threads); }) {
                if (sums != nullptr) {
                    sums->resize(out.i8.size());
                    layer.accumulate(in.i16, *sums, threads);
                    return;
                }
                if (!in.i16.empty()) return layer.run(in.i16, out.i8, threads);
            }
            layer.run(in.i8, out.i8, threads);
        };
        if (op["op"] == "depthwise_conv2d")
            run(make_layer(depthwise_conv2d_shape{.input = in.shape, .window = window_of(op)}, weights, b.codes(), q));
        else
            run(make_layer(conv2d_shape{.input = in.shape, .outputs = op["cout"], .window = window_of(op)}, weights,
                           b.codes(), q));
        return out;
    }

    /// The pool in its three forms.
    void average(const json& op, const tensor& in) {
        const std::string name = op["name"];
        const pool_shape shape{in.shape, window_of(op)};
        const std::size_t n = elements(shape.output());
        std::vector<std::int32_t> sums(n);
        tensor i16{shape.output(), in.exponent - 8, {}, std::vector<std::int16_t>(n)};
        tensor i8{shape.output(), in.exponent, std::vector<std::int8_t>(n), {}};
        average_pool(shape, in.i8, sums, threads);
        average_pool(shape, in.i8, i16.i16, threads);
        average_pool(shape, in.i8, i8.i8, threads);
        compare_values(name + ".sum_i32", std::span<const std::int32_t>(sums), static_cast<std::int64_t>(n) / images_);
        compare(name + ".i16", i16);
        compare(name + ".i8", i8);
        // A sum of up to 255 codes fits int16, so the exact form is a convolution of the sums.
        tensor sum{shape.output(), in.exponent, {}, {}};
        for (const std::int32_t s : sums) sum.i16.push_back(static_cast<std::int16_t>(s));
        area_ = op["integer"]["area"];
        tensors_[name] = i8;
        tensors_[name + ".i16"] = std::move(i16);
        tensors_[name + ".sum"] = std::move(sum);
    }

    /// The layer behind the average pool, from each of the pool's forms.
    void dense(const json& op) {
        const std::string name = op["name"];
        const std::string from = op["inputs"][0];
        const json& plan = op["integer"];
        const bias narrow = plan_bias(plan["input_int8"]);
        tensor out = convolve(op, tensors_.at(from + ".i16"), plan_bias(plan["input_int16"]), nullptr);
        const tensor from_i8 = convolve(op, tensors_.at(from), narrow, nullptr);
        // y = floor((2 (acc + area b) + area 2^s) / (2 area 2^s)), from the sums
        std::vector<std::int32_t> acc;
        convolve(op, tensors_.at(from + ".sum"), {}, &acc);
        const int shift = plan["input_int8"]["requant_shift"];
        tensor exact = out;
        for (std::size_t i = 0; i < acc.size(); ++i) {
            const std::int64_t b = narrow.i32[i % narrow.i32.size()];
            const std::int64_t y = rounded_mean(acc[i] + area_ * b, area_ * (std::int64_t{1} << shift), 0);
            exact.i8[i] = saturate<std::int8_t>(y);
        }
        if (wide_) {
            compare(name, exact);
        } else {
            compare(name + ".i8", exact);
            compare(name + ".i8", out);
            compare(name + ".int8pool.i8", from_i8);
        }
        tensors_[name] = std::move(exact);
    }

    /// Parts along the rows of [N][rows][columns]: per image one behind the other. Exponents that differ need int16.
    void join(const json& op) {
        std::vector<concat_part<std::int8_t>> parts;
        std::int64_t channels = 0;
        int finest = max_exponent;
        bool differ = false;
        for (const json& input : op["inputs"]) {
            const tensor& part = tensors_.at(input);
            const std::int64_t size = part.shape.elements() / images_;
            differ = differ || (!parts.empty() && part.exponent != parts[0].exponent);
            finest = std::min(finest, part.exponent);
            parts.push_back({part.i8, size, part.exponent});
            channels += size;
        }
        tensor out{{images_, 1, 1, channels}, finest, {}, {}};
        const std::span<const concat_part<std::int8_t>> all(parts);
        const std::size_t n = static_cast<std::size_t>(images_ * channels);
        if (differ) {
            out.i16.resize(n);
            concat(all, images_, out.i16, {.output_exponent = finest}, threads);
        } else {
            out.i8.resize(n);
            concat(all, images_, out.i8, {.output_exponent = finest}, threads);
        }
        CHECK(finest == goldens_["exponents"][std::string(op["name"])]);
        compare(op["name"], out);
        tensors_[op["name"]] = std::move(out);
    }

    void compare(const std::string& name, const tensor& t) {
        const std::int64_t size = t.shape.elements() / images_;
        if (t.i16.empty()) compare_values(name, std::span<const std::int8_t>(t.i8), size);
        else compare_values(name, std::span<const std::int16_t>(t.i16), size);
    }

    /// Every image's digest, and the images that are given whole.
    template <class T>
    void compare_values(const std::string& name, std::span<const T> values, std::int64_t size) {
        INFO(name);
        std::string key = name;
        const auto& first = digests_[std::string(goldens_["images"][0]["name"])];
        if (wide_ && name.starts_with("AvgPool")) return;  // no digests of it are given for this input
        if (!first.contains(key)) key += ".i8";            // names of layers behind a pool carry its form
        for (std::int64_t n = 0; n < images_; ++n) {
            const auto image = values.subspan(static_cast<std::size_t>(n * size), static_cast<std::size_t>(size));
            const auto& digests = digests_[std::string(goldens_["images"][static_cast<std::size_t>(n)]["name"])];
            REQUIRE(digests.contains(key));
            CHECK(sha256(std::as_bytes(image)) == digests[key]);
            ++counted_.digests;
        }
        const char* suffix = sizeof(T) == 1 ? ".i8" : (sizeof(T) == 2 ? ".i16" : "");
        const std::vector<std::string> paths = wide_ ? std::vector{name + ".input_i16" + suffix}
                                                     : std::vector{"layers/" + name + suffix, name + suffix, name};
        for (const std::string& path : paths) {
            const std::string file = folder_ + "/goldens/" + path + ".npy";
            if (!std::filesystem::exists(file)) continue;
            const npy_array<T> golden = read_npy<T>(file);
            REQUIRE(golden.values.size() <= values.size());
            CHECK(std::equal(golden.values.begin(), golden.values.end(), values.begin()));
            counted_.values += golden.values.size();
            return;
        }
    }

    std::string folder_;
    json model_;
    json goldens_;
    json digests_;
    bool wide_ = false;
    std::int64_t images_ = 0;
    std::int64_t area_ = 1;
    std::map<std::string, tensor> tensors_;
    counts counted_;
};

/// The networks' folder, or nothing where there is none.
std::optional<std::string> folder_of(const char* name) {
    const char* data = std::getenv("PO2QUANT_DATA_DIR");
    if (data == nullptr) return {};
    const std::string folder = std::string(data) + "/seednets/" + name;
    return std::filesystem::exists(folder + "/model.json") ? std::optional(folder) : std::nullopt;
}

void run(const char* name, const std::optional<std::string>& wide_input = {}) {
    const auto folder = folder_of(name);
    if (!folder) {
        std::printf("SKIP: %s is not in $PO2QUANT_DATA_DIR/seednets\n", name);
        std::exit(77);
    }
    const counts c = network(*folder).run(wide_input);
    CHECK(c.digests > 0);
    CHECK(c.values > 0);
    std::printf("%s, %s input: %zu values and %zu digests compared\n", name, wide_input ? "int16" : "int8", c.values,
                c.digests);
}

TEST_CASE("digests of known messages") {
    CHECK(sha256({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    const char text[] = "abc";
    CHECK(sha256(std::as_bytes(std::span(text, 3))) ==
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("cifar10, int8 input") { run("cifar10_mobilenet_v1_025_128"); }
TEST_CASE("cifar10, int16 input") { run("cifar10_mobilenet_v1_025_128", "input_i16_e-11.npy"); }
TEST_CASE("faceattr") { run("faceattr_mobilenet_v1_050_160"); }
TEST_CASE("pets_face") { run("pets_face_ssd_ppn_mnetv1_050_160"); }

}  // namespace
}  // namespace po2quant::test

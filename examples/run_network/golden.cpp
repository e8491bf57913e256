#include "golden.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>

#include <nlohmann/json.hpp>

#include "npy.hpp"
#include "sha256.hpp"

namespace run_network {

namespace fs = std::filesystem;
using json = nlohmann::json;

struct goldens::contents {
    fs::path folder;
    bool wide = false;
    int exponent = 0;
    std::size_t image_bytes = 0;
    std::vector<std::string> names;
    std::vector<int> labels;  ///< -1 where none is given
    std::vector<std::byte> images;
    json digests;
    /// Arrays that were read, by path; shape[0] counts images.
    struct array {
        std::vector<std::byte> bytes;
        std::size_t images = 0;
    };
    mutable std::map<fs::path, array> arrays;

    template <class T>
    const array& read(const fs::path& file) const {
        const auto found = arrays.find(file);
        if (found != arrays.end()) return found->second;
        const npy_array<T> all = read_npy<T>(file);
        array a;
        a.images = all.shape.empty() ? 0 : static_cast<std::size_t>(all.shape[0]);
        const auto bytes = std::as_bytes(std::span(all.values));
        a.bytes.assign(bytes.begin(), bytes.end());
        return arrays[file] = std::move(a);
    }
};

goldens::goldens(const model& m, int input_bits) : contents_(std::make_unique<contents>()) {
    contents& c = *contents_;
    c.folder = m.folder / "goldens";
    c.wide = input_bits == 16;
    const fs::path file = c.folder / "goldens.json";
    const auto fail = [&](const std::string& what) { throw bad_model(file.string() + ": " + what); };
    std::ifstream stream(file);
    if (!stream) fail("cannot be opened");
    json all;
    try {
        all = json::parse(stream);
        for (const json& image : all.at("images")) {
            c.names.push_back(image.at("name"));
            c.labels.push_back(image.value("label", -1));
        }
        const bool own_key = c.wide && m.input_bits == 8;  // digests for int16 inputs beside those for int8
        const json& set = own_key ? all.at("input_i16") : all;
        c.digests = set.at("sha256");
        c.exponent = set.at(own_key ? "exponent" : "input_exponent");
    } catch (const json::exception& error) {
        fail(error.what());
    }
    const std::string input = !c.wide ? "input_i8.npy" : "input_i16_e" + std::to_string(c.exponent) + ".npy";
    const auto take = [&]<class T>(T) {
        const npy_array<T> images = read_npy<T>(c.folder / input);
        std::vector<std::int64_t> shape = m.input_shape;
        shape.insert(shape.begin(), static_cast<std::int64_t>(c.names.size()));
        if (images.shape != shape)
            throw bad_model((c.folder / input).string() + ": its shape is not that of " +
                            std::to_string(c.names.size()) + " images of the network's input");
        const auto bytes = std::as_bytes(std::span(images.values));
        c.images.assign(bytes.begin(), bytes.end());
    };
    if (c.wide) take(std::int16_t{});
    else take(std::int8_t{});
    if (c.names.empty()) fail("names no images");
    c.image_bytes = c.images.size() / c.names.size();
}

goldens::~goldens() = default;

int goldens::input_exponent() const { return contents_->exponent; }
std::size_t goldens::images() const { return contents_->names.size(); }
const std::string& goldens::name_of(std::size_t image) const { return contents_->names[image]; }
int goldens::label_of(std::size_t image) const { return contents_->labels[image]; }
std::span<const std::byte> goldens::input(std::size_t image) const {
    return std::span<const std::byte>(contents_->images)
        .subspan(image * contents_->image_bytes, contents_->image_bytes);
}

comparison goldens::compare(const layer& l, const tensor& result, pool_form form, std::size_t image) const {
    const contents& c = *contents_;
    // What an average pool leaves, and what follows from its rounding, is named by its form.
    std::vector<std::int32_t> sums;
    std::span<const std::byte> bytes = result.bytes();
    std::string suffix = result.type == element::int8 ? ".i8" : result.type == element::int16 ? ".i16" : "";
    std::vector<std::string> keys;
    if (l.kind == op_kind::avg_pool2d) {
        if (std::string(l.form) == "exact") {
            for (const std::int16_t code : result.as<std::int16_t>()) sums.push_back(code);
            bytes = std::as_bytes(std::span(sums));
            keys = {l.name + ".sum_i32"};
        } else {
            keys = {l.name + suffix, l.name};
        }
    } else if (form == pool_form::int8) {
        keys = {l.name + ".int8pool" + suffix, l.name + suffix, l.name};
    } else {
        keys = {l.name + suffix, l.name};
    }
    const auto count = static_cast<std::int64_t>(result.elements());
    const std::size_t element_bytes = sums.empty() ? result.element_bytes() : 4;

    // Whole arrays of the first images tell how many values differ.
    const auto compare_array = [&](const fs::path& file) -> std::optional<comparison> {
        if (!fs::exists(file)) return {};
        const contents::array& golden = element_bytes == 1   ? c.read<std::int8_t>(file)
                                        : element_bytes == 2 ? c.read<std::int16_t>(file)
                                                             : c.read<std::int32_t>(file);
        if (image >= golden.images) return {};
        if (golden.bytes.size() != golden.images * bytes.size())
            throw bad_model(file.string() + ": its images do not have the op's " + std::to_string(count) + " values");
        comparison found{count, 0};
        const std::byte* want = golden.bytes.data() + image * bytes.size();
        for (std::size_t i = 0; i < bytes.size(); i += element_bytes)
            found.differing += std::memcmp(bytes.data() + i, want + i, element_bytes) != 0;
        return found;
    };
    const auto digest_of = [&](const std::string& key) -> const std::string* {
        const auto digests = c.digests.find(c.names[image]);
        if (digests == c.digests.end() || !digests->contains(key)) return nullptr;
        return digests->at(key).get_ptr<const std::string*>();
    };
    // Floats: sums, which are exact; or such that end in an exponential, to the last digits.
    if (result.type == element::float32 && l.kind != op_kind::sigmoid) {
        const std::string* digest = digest_of(l.name);
        return digest == nullptr ? comparison{} : comparison{count, sha256(bytes) == *digest ? 0 : count};
    }
    if (result.type == element::float32) {
        const fs::path file =
            c.folder / ((c.wide ? "graph_f32_float_input." : "graph_f32_int8_input.") + l.name + ".npy");
        if (!fs::exists(file)) return {};
        const contents::array& golden = c.read<float>(file);
        if (image >= golden.images) return {};
        if (golden.bytes.size() != golden.images * bytes.size())
            throw bad_model(file.string() + ": its images do not have the op's " + std::to_string(count) + " values");
        comparison found{count, 0};
        const auto* want = reinterpret_cast<const float*>(golden.bytes.data() + image * bytes.size());
        for (std::int64_t i = 0; i < count; ++i) {
            const float y = result.as<float>()[static_cast<std::size_t>(i)];
            found.differing += !(std::abs(y - want[i]) <= 1e-6F * std::abs(want[i]));
        }
        return found;
    }
    if (c.wide) {
        if (const auto found = compare_array(c.folder / (l.name + ".input_i16" + suffix + ".npy"))) return *found;
    } else {
        for (const std::string& key : keys)
            for (const fs::path& file : {c.folder / "layers" / (key + ".npy"), c.folder / (key + ".npy")})
                if (const auto found = compare_array(file)) return *found;
    }
    for (const std::string& key : keys)
        if (const std::string* digest = digest_of(key)) return {count, sha256(bytes) == *digest ? 0 : count};
    return {};
}

}  // namespace run_network

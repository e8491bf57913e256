/// Trains a MobileNet with libtorch, in float32 and on power-of-two grids, and runs it by integers with the same bits.
#include <torch/serialize.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "../quickstart/data.hpp"
#include "integer_network.hpp"
#include "training.hpp"

using namespace po2quant_torch;

namespace {

constexpr const char* help =
    "torch_train: MobileNetV1 of a quarter of the channels in libtorch, quantized to powers of two, run by integers\n"
    "  --data DIR    folder of Fashion-MNIST's four .gz files; without it $PO2QUANT_DATA_DIR/datasets/fashion-mnist,\n"
    "                and where neither is there, shapes drawn by this program\n"
    "  --shapes      the drawn shapes, whatever is there\n"
    "  --steps N     of training in float32, 600 by default; half as many of fine-tuning with each method\n"
    "  --bits N      of weights between the first and the last layer, 8 by default\n"
    "  --test N      test pictures, all 10000 by default; a multiple of 500\n"
    "  --seed N      of weights and batches, 0 by default\n"
    "  --out DIR     where pictures.pt, float32.pt, ema.pt and tqt.pt go, for Python's torch.load, "
    "weights_only=False\n";

constexpr std::int64_t batch_size = 128;
constexpr std::int64_t test_batch = 500;

struct arguments {
    std::filesystem::path data = {};
    bool shapes = false;
    std::int64_t steps = 600;
    std::int64_t bits = 8;
    std::int64_t test = 10000;
    std::int64_t seed = 0;
    std::filesystem::path out = {};
};

std::int64_t number(const std::string& option, const std::string& text, std::int64_t low, std::int64_t high) {
    std::size_t read = 0;
    std::int64_t value = low - 1;
    try {
        value = std::stoll(text, &read);
    } catch (const std::logic_error&) {
    }
    if (read != text.size() || value < low || value > high)
        throw std::invalid_argument(option + " is " + text + ", allowed: " + std::to_string(low) + ".." +
                                    std::to_string(high));
    return value;
}

arguments read_arguments(int count, char** texts) {
    arguments given;
    for (int i = 1; i < count; ++i) {
        const std::string option = texts[i];
        if (option == "--help") {
            std::fputs(help, stdout);
            std::exit(0);
        }
        if (option == "--shapes") {
            given.shapes = true;
            continue;
        }
        const std::string value = i + 1 < count ? texts[++i] : "";
        if (value.empty()) throw std::invalid_argument(option + " is not an option, or lacks its value; see --help");
        if (option == "--data") given.data = value;
        else if (option == "--steps") given.steps = number(option, value, 2, 1'000'000);
        else if (option == "--bits") given.bits = number(option, value, 2, 8);
        else if (option == "--test") given.test = number(option, value, test_batch, 10000);
        else if (option == "--seed") given.seed = number(option, value, 0, 1'000'000);
        else if (option == "--out") given.out = value;
        else throw std::invalid_argument(option + " is not an option; see --help");
    }
    if (given.test % test_batch != 0)
        throw std::invalid_argument("--test is " + std::to_string(given.test) + ", allowed: multiples of 500");
    return given;
}

quickstart::dataset load_data(const arguments& given) {
    if (!given.shapes)
        if (const auto folder = quickstart::find_fashion_mnist(given.data))
            return quickstart::load_fashion_mnist(*folder);
    return quickstart::draw_shapes(static_cast<std::uint64_t>(given.seed));
}

/// The images as they lie in memory.
Pictures pictures_of(quickstart::labelled_images& set) {
    constexpr std::int64_t side = quickstart::image_side;
    return {torch::from_blob(set.pixels.data(), {set.count(), 1, side, side}, at::kByte),
            torch::from_blob(set.labels.data(), {set.count()}, at::kByte).to(at::kLong)};
}

void save(const arguments& given, const char* name, const c10::Dict<std::string, Tensor>& content) {
    if (given.out.empty()) return;
    std::filesystem::create_directories(given.out);
    const std::vector<char> bytes = torch::pickle_save(content);
    std::ofstream file(given.out / name, std::ios::binary);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush();
    if (!file) throw std::runtime_error("cannot write " + (given.out / name).string());
}

struct comparison {
    std::int64_t values = 0;
    std::int64_t differing = 0;
    std::int64_t right = 0;      ///< of the integers
    std::int64_t uncertain = 0;  ///< layers whose sums float32 may round
};

/// Every value of every layer, fake-quantized in float32 beside integers.
comparison compare(MobileNetV1 network, const Pictures& pictures) {
    const torch::NoGradGuard without_gradients;
    comparison result;
    std::vector<IntegerLayer> layers = integer_layers(network, pictures.images.slice(0, 0, test_batch).sizes());
    for (const IntegerLayer& layer : layers) result.uncertain += layer.exact ? 0 : 1;
    for (std::int64_t i = 0; i + test_batch <= pictures.labels.size(0); i += test_batch) {
        const Tensor images = pictures.images.slice(0, i, i + test_batch);
        Tensor values = as_input(images);
        Tensor codes = (images.to(at::kShort) - 128).to(at::kChar).contiguous(at::MemoryFormat::ChannelsLast);
        for (IntegerLayer& layer : layers) {
            values = layer.fake_quantized(values);
            layer.compute(codes);
            codes = layer.output;
            const Tensor of_codes = (codes.to(at::kDouble) * std::ldexp(1.0, layer.exponent)).view(values.sizes());
            const auto differing = of_codes.ne(values).sum().item<std::int64_t>();
            if (differing != 0 && result.differing == 0)
                std::fprintf(stderr, "torch_train: %s: %lld values differ\n", layer.name.c_str(),
                             static_cast<long long>(differing));
            result.values += values.numel();
            result.differing += differing;
        }
        result.right += codes.argmax(1).eq(pictures.labels.slice(0, i, i + test_batch)).sum().item<std::int64_t>();
    }
    return result;
}

int run(const arguments& given) {
    quickstart::dataset data = load_data(given);
    const Pictures learned = pictures_of(data.train);
    Pictures test = pictures_of(data.test);
    test = {test.images.slice(0, 0, given.test), test.labels.slice(0, 0, given.test)};
    save(given, "pictures.pt", [&] {
        c10::Dict<std::string, Tensor> both;
        both.insert("train.images", learned.images);
        both.insert("train.labels", learned.labels);
        both.insert("test.images", test.images);
        both.insert("test.labels", test.labels);
        return both;
    }());
    std::printf("%s: %lld pictures to learn from, %lld to test with\n", data.name.c_str(),
                static_cast<long long>(learned.labels.size(0)), static_cast<long long>(test.labels.size(0)));
    const auto percent = [&](std::int64_t count) {
        return 100.0 * static_cast<double>(count) / static_cast<double>(test.labels.size(0));
    };
    const auto seed = static_cast<std::uint64_t>(given.seed);

    torch::manual_seed(seed);
    MobileNetV1 floats(1, quickstart::class_count);
    to_channels_last(*floats);
    Batches batches(learned, batch_size, seed);
    const double loss = train(floats, batches, given.steps, float_rate);
    std::printf("float32: loss %.4f, %.2f %% right\n", loss, percent(right(floats, test)));
    const auto float_state = state_dict(*floats);
    save(given, "float32.pt", float_state);

    std::int64_t differing = 0;
    for (const bool trained : {false, true}) {
        const Scheme scheme{.weight_bits = given.bits, .trained = trained};
        MobileNetV1 network(1, quickstart::class_count, scheme);
        load_state_dict(*network, float_state);
        to_channels_last(*network);
        Batches tuning(learned, batch_size, seed + 1000);
        calibrate(network, tuning, scheme.delay);
        const double tuned_loss = train(network, tuning, given.steps / 2, tuning_rate, true);
        save(given, trained ? "tqt.pt" : "ema.pt", state_dict(*network));
        const std::int64_t fake_quantized = right(network, test);
        const comparison integers = compare(network, test);
        std::printf(
            "%s: loss %.4f, fake-quantized %.2f %%, integers %.2f %% right; %lld values compared, %lld differ; "
            "%lld layers without a certificate\n",
            trained ? "TQT" : "EMA", tuned_loss, percent(fake_quantized), percent(integers.right),
            static_cast<long long>(integers.values), static_cast<long long>(integers.differing),
            static_cast<long long>(integers.uncertain));
        differing += integers.differing;
    }
    return differing == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** texts) {
    try {
        return run(read_arguments(count, texts));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "torch_train: %s\n", e.what());
        return 2;
    }
}

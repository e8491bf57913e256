#pragma once
/// Pictures in, codes for a network out, as the original project preprocesses them.
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace run_network {

/// [height][width][channels], 8 bits each.
struct picture {
    std::int64_t height = 0;
    std::int64_t width = 0;
    std::int64_t channels = 0;
    std::vector<std::uint8_t> pixels = {};
};

/// A .ppm or .pgm (binary, 8 bits) or a .npy of uint8 [H][W][C] or [H][W]. Throws std::runtime_error, naming the file.
picture read_picture(const std::filesystem::path& file);

/// A .ppm of 3 channels; one channel is shown as grey. Throws std::runtime_error, naming the file.
void write_ppm(const std::filesystem::path& file, const picture& p);

/// TensorFlow 1's, with align_corners off: output pixel y samples input y * (input size / output size).
enum class resize_method { nearest, bilinear };
std::vector<float> resized(const picture& p, std::int64_t height, std::int64_t width, resize_method method);

/// The codes of (v - 128) / 128, rounded half up to `exponent` and saturated: int8 or int16, as `codes` is large.
void to_codes(std::span<const float> values, int exponent, std::span<std::byte> codes);

struct labelled_picture {
    int label = 0;
    picture image = {};
};

/// CIFAR-10 as its binary version has it: records of a label and 3 planes of 32x32. FILE.bin, or FILE.bin.xz where that
/// is what there is. Throws std::runtime_error, naming the file.
std::vector<labelled_picture> read_cifar10(const std::filesystem::path& file);

}  // namespace run_network

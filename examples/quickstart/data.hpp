#pragma once
/// Images to learn from: Fashion-MNIST's four files, or shapes drawn here when they are not there.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace quickstart {

inline constexpr int image_side = 28;
inline constexpr int image_pixels = image_side * image_side;
inline constexpr int class_count = 10;

/// Grey images of 28×28 bytes, one behind the other, and their classes.
struct labelled_images {
    std::vector<std::uint8_t> pixels;
    std::vector<std::uint8_t> labels;

    std::int64_t count() const { return static_cast<std::int64_t>(labels.size()); }
    const std::uint8_t* image(std::int64_t i) const { return pixels.data() + i * image_pixels; }
};

struct dataset {
    std::string name;
    labelled_images train;
    labelled_images test;
};

/// Where the files are: `given`, else $PO2QUANT_DATA_DIR/datasets/fashion-mnist; nothing if they are in neither.
/// Throws std::runtime_error where a folder was given and they are not in it.
std::optional<std::filesystem::path> find_fashion_mnist(const std::filesystem::path& given);

/// Reads the four official gzip-compressed IDX files. Throws std::runtime_error for a file that is not what it should
/// be.
dataset load_fashion_mnist(const std::filesystem::path& folder);

/// Ten classes of shapes at random places, sizes, angles and greys, with noise; the same for the same seed.
dataset draw_shapes(std::uint64_t seed);

}  // namespace quickstart

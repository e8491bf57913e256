#pragma once
/// NumPy's .npy files: little-endian numbers in C order.
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace run_network {

template <class T>
struct npy_array {
    std::vector<std::int64_t> shape;
    std::vector<T> values;
};

/// Reads versions 1 and 2. T is int8_t, uint8_t, int16_t, int32_t or float. Throws std::runtime_error, naming the file,
/// for one that is missing, damaged, cut off, or of another element type.
template <class T>
npy_array<T> read_npy(const std::filesystem::path& file);

/// Writes version 1. Throws std::runtime_error, naming the file, where that fails; then there is no file of that name.
template <class T>
void write_npy(const std::filesystem::path& file, std::span<const std::int64_t> shape, std::span<const T> values);

/// Writes a whole file or nothing: to a name of its own, then renamed. Throws std::runtime_error, naming the file.
void write_file(const std::filesystem::path& file, std::span<const std::byte> bytes);

}  // namespace run_network

#include "npy.hpp"

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace run_network {

namespace fs = std::filesystem;

namespace {

template <class T>
std::string type_name() {
    return std::string(sizeof(T) == 1 ? "|" : "<") +
           (std::is_floating_point_v<T> ? "f"
            : std::is_signed_v<T>       ? "i"
                                        : "u") +
           std::to_string(sizeof(T));
}

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
    throw std::runtime_error(file.string() + ": " + what);
}

/// What stands behind `'key': ` in the header's dictionary, up to the end of the header.
std::string value_of(const fs::path& file, const std::string& header, const std::string& key) {
    const std::size_t at = header.find("'" + key + "':");
    if (at == std::string::npos) fail(file, "its header has no '" + key + "'");
    const std::size_t begin = header.find_first_not_of(' ', at + key.size() + 3);
    return begin == std::string::npos ? std::string() : header.substr(begin);
}

std::vector<std::int64_t> shape_of(const fs::path& file, const std::string& text) {
    std::vector<std::int64_t> shape;
    std::size_t at = 1;
    if (text.empty() || text[0] != '(') fail(file, "its shape is no tuple");
    while (true) {
        at = text.find_first_not_of(", ", at);
        if (at == std::string::npos) fail(file, "its shape has no end");
        if (text[at] == ')') return shape;
        std::int64_t length = 0;
        const std::size_t first = at;
        for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
            length = length * 10 + (text[at] - '0');
            if (length > std::int64_t{1} << 32) fail(file, "its shape has a length above 2^32");
        }
        if (at == first) fail(file, "its shape has something that is no number");
        shape.push_back(length);
    }
}

}  // namespace

template <class T>
npy_array<T> read_npy(const fs::path& file) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) fail(file, "cannot be opened");
    const std::string all((std::istreambuf_iterator<char>(stream)), {});
    if (all.size() < 12 || std::memcmp(all.data(), "\x93NUMPY", 6) != 0) fail(file, "is no .npy file");
    const auto version = static_cast<unsigned char>(all[6]);
    if (version != 1 && version != 2) fail(file, "is of version " + std::to_string(version) + "; 1 and 2 are read");
    std::size_t length = 0;
    const std::size_t length_bytes = version == 1 ? 2 : 4;
    for (std::size_t i = 0; i < length_bytes; ++i)
        length |= static_cast<std::size_t>(static_cast<unsigned char>(all[8 + i])) << (8 * i);
    const std::size_t begin = 8 + length_bytes + length;
    if (begin > all.size()) fail(file, "ends inside its header");
    const std::string header = all.substr(8 + length_bytes, length);
    const std::string type = value_of(file, header, "descr");
    const std::string wanted = "'" + type_name<T>() + "'";
    if (!type.starts_with(wanted)) fail(file, "its elements are " + type.substr(0, type.find(',')) + ", not " + wanted);
    if (!value_of(file, header, "fortran_order").starts_with("False")) fail(file, "is not in C order");
    npy_array<T> array;
    array.shape = shape_of(file, value_of(file, header, "shape"));
    std::uint64_t bytes = sizeof(T);
    for (const std::int64_t n : array.shape) {
        bytes *= static_cast<std::uint64_t>(n);
        if (bytes > std::uint64_t{1} << 40) fail(file, "its shape is of more than 2^40 bytes");
    }
    if (all.size() - begin != bytes)
        fail(file, "has " + std::to_string(all.size() - begin) + " bytes of values; its shape asks for " +
                       std::to_string(bytes));
    array.values.resize(bytes / sizeof(T));
    if (bytes > 0) std::memcpy(array.values.data(), all.data() + begin, bytes);
    return array;
}

void write_file(const fs::path& file, std::span<const std::byte> bytes) {
    fs::path unfinished = file;
    unfinished += ".part";
    {
        std::ofstream stream(unfinished, std::ios::binary);
        stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        stream.close();
        if (!stream) {
            std::error_code ignored;
            fs::remove(unfinished, ignored);
            fail(file, "cannot be written");
        }
    }
    std::error_code error;
    fs::rename(unfinished, file, error);
    if (error) fail(file, "cannot be written: " + error.message());
}

template <class T>
void write_npy(const fs::path& file, std::span<const std::int64_t> shape, std::span<const T> values) {
    std::string header = "{'descr': '" + type_name<T>() + "', 'fortran_order': False, 'shape': (";
    for (const std::int64_t n : shape) header += std::to_string(n) + ",";
    header += "), }";
    header.append(63 - (header.size() + 10) % 64, ' ');
    header += '\n';
    std::string all("\x93NUMPY\x01\x00", 8);
    all += static_cast<char>(header.size() & 0xff);
    all += static_cast<char>(header.size() >> 8);
    all += header;
    const auto bytes = std::as_bytes(values);
    all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    write_file(file, std::as_bytes(std::span(all.data(), all.size())));
}

#define PO2QUANT_NPY(T)                                      \
    template npy_array<T> read_npy<T>(const fs::path& file); \
    template void write_npy<T>(const fs::path&, std::span<const std::int64_t>, std::span<const T>);
PO2QUANT_NPY(std::int8_t)
PO2QUANT_NPY(std::uint8_t)
PO2QUANT_NPY(std::int16_t)
PO2QUANT_NPY(std::int32_t)
PO2QUANT_NPY(float)
#undef PO2QUANT_NPY

}  // namespace run_network

#pragma once
/// Reads .npy files of version 1 and 2: little-endian numbers in C order.
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace po2quant::test {

template <class T>
struct npy_array {
    std::vector<std::int64_t> shape;
    std::vector<T> values;
};

/// Throws std::runtime_error for a file that is missing, damaged or of another element type.
template <class T>
npy_array<T> read_npy(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(file)), {});
    const auto damaged = [&](const char* what) { return std::runtime_error(path + ": " + what); };
    if (all.size() < 12 || std::memcmp(all.data(), "\x93NUMPY", 6) != 0) throw damaged("not a .npy file");
    const bool long_header = all[6] >= 2;
    std::uint32_t length = 0;
    std::memcpy(&length, all.data() + 8, long_header ? 4 : 2);
    const std::size_t begin = (long_header ? 12 : 10) + length;
    const std::string header = all.substr(0, begin);
    const std::string type = std::string(sizeof(T) == 1 ? "|" : "<") +
                             (std::is_floating_point_v<T> ? "f" : (std::is_signed_v<T> ? "i" : "u")) +
                             std::to_string(sizeof(T));
    if (header.find("'" + type + "'") == std::string::npos) throw damaged(("elements are not " + type).c_str());
    if (header.find("'fortran_order': False") == std::string::npos) throw damaged("not in C order");
    npy_array<T> array;
    std::int64_t count = 1;
    for (std::size_t at = header.find('(') + 1; header[at] != ')';) {
        std::size_t used = 0;
        array.shape.push_back(std::stoll(header.substr(at), &used));
        count *= array.shape.back();
        at += used;
        while (header[at] == ',' || header[at] == ' ') ++at;
    }
    if (all.size() - begin != static_cast<std::size_t>(count) * sizeof(T))
        throw damaged("its size does not fit its shape");
    array.values.resize(static_cast<std::size_t>(count));
    std::memcpy(array.values.data(), all.data() + begin, all.size() - begin);
    return array;
}

}  // namespace po2quant::test

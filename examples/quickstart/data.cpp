#include "data.hpp"

#include <zlib.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <stdexcept>

namespace quickstart {
namespace {

constexpr std::array<const char*, 4> file_names = {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
                                                   "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"};

bool has_files(const std::filesystem::path& folder) {
    for (const char* name : file_names)
        if (!std::filesystem::exists(folder / name)) return false;
    return true;
}

std::vector<std::uint8_t> read_gzip(const std::filesystem::path& file) {
    const std::unique_ptr<gzFile_s, int (*)(gzFile)> stream(gzopen(file.c_str(), "rb"), gzclose);
    if (!stream) throw std::runtime_error("cannot open " + file.string());
    std::vector<std::uint8_t> bytes;
    constexpr std::size_t chunk = 1 << 20;
    for (;;) {
        const std::size_t before = bytes.size();
        bytes.resize(before + chunk);
        const int got = gzread(stream.get(), bytes.data() + before, chunk);
        if (got < 0) throw std::runtime_error("cannot decompress " + file.string());
        bytes.resize(before + static_cast<std::size_t>(got));
        if (got == 0) break;
    }
    int end = Z_OK;
    gzerror(stream.get(), &end);
    if (end != Z_OK && end != Z_STREAM_END) throw std::runtime_error("damaged or cut short: " + file.string());
    return bytes;
}

/// IDX: 0, 0, 8 for bytes, the number of dimensions, each dimension as big-endian uint32, then the bytes.
std::vector<std::uint8_t> read_idx(const std::filesystem::path& file, const std::vector<std::size_t>& dimensions) {
    std::vector<std::uint8_t> bytes = read_gzip(file);
    const std::size_t header = 4 + 4 * dimensions.size();
    bool valid =
        bytes.size() >= header && bytes[0] == 0 && bytes[1] == 0 && bytes[2] == 8 && bytes[3] == dimensions.size();
    std::size_t size = 1;
    for (std::size_t d = 0; valid && d < dimensions.size(); ++d) {
        const std::uint8_t* at = bytes.data() + 4 + 4 * d;
        const std::size_t length =
            std::size_t{at[0]} << 24 | std::size_t{at[1]} << 16 | std::size_t{at[2]} << 8 | at[3];
        valid = length == dimensions[d];
        size *= length;
    }
    if (!valid || bytes.size() != header + size)
        throw std::runtime_error("not the IDX file that was expected: " + file.string());
    bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(header));
    return bytes;
}

labelled_images read_images(const std::filesystem::path& folder, const char* images, const char* labels,
                            std::size_t count) {
    labelled_images set{read_idx(folder / images, {count, image_side, image_side}), read_idx(folder / labels, {count})};
    for (const std::uint8_t label : set.labels)
        if (label >= class_count) throw std::runtime_error("a label above 9 in " + (folder / labels).string());
    return set;
}

}  // namespace

std::optional<std::filesystem::path> find_fashion_mnist(const std::filesystem::path& given) {
    if (!given.empty()) {
        if (!has_files(given))
            throw std::runtime_error("--data " + given.string() + " lacks one of " + file_names[0] + ", " +
                                     file_names[1] + ", " + file_names[2] + ", " + file_names[3]);
        return given;
    }
    const char* root = std::getenv("PO2QUANT_DATA_DIR");
    if (root == nullptr) return std::nullopt;
    const std::filesystem::path folder = std::filesystem::path(root) / "datasets" / "fashion-mnist";
    if (!has_files(folder)) return std::nullopt;
    return folder;
}

dataset load_fashion_mnist(const std::filesystem::path& folder) {
    return {"Fashion-MNIST", read_images(folder, file_names[0], file_names[1], 60000),
            read_images(folder, file_names[2], file_names[3], 10000)};
}

}  // namespace quickstart

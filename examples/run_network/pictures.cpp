#include "pictures.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#if defined(PO2QUANT_LZMA)
#include <lzma.h>
#endif

#include <po2quant/numerics/exponent.hpp>

#include "npy.hpp"

namespace run_network {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const fs::path& file, const std::string& what) {
    throw std::runtime_error(file.string() + ": " + what);
}

std::string contents(const fs::path& file) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) fail(file, "cannot be opened");
    return {std::istreambuf_iterator<char>(stream), {}};
}

picture read_portable(const fs::path& file) {
    const std::string all = contents(file);
    if (all.size() < 2 || all[0] != 'P' || (all[1] != '5' && all[1] != '6')) fail(file, "is no binary .ppm or .pgm");
    std::size_t at = 2;
    const auto number = [&]() -> std::int64_t {
        for (; at < all.size() && (std::isspace(static_cast<unsigned char>(all[at])) != 0 || all[at] == '#'); ++at)
            if (all[at] == '#') at = std::min(all.find('\n', at), all.size() - 1);
        std::int64_t n = 0;
        const std::size_t first = at;
        for (; at < all.size() && all[at] >= '0' && all[at] <= '9' && n < 100000; ++at) n = n * 10 + (all[at] - '0');
        if (at == first) fail(file, "has a header that is cut off");
        return n;
    };
    picture p;
    p.channels = all[1] == '6' ? 3 : 1;
    p.width = number();
    p.height = number();
    if (number() != 255) fail(file, "has not 255 as its largest value");
    ++at;
    const auto bytes = static_cast<std::size_t>(p.width * p.height * p.channels);
    if (bytes == 0 || at + bytes > all.size()) fail(file, "has fewer pixels than its header says");
    p.pixels.assign(all.begin() + static_cast<std::ptrdiff_t>(at),
                    all.begin() + static_cast<std::ptrdiff_t>(at + bytes));
    return p;
}

#if defined(PO2QUANT_LZMA)
std::string unpacked(const fs::path& file) {
    const std::string packed = contents(file);
    lzma_stream stream = LZMA_STREAM_INIT;
    if (lzma_stream_decoder(&stream, UINT64_MAX, LZMA_CONCATENATED) != LZMA_OK) fail(file, "cannot be unpacked");
    std::string all;
    std::string part(1 << 20, '\0');
    stream.next_in = reinterpret_cast<const std::uint8_t*>(packed.data());
    stream.avail_in = packed.size();
    lzma_ret status = LZMA_OK;
    while (status == LZMA_OK) {
        stream.next_out = reinterpret_cast<std::uint8_t*>(part.data());
        stream.avail_out = part.size();
        status = lzma_code(&stream, LZMA_FINISH);
        all.append(part, 0, part.size() - stream.avail_out);
    }
    lzma_end(&stream);
    if (status != LZMA_STREAM_END) fail(file, "is damaged or cut off");
    return all;
}
#else
std::string unpacked(const fs::path& file) {
    fail(file, "this program was built without liblzma (Debian: liblzma-dev); unpack the file beside it with xz -dk");
}
#endif

}  // namespace

picture read_picture(const fs::path& file) {
    if (file.extension() != ".npy") return read_portable(file);
    npy_array<std::uint8_t> array = read_npy<std::uint8_t>(file);
    if (array.shape.size() == 2) array.shape.push_back(1);
    if (array.shape.size() != 3 || array.values.empty())
        fail(file, "is no picture: its shape is not [H][W][C] or [H][W]");
    return {array.shape[0], array.shape[1], array.shape[2], std::move(array.values)};
}

void write_ppm(const fs::path& file, const picture& p) {
    std::string all = "P6\n" + std::to_string(p.width) + " " + std::to_string(p.height) + "\n255\n";
    for (std::size_t i = 0; i < static_cast<std::size_t>(p.width * p.height); ++i)
        for (std::size_t c = 0; c < 3; ++c)
            all += static_cast<char>(p.channels == 3 ? p.pixels[3 * i + c]
                                                     : p.pixels[static_cast<std::size_t>(p.channels) * i]);
    write_file(file, std::as_bytes(std::span(all.data(), all.size())));
}

std::vector<float> resized(const picture& p, std::int64_t height, std::int64_t width, resize_method method) {
    std::vector<float> out;
    out.reserve(static_cast<std::size_t>(height * width * p.channels));
    const float scale_y = static_cast<float>(p.height) / static_cast<float>(height);
    const float scale_x = static_cast<float>(p.width) / static_cast<float>(width);
    const auto pixel = [&](std::int64_t y, std::int64_t x, std::int64_t c) {
        return static_cast<float>(p.pixels[static_cast<std::size_t>((y * p.width + x) * p.channels + c)]);
    };
    for (std::int64_t y = 0; y < height; ++y) {
        const float source_y = static_cast<float>(y) * scale_y;
        const std::int64_t top = std::min(static_cast<std::int64_t>(source_y), p.height - 1);
        const std::int64_t bottom = std::min(top + 1, p.height - 1);
        for (std::int64_t x = 0; x < width; ++x) {
            const float source_x = static_cast<float>(x) * scale_x;
            const std::int64_t left = std::min(static_cast<std::int64_t>(source_x), p.width - 1);
            const std::int64_t right = std::min(left + 1, p.width - 1);
            for (std::int64_t c = 0; c < p.channels; ++c) {
                if (method == resize_method::nearest) {
                    out.push_back(pixel(top, left, c));
                    continue;
                }
                const float share_x = source_x - static_cast<float>(left);
                const float above = pixel(top, left, c) + (pixel(top, right, c) - pixel(top, left, c)) * share_x;
                const float below =
                    pixel(bottom, left, c) + (pixel(bottom, right, c) - pixel(bottom, left, c)) * share_x;
                out.push_back(above + (below - above) * (source_y - static_cast<float>(top)));
            }
        }
    }
    return out;
}

void to_codes(std::span<const float> values, int exponent, std::span<std::byte> codes) {
    const bool wide = codes.size() == 2 * values.size();
    const float inverse = po2quant::exp2_float(-7 - exponent);
    const float low = wide ? -32768 : -128;
    const float high = wide ? 32767 : 127;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const float code = std::clamp(std::floor((values[i] - 128) * inverse + 0.5F), low, high);
        if (wide) reinterpret_cast<std::int16_t*>(codes.data())[i] = static_cast<std::int16_t>(code);
        else reinterpret_cast<std::int8_t*>(codes.data())[i] = static_cast<std::int8_t>(code);
    }
}

std::vector<labelled_picture> read_cifar10(const fs::path& file) {
    fs::path packed = file;
    packed += ".xz";
    const bool plain = fs::exists(file);
    const std::string all = plain || !fs::exists(packed) ? contents(file) : unpacked(packed);
    constexpr std::size_t side = 32;
    constexpr std::size_t plane = side * side;
    constexpr std::size_t record = 1 + 3 * plane;
    if (all.empty() || all.size() % record != 0)
        fail(plain ? file : packed,
             "has " + std::to_string(all.size()) + " bytes, which are no records of " + std::to_string(record));
    std::vector<labelled_picture> pictures;
    for (std::size_t at = 0; at < all.size(); at += record) {
        labelled_picture p;
        p.label = static_cast<unsigned char>(all[at]);
        if (p.label > 9) fail(plain ? file : packed, "has the label " + std::to_string(p.label) + "; allowed: 0..9");
        p.image = {side, side, 3, {}};
        p.image.pixels.reserve(3 * plane);
        for (std::size_t i = 0; i < plane; ++i)
            for (std::size_t c = 0; c < 3; ++c)
                p.image.pixels.push_back(static_cast<std::uint8_t>(all[at + 1 + c * plane + i]));
        pictures.push_back(std::move(p));
    }
    return pictures;
}

}  // namespace run_network

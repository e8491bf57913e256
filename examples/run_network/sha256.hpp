#pragma once
/// SHA-256 (FIPS 180-4), as the goldens' digests are given.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

namespace run_network {

inline std::string sha256(std::span<const std::byte> data) {
    // The constants are the fractions of the cube and square roots of the first primes; computed, not listed.
    static const auto constants = [] {
        struct {
            std::array<std::uint32_t, 64> k;
            std::array<std::uint32_t, 8> h;
        } c{};
        // The first 32 bits behind the point, of the 50 that a double has.
        const auto fraction = [](double root) {
            return static_cast<std::uint32_t>(static_cast<std::uint64_t>(root * 0x1p32));
        };
        std::uint64_t candidate = 2;
        for (std::size_t i = 0; i < 64; ++candidate) {
            bool prime = true;
            for (std::uint64_t d = 2; d * d <= candidate; ++d) prime = prime && candidate % d != 0;
            if (!prime) continue;
            if (i < 8) c.h[i] = fraction(std::sqrt(static_cast<double>(candidate)));
            c.k[i++] = fraction(std::cbrt(static_cast<double>(candidate)));
        }
        return c;
    }();
    std::vector<std::uint8_t> message(data.size() + 72, 0);
    for (std::size_t i = 0; i < data.size(); ++i) message[i] = static_cast<std::uint8_t>(data[i]);
    message[data.size()] = 0x80;
    message.resize((data.size() + 8) / 64 * 64 + 64);
    for (std::size_t i = 0; i < 8; ++i)
        message[message.size() - 1 - i] = static_cast<std::uint8_t>(std::uint64_t{data.size()} * 8 >> (8 * i));
    auto h = constants.h;
    for (std::size_t block = 0; block < message.size(); block += 64) {
        std::array<std::uint32_t, 64> w{};
        for (std::size_t i = 0; i < 64; ++i) w[i / 4] = w[i / 4] << 8 | message[block + i];
        for (std::size_t i = 16; i < 64; ++i) {
            const std::uint32_t a = w[i - 15];
            const std::uint32_t b = w[i - 2];
            w[i] = w[i - 16] + (std::rotr(a, 7) ^ std::rotr(a, 18) ^ a >> 3) + w[i - 7] +
                   (std::rotr(b, 17) ^ std::rotr(b, 19) ^ b >> 10);
        }
        auto v = h;
        for (std::size_t i = 0; i < 64; ++i) {
            const std::uint32_t t1 = v[7] + (std::rotr(v[4], 6) ^ std::rotr(v[4], 11) ^ std::rotr(v[4], 25)) +
                                     ((v[4] & v[5]) ^ (~v[4] & v[6])) + constants.k[i] + w[i];
            const std::uint32_t t2 = (std::rotr(v[0], 2) ^ std::rotr(v[0], 13) ^ std::rotr(v[0], 22)) +
                                     ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            for (std::size_t k = 7; k > 0; --k) v[k] = v[k - 1];
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (std::size_t i = 0; i < 8; ++i) h[i] += v[i];
    }
    std::string hex;
    for (const std::uint32_t word : h) {
        char part[9];
        std::snprintf(part, sizeof part, "%08x", word);
        hex += part;
    }
    return hex;
}

}  // namespace run_network

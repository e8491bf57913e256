#pragma once
/// Random numbers of the tests: one seed per run, printed, and set again by the environment variable PO2QUANT_SEED.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace po2quant::test {

/// Whether the long tests were asked for: PO2QUANT_FULL is set and not 0.
inline bool full() {
    const char* value = std::getenv("PO2QUANT_FULL");
    return value != nullptr && value[0] != '\0' && value[0] != '0';
}

inline std::uint64_t run_seed() {
    static const std::uint64_t seed = [] {
        const char* given = std::getenv("PO2QUANT_SEED");
        const std::uint64_t s = given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device{}();
        std::fprintf(stderr, "seed %llu (PO2QUANT_SEED=%llu repeats this run)\n", static_cast<unsigned long long>(s),
                     static_cast<unsigned long long>(s));
        return s;
    }();
    return seed;
}

/// Make one per test case, so that a case run alone draws the same numbers.
class random_source {
public:
    explicit random_source(std::uint64_t seed = run_seed()) : engine_(seed) {}

    std::uint64_t bits() { return engine_(); }
    /// One of low … high, both included.
    std::int64_t integer(std::int64_t low, std::int64_t high) {
        const auto count = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) + 1;
        return low + static_cast<std::int64_t>(count == 0 ? bits() : bits() % count);
    }
    double uniform(double low, double high) { return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53; }
    template <class Container>
    auto one_of(const Container& choices) {
        return choices[bits() % std::size(choices)];
    }

private:
    std::mt19937_64 engine_;
};

}  // namespace po2quant::test

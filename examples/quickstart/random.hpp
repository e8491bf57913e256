#pragma once
/// Random numbers that are the same with every standard library.
#include <cmath>
#include <cstdint>
#include <numbers>

namespace quickstart {

/// splitmix64: one 64-bit state, good enough to shuffle images and to start weights.
class random_source {
public:
    explicit random_source(std::uint64_t seed) : state_(seed) {}

    std::uint64_t bits() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15ULL;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31);
    }
    /// 0 <= result < count
    std::int64_t below(std::int64_t count) {
        return static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(count));
    }
    /// low <= result < high
    float uniform(float low, float high) { return low + (high - low) * static_cast<float>(bits() >> 40) * 0x1p-24F; }
    /// Mean 0, deviation 1 (Box and Muller).
    float normal() {
        const float radius = std::sqrt(-2.0F * std::log(1.0F - uniform(0.0F, 1.0F)));
        return radius * std::cos(2.0F * std::numbers::pi_v<float> * uniform(0.0F, 1.0F));
    }

private:
    std::uint64_t state_;
};

}  // namespace quickstart

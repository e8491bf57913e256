#pragma once
/// Gradient descent by its definition, from the whole history of gradients at every step: the specification of
/// training/descent.hpp. In long double; no state is carried from step to step but the number itself.
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include <po2quant/training/descent.hpp>

namespace po2quant::reference {

/// Σ_i (1 − decay) decay^(n−1−i) f(g_i), divided by what the weights sum up to, 1 − decay^n.
template <class F>
long double debiased_average(std::span<const double> gradients, double decay, F f) {
    long double sum = 0;
    long double weights = 0;
    long double weight = 1;
    for (std::size_t i = gradients.size(); i-- > 0; weight *= static_cast<long double>(decay)) {
        sum += weight * f(static_cast<long double>(gradients[i]));
        weights += weight;
    }
    return sum / weights;
}

/// The change that the last of all gradients so far brings; all are finite.
inline long double change(std::span<const double> gradients, const descent_options& o) {
    const auto rate = static_cast<long double>(o.learning_rate);
    const auto epsilon = static_cast<long double>(o.epsilon);
    if (o.rule == descent::momentum) {
        long double sum = 0;
        long double weight = 1;
        for (std::size_t i = gradients.size(); i-- > 0; weight *= static_cast<long double>(o.beta1))
            sum += weight * static_cast<long double>(gradients[i]);
        return -rate * sum;
    }
    const long double v = debiased_average(gradients, o.beta2, [](long double g) { return g * g; });
    if (o.rule == descent::normalized)
        return -rate * std::tanh(static_cast<long double>(gradients.back()) / std::sqrt(v + epsilon));
    const long double m = debiased_average(gradients, o.beta1, [](long double g) { return g; });
    return -rate * m / (std::sqrt(v) + epsilon);
}

/// The number after each gradient, from `start` on.
inline std::vector<long double> descend(double start, std::span<const double> gradients, const descent_options& o) {
    std::vector<long double> path;
    auto value = static_cast<long double>(start);
    for (std::size_t n = 1; n <= gradients.size(); ++n) path.push_back(value += change(gradients.first(n), o));
    return path;
}

/// Moving average of the numbers on a path, as descent_state::average: each one's weight is what its own decay gives it
/// times the decays of all behind it.
inline long double path_average(std::span<const long double> path, double decay) {
    const auto decay_at = [&](std::size_t i) {
        const auto n = static_cast<long double>(i + 1);
        return i == 0 ? 0.0L : std::fmin(static_cast<long double>(decay), (1 + n) / (10 + n));
    };
    long double sum = 0;
    long double behind = 1;
    for (std::size_t i = path.size(); i-- > 0; behind *= decay_at(i)) sum += behind * (1 - decay_at(i)) * path[i];
    return sum;
}

}  // namespace po2quant::reference

#pragma once
/// Errors of the public layer: every message names the function, the argument, what was given and what is allowed.
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include <po2quant/config.hpp>

namespace po2quant {

namespace detail {

inline void append(std::string& text, const std::string& part) { text += part; }
inline void append(std::string& text, const char* part) { text += part; }
template <std::integral T>
void append(std::string& text, T part) {
    text += std::to_string(part);
}

/// The parts, strings and integers, one behind the other.
template <class... Parts>
std::string text(const Parts&... parts) {
    std::string all;
    (append(all, parts), ...);
    return all;
}

/// Throws Error; without exceptions (-fno-exceptions) it prints the message to stderr and aborts.
template <class Error>
[[noreturn]] void raise(const std::string& message) {
#if defined(__cpp_exceptions)
    throw Error(message);
#else
    std::fprintf(stderr, "%s\n", message.c_str());
    std::abort();
#endif
}

/// Raises std::invalid_argument: "po2quant::conv2d: stride.height is 0, allowed: 1..4096".
[[noreturn]] inline void fail(const char* function, const std::string& argument, const std::string& given,
                              const std::string& allowed) {
    raise<std::invalid_argument>(text("po2quant::", function, ": ", argument, " is ", given, ", allowed: ", allowed));
}

template <std::integral T>
[[noreturn, gnu::cold, gnu::noinline]] void fail_range(const char* function, const char* argument, T given,
                                                       std::int64_t low, std::int64_t high) {
    fail(function, argument, text(given), text(low, "..", high));
}
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_span(const char* function, const char* argument,
                                                             std::uint64_t given, std::uint64_t size) {
    if (given != size) fail(function, text(argument, ".size()"), text(given), text("exactly ", size));
    fail(function, text(argument, ".data()"), "null", "an address");
}
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_overlap(const char* function, const char* argument,
                                                                bool in_place_allowed) {
    fail(function, argument, "memory that overlaps the input",
         in_place_allowed ? "the input itself or memory apart from it" : "memory apart from the input");
}

// Checks are a comparison or two on the way of every call; the messages are made out of the way.

template <std::integral T>
PO2Q_INLINE void check_range(const char* function, const char* argument, T given, std::int64_t low, std::int64_t high) {
    if (std::cmp_less(given, low) || std::cmp_greater(given, high)) [[unlikely]]
        fail_range(function, argument, given, low, high);
}

/// A span must have exactly `size` elements and, unless that is 0, an address.
template <class T>
PO2Q_INLINE void check_span(const char* function, const char* argument, std::span<T> given, std::uint64_t size) {
    if (given.size() != size || (size != 0 && given.data() == nullptr)) [[unlikely]]
        fail_span(function, argument, given.size(), size);
}

/// Two spans must be the very same memory or share none of it.
template <class T, class U>
PO2Q_INLINE void check_overlap(const char* function, const char* argument, std::span<T> output, std::span<U> input,
                               bool in_place_allowed) {
    if (output.empty() || input.empty()) return;
    const auto first = reinterpret_cast<std::uintptr_t>(output.data());
    const auto second = reinterpret_cast<std::uintptr_t>(input.data());
    if (first >= second + input.size_bytes() || second >= first + output.size_bytes()) return;
    if (in_place_allowed && first == second && sizeof(T) == sizeof(U)) return;
    fail_overlap(function, argument, in_place_allowed);
}

}  // namespace detail
}  // namespace po2quant

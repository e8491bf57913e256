#pragma once
/// Element types of codes, and the ranges that ops take them in: std::vector, std::array, std::span, arrays.
#include <concepts>
#include <cstdint>
#include <ranges>
#include <type_traits>

namespace po2quant {

/// What quantize writes and dequantize reads.
template <class T>
concept code_type = std::same_as<T, std::int8_t> || std::same_as<T, std::uint8_t> || std::same_as<T, std::int16_t>;

/// Integer activations.
template <class T>
concept activation_code = std::same_as<T, std::int8_t> || std::same_as<T, std::int16_t>;

/// The element type of a contiguous range, const taken off.
template <std::ranges::contiguous_range Range>
using element_of = std::remove_cv_t<std::remove_reference_t<std::ranges::range_reference_t<Range>>>;

/// A range whose elements can be written.
template <class Range>
concept writable_range = std::ranges::contiguous_range<Range> &&
    !std::is_const_v<std::remove_reference_t<std::ranges::range_reference_t<Range>>>;

template <class Range>
concept codes_range = std::ranges::contiguous_range<Range> && code_type<element_of<Range>>;

template <class Range>
concept activations_range = std::ranges::contiguous_range<Range> && activation_code<element_of<Range>>;

}  // namespace po2quant

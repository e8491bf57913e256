#pragma once
/// The ranges that training ops take floats in, of any storage type: std::vector, std::array, std::span, arrays; and a
/// host's own 16-bit types.
#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include <po2quant/numerics/storage.hpp>

namespace po2quant {

/// What can be read as a span of T.
template <class Range, class T>
concept viewed_as = std::convertible_to<Range, std::span<const T>>;

/// Floats, bfloat16 or float16.
template <class Range>
concept storage_range = viewed_as<Range, float> || viewed_as<Range, bfloat16> || viewed_as<Range, float16>;

/// Which of the three.
template <storage_range Range>
using storage_of = std::conditional_t<viewed_as<Range, float>, float,
                                      std::conditional_t<viewed_as<Range, bfloat16>, bfloat16, float16>>;

/// What can be written as a span of the storage type of Input.
template <class Range, class Input>
concept writable_like = std::convertible_to<Range, std::span<storage_of<Input>>>;

/// What can be read as one.
template <class Range, class Input>
concept readable_like = std::convertible_to<Range, std::span<const storage_of<Input>>>;

/// The elements of a host's own 16-bit type (at::BFloat16, at::Half, std::bfloat16_t, _Float16) as ours, const kept:
///
///   as_storage<bfloat16>(tensor.data_ptr<at::BFloat16>(), tensor.numel())
/// Ops read and write 16-bit storage as bytes, so its type does not matter to them.
template <half_type Half, class Host>
requires(sizeof(Host) == sizeof(Half) && std::is_trivially_copyable_v<Host>) auto as_storage(Host* data,
                                                                                             std::size_t size) {
    using element = std::conditional_t<std::is_const_v<Host>, const Half, Half>;
    return std::span<element>(reinterpret_cast<element*>(data), size);
}

}  // namespace po2quant

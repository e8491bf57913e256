#pragma once
/// Bytes of trained thresholds and step sizes, and back: for checkpoints.
#include <array>
#include <cstring>
#include <type_traits>

#include <po2quant/training/serialization.hpp>
#include <po2quant/training/step_size.hpp>
#include <po2quant/training/threshold.hpp>

namespace po2quant {

/// Version of the byte layout below; readers refuse others.
inline constexpr std::uint32_t trained_scale_version = 1;

template <class T>
concept trained_scale = std::is_same_v<T, tqt_threshold> || std::is_same_v<T, lsq_step> || std::is_same_v<T, log2_step>;

/// "PQT" and the kind, the version as uint32, the number, then descent_state's fields, all little endian.
inline constexpr std::size_t trained_scale_bytes = detail::header_size + 10 * 8 + 1;

namespace detail {

/// Calls f(name, field) in the order of the byte layout.
template <class Scale, class F>
void for_each_scale_field(Scale& scale, F&& f) {
    auto& s = scale.state;
    f("value", scale.value());
    f("first", s.first);
    f("second", s.second);
    f("first_bias", s.first_bias);
    f("second_bias", s.second_bias);
    f("average", s.average);
    f("gradient_sum", s.gradient_sum);
    f("gradient_count", s.gradient_count);
    f("updates", s.updates);
    f("non_finite", s.non_finite);
    f("frozen", s.frozen);
}

/// 'T', 'L' or 'A' (of α): which number the bytes hold.
template <class Scale>
constexpr char scale_kind() {
    if constexpr (std::is_same_v<Scale, tqt_threshold>) return 'T';
    else if constexpr (std::is_same_v<Scale, lsq_step>) return 'L';
    else return 'A';
}

}  // namespace detail

template <trained_scale Scale>
std::array<std::byte, trained_scale_bytes> serialize(const Scale& scale) {
    std::array<std::byte, trained_scale_bytes> bytes{};
    detail::write_header(bytes.data(), {'P', 'Q', 'T', detail::scale_kind<Scale>(), '\0'}, trained_scale_version);
    Scale copy = scale;
    std::size_t at = detail::header_size;
    detail::for_each_scale_field(copy, [&](const char*, const auto& field) {
        std::memcpy(bytes.data() + at, &field, sizeof(field));
        at += sizeof(field);
    });
    return bytes;
}

/// Throws std::invalid_argument for another size, kind or version, and for numbers that no scale gets to hold.
template <trained_scale Scale>
Scale deserialize(std::span<const std::byte> bytes) {
    constexpr const char* function = "deserialize";
    detail::check_header(function, bytes, trained_scale_bytes, {'P', 'Q', 'T', detail::scale_kind<Scale>(), '\0'},
                         trained_scale_version);
    Scale scale;
    std::size_t at = detail::header_size;
    detail::for_each_scale_field(scale, [&](const char* name, auto& field) {
        using field_type = std::remove_cvref_t<decltype(field)>;
        if constexpr (std::is_same_v<field_type, bool>) {
            detail::check_range(function, name, static_cast<int>(bytes[at]), 0, 1);
            field = bytes[at] != std::byte{0};
        } else {
            std::memcpy(&field, bytes.data() + at, sizeof(field));
            if constexpr (std::is_same_v<field_type, double>)
                detail::check_real(function, name, field, std::isfinite(field), "finite numbers");
        }
        at += sizeof(field);
    });
    const double value = scale.value();
    detail::check_real(function, "value", value, Scale::held(value) == value, "what the scale holds");
    const descent_state& s = scale.state;
    detail::check_real(function, "second", s.second, s.second >= 0, "numbers >= 0");
    detail::check_real(function, "first_bias", s.first_bias, 0 <= s.first_bias && s.first_bias <= 1, "0..1");
    detail::check_real(function, "second_bias", s.second_bias, 0 <= s.second_bias && s.second_bias <= 1, "0..1");
    return scale;
}

}  // namespace po2quant

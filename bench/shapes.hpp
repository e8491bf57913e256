#pragma once
/// The layers that are measured, named after what they compute: MobileNet v1 1.0 at 224, its quarter at 128 (m025),
/// ResNet's 3×3 layers, and awkward channel counts.
#include <cstdint>

namespace po2quant::bench {

struct layer {
    const char* name;
    std::int64_t size;  ///< height and width of the input
    std::int64_t channels;
    std::int64_t outputs;  ///< 0: depthwise
    std::int64_t kernel;
    std::int64_t stride;
};

inline constexpr layer layers[] = {
    {"conv3x3_56x56x64_64_s1", 56, 64, 64, 3, 1},     {"conv3x3_28x28x128_128_s1", 28, 128, 128, 3, 1},
    {"conv3x3_14x14x256_256_s1", 14, 256, 256, 3, 1}, {"conv3x3_7x7x512_512_s1", 7, 512, 512, 3, 1},
    {"conv3x3_224x224x3_32_s2", 224, 3, 32, 3, 2},    {"conv3x3_112x112x32_64_s2", 112, 32, 64, 3, 2},
    {"pw_112x112x32_64", 112, 32, 64, 1, 1},          {"pw_56x56x128_128", 56, 128, 128, 1, 1},
    {"pw_28x28x256_256", 28, 256, 256, 1, 1},         {"pw_14x14x512_512", 14, 512, 512, 1, 1},
    {"pw_7x7x1024_1024", 7, 1024, 1024, 1, 1},        {"dw3x3_112x112x32_s1", 112, 32, 0, 3, 1},
    {"dw3x3_112x112x64_s2", 112, 64, 0, 3, 2},        {"dw3x3_56x56x128_s1", 56, 128, 0, 3, 1},
    {"dw3x3_28x28x256_s1", 28, 256, 0, 3, 1},         {"dw3x3_14x14x512_s1", 14, 512, 0, 3, 1},
    {"dw3x3_14x14x512_s2", 14, 512, 0, 3, 2},         {"dw3x3_7x7x1024_s1", 7, 1024, 0, 3, 1},
    {"dw5x5_14x14x672_s1", 14, 672, 0, 5, 1},         {"m025_dw3x3_64x64x8_s1", 64, 8, 0, 3, 1},
    {"m025_pw_64x64x8_16", 64, 8, 16, 1, 1},          {"m025_dw3x3_32x32x32_s1", 32, 32, 0, 3, 1},
    {"m025_pw_32x32x32_32", 32, 32, 32, 1, 1},        {"m025_dw3x3_8x8x128_s1", 8, 128, 0, 3, 1},
    {"m025_pw_8x8x128_128", 8, 128, 128, 1, 1},       {"m025_pw_4x4x256_256", 4, 256, 256, 1, 1},
    {"conv3x3_28x28x24_40_s1", 28, 24, 40, 3, 1},     {"conv3x3_28x28x17_33_s1", 28, 17, 33, 3, 1},
    {"pw_28x28x40_120", 28, 40, 120, 1, 1},           {"pw_28x28x17_33", 28, 17, 33, 1, 1},
    {"dw3x3_28x28x72_s1", 28, 72, 0, 3, 1},           {"dw3x3_28x28x33_s1", 28, 33, 0, 3, 1},
    {"conv3x3_32x32x3_16_s1", 32, 3, 16, 3, 1},       {"conv5x5_14x14x64_64_s1", 14, 64, 64, 5, 1},
    {"conv3x3_96x96x1_8_s2", 96, 1, 8, 3, 2},         {"m025_conv3x3_128x128x3_8_s2", 128, 3, 8, 3, 2},
    {"m025_dw3x3_64x64x16_s2", 64, 16, 0, 3, 2},      {"m025_dw3x3_32x32x32_s2", 32, 32, 0, 3, 2},
};

/// Of these, what is timed by half_even too.
inline constexpr layer rounded_layers[] = {
    {"conv3x3_28x28x128_128_s1", 28, 128, 128, 3, 1}, {"pw_56x56x128_128", 56, 128, 128, 1, 1},
    {"pw_14x14x512_512", 14, 512, 512, 1, 1},         {"dw3x3_56x56x128_s1", 56, 128, 0, 3, 1},
    {"dw3x3_14x14x512_s1", 14, 512, 0, 3, 1},
};

/// MobileNetV1 1.0 at 224, each layer and how often it is there; those that `layers` has not are timed for sums only.
struct net_layer {
    layer shape;
    int count;
};
inline constexpr net_layer mobilenet[] = {
    {{"conv3x3_224x224x3_32_s2", 224, 3, 32, 3, 2}, 1}, {{"dw3x3_112x112x32_s1", 112, 32, 0, 3, 1}, 1},
    {{"pw_112x112x32_64", 112, 32, 64, 1, 1}, 1},       {{"dw3x3_112x112x64_s2", 112, 64, 0, 3, 2}, 1},
    {{"pw_56x56x64_128", 56, 64, 128, 1, 1}, 1},        {{"dw3x3_56x56x128_s1", 56, 128, 0, 3, 1}, 1},
    {{"pw_56x56x128_128", 56, 128, 128, 1, 1}, 1},      {{"dw3x3_56x56x128_s2", 56, 128, 0, 3, 2}, 1},
    {{"pw_28x28x128_256", 28, 128, 256, 1, 1}, 1},      {{"dw3x3_28x28x256_s1", 28, 256, 0, 3, 1}, 1},
    {{"pw_28x28x256_256", 28, 256, 256, 1, 1}, 1},      {{"dw3x3_28x28x256_s2", 28, 256, 0, 3, 2}, 1},
    {{"pw_14x14x256_512", 14, 256, 512, 1, 1}, 1},      {{"dw3x3_14x14x512_s1", 14, 512, 0, 3, 1}, 5},
    {{"pw_14x14x512_512", 14, 512, 512, 1, 1}, 5},      {{"dw3x3_14x14x512_s2", 14, 512, 0, 3, 2}, 1},
    {{"pw_7x7x512_1024", 7, 512, 1024, 1, 1}, 1},       {{"dw3x3_7x7x1024_s1", 7, 1024, 0, 3, 1}, 1},
    {{"pw_7x7x1024_1024", 7, 1024, 1024, 1, 1}, 1},
};

/// A quarter of the channels at 128: the original project's network for CIFAR-10.
inline constexpr net_layer mobilenet_025[] = {
    {{"m025_conv3x3_128x128x3_8_s2", 128, 3, 8, 3, 2}, 1}, {{"m025_dw3x3_64x64x8_s1", 64, 8, 0, 3, 1}, 1},
    {{"m025_pw_64x64x8_16", 64, 8, 16, 1, 1}, 1},          {{"m025_dw3x3_64x64x16_s2", 64, 16, 0, 3, 2}, 1},
    {{"m025_pw_32x32x16_32", 32, 16, 32, 1, 1}, 1},        {{"m025_dw3x3_32x32x32_s1", 32, 32, 0, 3, 1}, 1},
    {{"m025_pw_32x32x32_32", 32, 32, 32, 1, 1}, 1},        {{"m025_dw3x3_32x32x32_s2", 32, 32, 0, 3, 2}, 1},
    {{"m025_pw_16x16x32_64", 16, 32, 64, 1, 1}, 1},        {{"m025_dw3x3_16x16x64_s1", 16, 64, 0, 3, 1}, 1},
    {{"m025_pw_16x16x64_64", 16, 64, 64, 1, 1}, 1},        {{"m025_dw3x3_16x16x64_s2", 16, 64, 0, 3, 2}, 1},
    {{"m025_pw_8x8x64_128", 8, 64, 128, 1, 1}, 1},         {{"m025_dw3x3_8x8x128_s1", 8, 128, 0, 3, 1}, 5},
    {{"m025_pw_8x8x128_128", 8, 128, 128, 1, 1}, 5},       {{"m025_dw3x3_8x8x128_s2", 8, 128, 0, 3, 2}, 1},
    {{"m025_pw_4x4x128_256", 4, 128, 256, 1, 1}, 1},       {{"m025_dw3x3_4x4x256_s1", 4, 256, 0, 3, 1}, 1},
    {{"m025_pw_4x4x256_256", 4, 256, 256, 1, 1}, 1},
};

/// MobileNet's blocks: a 3×3 depthwise layer and the 1×1 layer behind it. The last one's tensors are beyond L2.
struct separable_block {
    const char* name;
    std::int64_t size;
    std::int64_t channels;
    std::int64_t outputs;
    std::int64_t stride;
};

inline constexpr separable_block separable_blocks[] = {
    {"112x112x32_64", 112, 32, 64, 1},  {"112x112x64_128_s2", 112, 64, 128, 2}, {"56x56x128_128", 56, 128, 128, 1},
    {"28x28x256_256", 28, 256, 256, 1}, {"14x14x512_512", 14, 512, 512, 1},     {"7x7x1024_1024", 7, 1024, 1024, 1},
    {"32x32x32_32", 32, 32, 32, 1},     {"448x448x32_64", 448, 32, 64, 1},
};

/// Layers that end a residual block: ResNet's 3×3, MobileNet v2's projections.
inline constexpr layer residual_layers[] = {
    {"conv3x3_56x56x64_64", 56, 64, 64, 3, 1}, {"conv3x3_14x14x256_256", 14, 256, 256, 3, 1},
    {"pw_56x56x144_24", 56, 144, 24, 1, 1},    {"pw_14x14x384_64", 14, 384, 64, 1, 1},
    {"pw_448x448x32_32", 448, 32, 32, 1, 1},
};

/// The exponent of all float rows; their format is int8.
inline constexpr int exponent = -4;

struct float_size {
    const char* name;
    std::int64_t elements;
};

inline constexpr float_size float_sizes[] = {{"4K", 4 << 10}, {"256K", 256 << 10}, {"3M", 3 << 20}, {"16M", 16 << 20}};

}  // namespace po2quant::bench

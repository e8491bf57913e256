#include <po2quant/tensor/window.hpp>

#include <vector>

#include "../support/catch.hpp"
#include "../support/random.hpp"

using namespace po2quant;

static_assert(nhwc{2, 3, 4, 5}.elements() == 120);
static_assert(output_length(5, 3, 1, 1, 0, 0) == 3 && output_length(2, 3, 1, 1, 0, 0) == 0);
static_assert(same_padding({1, 224, 224, 3}, {.kernel = {3, 3}, .stride = {2, 2}}) == padding2d{0, 1, 0, 1});
static_assert(valid_taps(0, 5, 3, 1, 1, 1) == tap_range{1, 3});

TEST_CASE("output_length: counts the positions at which the kernel fits") {
    for (std::int64_t input = 1; input <= 12; ++input)
        for (std::int64_t kernel = 1; kernel <= 5; ++kernel)
            for (std::int64_t stride = 1; stride <= 4; ++stride)
                for (std::int64_t dilation = 1; dilation <= 3; ++dilation)
                    for (std::int64_t before = 0; before <= 3; ++before)
                        for (std::int64_t after = 0; after <= 3; ++after) {
                            std::int64_t fits = 0;
                            for (std::int64_t at = -before; at + (kernel - 1) * dilation < input + after; at += stride)
                                ++fits;
                            if (output_length(input, kernel, stride, dilation, before, after) != fits)
                                FAIL_CHECK("input " << input << ", kernel " << kernel << ", stride " << stride
                                                    << ", dilation " << dilation << ", padding " << before << ", "
                                                    << after);
                        }
    SUCCEED();
}

TEST_CASE("same_padding: ceil(input / stride) outputs, the odd zero behind") {
    for (std::int64_t height = 1; height <= 13; ++height)
        for (std::int64_t width = 1; width <= 9; ++width)
            for (std::int64_t kernel = 1; kernel <= 7; ++kernel)
                for (std::int64_t stride = 1; stride <= 4; ++stride)
                    for (std::int64_t dilation = 1; dilation <= 2; ++dilation) {
                        const nhwc input{1, height, width, 1};
                        window2d w{.kernel = {kernel, 8 - kernel}, .stride = {stride, 1}, .dilation = {dilation, 1}};
                        w.padding = same_padding(input, w);
                        INFO("input " << height << "x" << width << ", kernel " << kernel << ", stride " << stride);
                        const padding2d p = w.padding;
                        CHECK(output_extent(input, w) == extent2d{(height + stride - 1) / stride, width});
                        CHECK((p.bottom - p.top == 0 || p.bottom - p.top == 1));
                        CHECK((p.right - p.left == 0 || p.right - p.left == 1));
                        // No more zeros than needed: one fewer would lose an output.
                        if (p.bottom > 0)
                            CHECK(output_length(height, kernel, stride, dilation, p.top, p.bottom - 1) <
                                  (height + stride - 1) / stride);
                    }
}

TEST_CASE("same_padding: stride 2 on even sizes pads only behind, as TensorFlow does") {
    CHECK(same_padding({1, 56, 56, 8}, {.kernel = {3, 3}, .stride = {2, 2}}) == padding2d{0, 1, 0, 1});
    CHECK(same_padding({1, 57, 57, 8}, {.kernel = {3, 3}, .stride = {2, 2}}) == padding2d{1, 1, 1, 1});
    CHECK(same_padding({1, 224, 224, 3}, {.kernel = {7, 7}, .stride = {2, 2}}) == padding2d{2, 3, 2, 3});
    CHECK(same_padding({1, 28, 28, 1}, {.kernel = {5, 5}}) == padding2d{2, 2, 2, 2});
    CHECK(same_padding({1, 28, 28, 1}, {.kernel = {2, 2}}) == padding2d{0, 1, 0, 1});
    CHECK(same_padding({1, 28, 28, 1}, {.kernel = {1, 1}, .stride = {2, 2}}) == padding2d{0, 0, 0, 0});
}

TEST_CASE("valid_taps: exactly the taps that read inside the input") {
    for (std::int64_t input = 1; input <= 9; ++input)
        for (std::int64_t kernel = 1; kernel <= 5; ++kernel)
            for (std::int64_t stride = 1; stride <= 3; ++stride)
                for (std::int64_t dilation = 1; dilation <= 4; ++dilation)
                    for (std::int64_t before = 0; before <= 12; ++before)
                        for (std::int64_t output = 0; output <= 12; ++output) {
                            const tap_range taps = valid_taps(output, input, kernel, stride, dilation, before);
                            bool right = 0 <= taps.first && taps.first <= taps.last && taps.last <= kernel;
                            for (std::int64_t k = 0; k < kernel; ++k) {
                                const std::int64_t at = output * stride - before + k * dilation;
                                right &= (at >= 0 && at < input) == (taps.first <= k && k < taps.last);
                            }
                            if (!right)
                                FAIL_CHECK("input " << input << ", kernel " << kernel << ", stride " << stride
                                                    << ", dilation " << dilation << ", padding " << before
                                                    << ", output " << output << ": " << taps.first << ", "
                                                    << taps.last);
                        }
    SUCCEED();
}

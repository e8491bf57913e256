#include <algorithm>
#include <cmath>

#include "data.hpp"
#include "random.hpp"

namespace quickstart {
namespace {

/// Signed distance to shape `kind` around the origin, negative inside; the shapes reach about ±1.
float distance(int kind, float u, float v) {
    const float r = std::hypot(u, v);
    const float square = std::max(std::abs(u), std::abs(v));
    const float diamond = (std::abs(u) + std::abs(v)) * 0.7071F;
    const float bar_u = std::max(std::abs(u) - 1.0F, std::abs(v) - 0.25F);
    const float bar_v = std::max(std::abs(v) - 1.0F, std::abs(u) - 0.25F);
    switch (kind) {
    case 0: return r - 0.95F;                                                     // disc
    case 1: return std::abs(r - 0.75F) - 0.2F;                                    // ring
    case 2: return square - 0.85F;                                                // square
    case 3: return std::abs(square - 0.7F) - 0.18F;                               // frame
    case 4: return std::max(v - 0.75F, 0.866F * std::abs(u) - 0.5F * v - 0.45F);  // triangle
    case 5: return std::min(bar_u, bar_v);                                        // plus
    case 6: return bar_u;                                                         // bar
    case 7: return std::max(r - 0.95F, -v);                                       // half disc
    case 8: return std::max(r - 0.95F, 0.7F - std::hypot(u - 0.45F, v));          // crescent
    default: return std::max(diamond - 0.75F, 0.3F - diamond);                    // hollow diamond
    }
}

/// One image. Angles stay within ±20°, so that square and diamond remain two classes.
void draw(int kind, random_source& random, std::uint8_t* image) {
    const float scale = random.uniform(5.0F, 10.5F);
    const float centre_x = 13.5F + random.uniform(-4.0F, 4.0F);
    const float centre_y = 13.5F + random.uniform(-4.0F, 4.0F);
    const float angle = random.uniform(-0.35F, 0.35F);
    const float background = random.uniform(0.0F, 90.0F);
    const float ink = background + random.uniform(40.0F, 150.0F);
    const float noise = random.uniform(10.0F, 45.0F);
    const float cosine = std::cos(angle);
    const float sine = std::sin(angle);
    for (int y = 0; y < image_side; ++y) {
        for (int x = 0; x < image_side; ++x) {
            const float dx = (static_cast<float>(x) - centre_x) / scale;
            const float dy = (static_cast<float>(y) - centre_y) / scale;
            const float d = distance(kind, cosine * dx + sine * dy, cosine * dy - sine * dx) * scale;  // in pixels
            const float coverage = std::clamp(0.5F - d, 0.0F, 1.0F);
            const float grey = background + (ink - background) * coverage + noise * random.normal();
            image[y * image_side + x] = static_cast<std::uint8_t>(std::clamp(grey, 0.0F, 255.0F));
        }
    }
}

labelled_images draw_set(std::int64_t count, random_source& random) {
    labelled_images set;
    set.pixels.resize(static_cast<std::size_t>(count * image_pixels));
    set.labels.resize(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
        const int kind = static_cast<int>(i % class_count);
        set.labels[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(kind);
        draw(kind, random, set.pixels.data() + i * image_pixels);
    }
    return set;
}

}  // namespace

dataset draw_shapes(std::uint64_t seed) {
    random_source random(seed);
    dataset data{"synthetic shapes", {}, {}};
    data.train = draw_set(30000, random);
    data.test = draw_set(10000, random);
    return data;
}

}  // namespace quickstart

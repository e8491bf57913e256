// XNNPACK: qs8, one operator per layer, set up once; since 2023 by two calls, reshape and setup.
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include <xnnpack.h>

#include "peer.hpp"

namespace po2quant::bench {

peer xnnpack_peer() {
    return {
        "XNNPACK", PO2QUANT_XNNPACK_VERSION, [](const peer_layer& l) -> runner {
            static const bool ready = xnn_initialize(nullptr) == xnn_status_success;
            if (!ready) return std::nullopt;
            const auto [kh, kw] = l.window.kernel;
            // OHWI; depthwise as it is, [KH][KW][C].
            std::vector<std::int8_t> weights;
            if (l.depthwise()) weights.assign(l.weights, l.weights + kh * kw * l.input.channels);
            for (std::int64_t o = 0; o < l.outputs; ++o)
                for (std::int64_t ky = 0; ky < kh; ++ky)
                    for (std::int64_t kx = 0; kx < kw; ++kx)
                        for (std::int64_t c = 0; c < l.input.channels; ++c) weights.push_back(l.weight(ky, kx, c, o));
            const auto n = [](std::int64_t v) { return static_cast<std::uint32_t>(v); };
            const auto size = [](std::int64_t v) { return static_cast<std::size_t>(v); };
            const padding2d& p = l.window.padding;
            xnn_operator_t op = nullptr;
            if (xnn_create_convolution2d_nhwc_qs8(
                    n(p.top), n(p.right), n(p.bottom), n(p.left), n(kh), n(kw), n(l.window.stride.height),
                    n(l.window.stride.width), 1, 1, l.depthwise() ? n(l.input.channels) : 1,
                    l.depthwise() ? 1 : size(l.input.channels), l.depthwise() ? 1 : size(l.outputs),
                    size(l.input.channels), size(l.output_channels()), 0, 1.0F, 1.0F, weights.data(), l.bias, 0,
                    std::ldexp(1.0F, l.shift), 0, 96, l.depthwise() ? XNN_FLAG_DEPTHWISE_CONVOLUTION : 0,
#if defined(PO2QUANT_XNNPACK_RESHAPE)
                    nullptr,
#endif
                    &op) != xnn_status_success)
                return std::nullopt;
            const std::shared_ptr<xnn_operator> owned(op, [](xnn_operator_t o) { xnn_delete_operator(o); });
#if defined(PO2QUANT_XNNPACK_RESHAPE)
            std::size_t workspace = 0;
            if (xnn_reshape_convolution2d_nhwc_qs8(op, size(l.input.batch), size(l.input.height), size(l.input.width),
                                                   &workspace, nullptr, nullptr, nullptr) != xnn_status_success)
                return std::nullopt;
            const auto memory =
                std::make_shared<std::vector<std::max_align_t>>(workspace / sizeof(std::max_align_t) + 64);
            if (xnn_setup_convolution2d_nhwc_qs8(op, memory->data(), l.codes, l.output) != xnn_status_success)
                return std::nullopt;
            return [owned, memory] { xnn_run_operator(owned.get(), nullptr); };
#else
                if (xnn_setup_convolution2d_nhwc_qs8(op, size(l.input.batch), size(l.input.height), size(l.input.width),
                                                     l.codes, l.output, nullptr) != xnn_status_success)
                    return std::nullopt;
                return [owned] { xnn_run_operator(owned.get(), nullptr); };
#endif
        }};
}

}  // namespace po2quant::bench

// oneDNN 2 and 3: u8 inputs (the codes are 0..127), s8 weights in the layout it likes best, s8 outputs.
#include <cmath>
#include <memory>
#include <unordered_map>

#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

#include "peer.hpp"

namespace po2quant::bench {

peer onednn_peer() {
    omp_set_num_threads(1);  // what it runs on
    const dnnl_version_t* v = dnnl_version();
    const std::string version =
        std::to_string(v->major) + "." + std::to_string(v->minor) + "." + std::to_string(v->patch);
    return {"oneDNN", version, [](const peer_layer& l) -> runner {
                using namespace dnnl;
                using type = memory::data_type;
                using tag = memory::format_tag;
                struct state {
                    engine cpu{dnnl::engine::kind::cpu, 0};
                    stream queue{cpu};
                    convolution_forward convolution;
                    std::unordered_map<int, memory> arguments;
                    float scale = 1;
                };
                const auto s = std::make_shared<state>();
                const extent2d out = output_extent(l.input, l.window);
                const auto [kh, kw] = l.window.kernel;
                const memory::dims input{l.input.batch, l.input.channels, l.input.height, l.input.width};
                const memory::dims output{l.input.batch, l.output_channels(), out.height, out.width};
                const memory::dims weights = l.depthwise() ? memory::dims{l.input.channels, 1, 1, kh, kw}
                                                           : memory::dims{l.outputs, l.input.channels, kh, kw};
                const memory::desc input_desc(input, type::u8, tag::nhwc);
                const memory::desc output_desc(output, type::s8, tag::nhwc);
                const memory::desc bias_desc({l.output_channels()}, type::s32, tag::x);
                const memory::desc any_weights(weights, type::s8, tag::any);
                const memory::dims strides{l.window.stride.height, l.window.stride.width};
                const memory::dims padding_before{l.window.padding.top, l.window.padding.left};
                const memory::dims padding_after{l.window.padding.bottom, l.window.padding.right};
                primitive_attr attributes;
                post_ops clip;
#if DNNL_VERSION_MAJOR >= 3
                // The output is divided by its scale behind the post-ops: they see sums.
                s->scale = std::ldexp(1.0F, l.shift);
                attributes.set_scales_mask(DNNL_ARG_DST, 0);
                clip.append_eltwise(algorithm::eltwise_clip, 0.0F, 96.0F * s->scale);
                attributes.set_post_ops(clip);
                const convolution_forward::primitive_desc chosen(
                    s->cpu, prop_kind::forward_inference, algorithm::convolution_direct, input_desc, any_weights,
                    bias_desc, output_desc, strides, padding_before, padding_after, attributes);
#else
                attributes.set_output_scales(0, {std::ldexp(1.0F, -l.shift)});
                clip.append_eltwise(1.0F, algorithm::eltwise_clip, 0.0F, 96.0F);
                attributes.set_post_ops(clip);
                const convolution_forward::primitive_desc chosen(
                    convolution_forward::desc(prop_kind::forward_inference, algorithm::convolution_direct, input_desc,
                                              any_weights, bias_desc, output_desc, strides, padding_before,
                                              padding_after),
                    attributes, s->cpu);
#endif
                memory given(memory::desc(weights, type::s8, l.depthwise() ? tag::hwigo : tag::hwio), s->cpu,
                             const_cast<std::int8_t*>(l.weights));
                memory packed(chosen.weights_desc(), s->cpu);
                reorder(given, packed).execute(s->queue, given, packed);
                s->queue.wait();
                s->convolution = convolution_forward(chosen);
                s->arguments = {{DNNL_ARG_SRC, memory(input_desc, s->cpu, const_cast<std::int8_t*>(l.codes))},
                                {DNNL_ARG_WEIGHTS, packed},
                                {DNNL_ARG_BIAS, memory(bias_desc, s->cpu, const_cast<std::int32_t*>(l.bias))},
                                {DNNL_ARG_DST, memory(output_desc, s->cpu, l.output)}};
#if DNNL_VERSION_MAJOR >= 3
                s->arguments[DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST] =
                    memory(memory::desc({1}, type::f32, tag::x), s->cpu, &s->scale);
#endif
                return [s] {
                    s->convolution.execute(s->queue, s->arguments);
                    s->queue.wait();
                };
            }};
}

}  // namespace po2quant::bench

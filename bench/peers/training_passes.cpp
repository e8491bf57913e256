// The training passes as plain C functions on a host's own tensors, for pytorch.py beside this file, which declares the
// struct and the functions again. int8, half to even, gradients by the codes: what PyTorch's ops do.
#include <po2quant/training/fake_quantize.hpp>
#include <po2quant/training/fake_quantize_backward.hpp>
#include <po2quant/training/range_trackers.hpp>
#include <po2quant/training/threshold_gradient.hpp>

#include <new>

namespace {

namespace pq = po2quant;

/// One tensor's training step.
struct step {
    std::int64_t size;
    std::int64_t threads;
    const float* input;  ///< [size], as all others but the mask
    const float* grad_output;
    float* output;
    float* grad_input;
    std::uint8_t* mask;  ///< [mask_bytes(size)]

    std::size_t count() const { return static_cast<std::size_t>(size); }
    std::span<const float> in() const { return {input, count()}; }
    std::span<const float> up() const { return {grad_output, count()}; }
    std::span<float> out() const { return {output, count()}; }
    std::span<float> down() const { return {grad_input, count()}; }
    pq::forward_outputs besides() const { return {.mask = {mask, pq::mask_bytes(count())}}; }
    pq::openmp_executor executor() const { return {static_cast<int>(threads)}; }
};

pq::quantizer quantizer_of(int exponent) {
    return {.format = pq::int8, .exponent = exponent, .mode = pq::rounding::half_even};
}
pq::channel_quantizer quantizer_of(const int* exponents, int channels, std::int64_t inner) {
    return {.format = pq::int8,
            .exponents = {exponents, static_cast<std::size_t>(channels)},
            .inner = inner,
            .mode = pq::rounding::half_even};
}

}  // namespace

extern "C" {

const char* po2quant_arch() { return pq::default_arch::name; }

void po2quant_forward(const step* s, int exponent) {
    pq::fake_quantize(s->in(), s->out(), quantizer_of(exponent), s->besides(), s->executor());
}

void po2quant_forward_channels(const step* s, const int* exponents, int channels, std::int64_t inner) {
    pq::fake_quantize(s->in(), s->out(), quantizer_of(exponents, channels, inner), s->besides(), s->executor());
}

void po2quant_backward(const step* s) {
    pq::fake_quantize_backward(std::span<const std::uint8_t>(s->mask, pq::mask_bytes(s->count())), s->up(), s->down(),
                               s->executor());
}

/// A learned step, LSQ's: y, then dx and the sum that its gradient is made of.
double po2quant_learned(const step* s, int exponent) {
    const pq::quantizer q = quantizer_of(exponent);
    pq::fake_quantize(s->in(), s->out(), q, s->executor());
    return pq::fake_quantize_backward_threshold(s->in(), s->up(), s->down(), q, pq::threshold_term::error, {},
                                                s->executor());
}
/// sums: [channels]
void po2quant_learned_channels(const step* s, const int* exponents, int channels, std::int64_t inner, double* sums) {
    const pq::channel_quantizer q = quantizer_of(exponents, channels, inner);
    pq::fake_quantize(s->in(), s->out(), q, s->executor());
    pq::fake_quantize_backward_threshold(s->in(), s->up(), s->down(), q, pq::threshold_term::error,
                                         {sums, static_cast<std::size_t>(channels)}, {}, s->executor());
}

pq::ema_range* po2quant_new_range(float decay) { return new (std::nothrow) pq::ema_range{.decay = decay}; }
void po2quant_delete_range(pq::ema_range* range) { delete range; }
float po2quant_range_min(const pq::ema_range* range) { return range->current().min; }
float po2quant_range_max(const pq::ema_range* range) { return range->current().max; }

/// Observes, then quantizes with what it saw: two passes.
void po2quant_observe_and_forward(const step* s, pq::ema_range* range) {
    range->observe(s->in(), s->executor());
    po2quant_forward(s, range->exponent(pq::int8));
}

/// Quantizes with what the steps before saw, and observes for the next, in one pass.
void po2quant_forward_observing(const step* s, pq::ema_range* range) {
    pq::range seen;
    pq::forward_outputs besides = s->besides();
    besides.seen = &seen;
    pq::fake_quantize(s->in(), s->out(), quantizer_of(range->exponent(pq::int8)), besides, s->executor());
    range->update(seen);
}

}  // extern "C"

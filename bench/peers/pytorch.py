#!/usr/bin/env python3
"""Our training passes beside PyTorch's fake quantization: time, in one process, on the same tensors.

    pip install torch numpy
    cmake --preset release -D PO2QUANT_BUILD_PEERS=ON
    cmake --build --preset release --target po2quant_training_passes
    python bench/peers/pytorch.py build/release/bench/peers/libpo2quant_training_passes.so
        [--json FILE] [--filter REGEX] [--rounds N] [--seed N]

Codes -128..127, scales 2^e, zero point 0, rounded half to even. What a row times:

    per tensor             fake_quantize_per_tensor_affine, forward and backward as in training: out = op(x);
                           out.backward(g). Ours: fake_quantize with the mask, fake_quantize_backward with it
    per tensor, autograd   the same op. Ours as users may bind it: a torch.autograd.Function that has PyTorch allocate
    per tensor, forward    the op alone, without autograd (its mask of a byte an element is made all the same)
    per tensor, backward   the backward op alone, without autograd
    channels outermost     fake_quantize_per_channel_affine, axis 0 of [64, n / 64]; forward and backward, as all below
    channels innermost     the same, axis 1 of [n / 64, 64]
    learned step           _fake_quantize_learnable_per_tensor_affine, the scale's gradient (LSQ's) beside that of x.
                           Ours: fake_quantize, fake_quantize_backward_threshold
    learned, outermost     the same with 64 scales, _fake_quantize_learnable_per_channel_affine, axis 0
    learned, innermost     the same, axis 1
    range before           fused_moving_avg_obs_fake_quant, which quantizes with an average that holds this step's
                           range. Ours: ema_range.observe, then as `per tensor`
    range beside           the same op. Ours: fake_quantize takes the range in its pass, for the next step's exponent
    composed               v = x / s, then (v + (round(v) - v).detach()).clamp(qmin, qmax) * s. Ours: as `per tensor`

Memory: ours writes where it is told to, so its outputs are allocated once. PyTorch's ops allocate theirs, and x.grad is
given up before each step as by zero_grad(): its users pay for that, and it is timed. Where malloc maps memory for each
call, as it does for 64 MB, the kernel fills it with zeros, page by page; at 16M floats that is a good part of the time.
An allocator that keeps its memory instead, set before Python starts:

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 python bench/peers/pytorch.py ...

Threads: both use the same OpenMP, as the library takes the one that came with torch. Its threads spin for milliseconds
where they wait for each other, so two that have to share a core wait for whole time slices: on a machine with other
work set OMP_WAIT_POLICY=passive.

Every round runs both, in a new order, each once untimed and then timed; timed again, for a while, where the kernel took
a core away meanwhile. Figures are medians of the rounds; rounds in which copying a tensor took more than 1.15 of its
median count for neither. Results are compared before anything is timed; exits with 1 if something differs, but for
gradients of `composed` where the code is qmin or qmax: torch.clamp lets none pass there. Gradients of scales are compared
with sums in float64, by the root of the sum of their terms' squares: ours to within 4 * 2^-24 of it, PyTorch's, which
adds up in float32, to within 2^-12.
"""
import argparse
import ctypes
import json
import os
import random
import re
import resource
import sys
import time

import torch

EXPONENT, QMIN, QMAX = -4, -128, 127
CHANNELS = 64
AVERAGING = 0.5  # a step's weight in the moving average: sums of few bits, so that both are exact
SETTINGS = [(size, threads) for size in (1 << 18, 1 << 24) for threads in (1, 2)]
BATCH = 1e-3  # seconds: a small part of a time slice, so that other work seldom falls into one, ...
PATIENCE = 0.05  # ... and how long to try for one that it leaves alone


class Step(ctypes.Structure):
    _fields_ = [("size", ctypes.c_int64), ("threads", ctypes.c_int64)] + [
        (name, ctypes.c_void_p) for name in ("input", "grad_output", "output", "grad_input", "mask")]


def load(path):
    library = ctypes.CDLL(os.path.abspath(path))
    pointer = ctypes.c_void_p
    for name, result, arguments in (
            ("arch", ctypes.c_char_p, ()),
            ("forward", None, (pointer, ctypes.c_int)),
            ("forward_channels", None, (pointer, pointer, ctypes.c_int, ctypes.c_int64)),
            ("backward", None, (pointer,)),
            ("learned", ctypes.c_double, (pointer, ctypes.c_int)),
            ("learned_channels", None, (pointer, pointer, ctypes.c_int, ctypes.c_int64, pointer)),
            ("new_range", pointer, (ctypes.c_float,)),
            ("delete_range", None, (pointer,)),
            ("range_min", ctypes.c_float, (pointer,)),
            ("range_max", ctypes.c_float, (pointer,)),
            ("observe_and_forward", None, (pointer, pointer)),
            ("forward_observing", None, (pointer, pointer))):
        function = getattr(library, f"po2quant_{name}")
        function.restype, function.argtypes = result, arguments
        setattr(library, name, function)
    return library


class Tensors:
    """One step's tensors, the same for both: x with ties, cut at both ends, with extremes of ±(127 / 16 + 1)."""

    def __init__(self, size, threads, seed):
        source = torch.Generator().manual_seed(seed)
        self.x = torch.randn(size, generator=source).mul_(4).clamp_(-8.9375, 8.9375)
        self.x[::8].mul_(32).round_().div_(32)
        self.x[:2] = torch.tensor([-8.9375, 8.9375])
        self.g = torch.randn(size, generator=source)
        self.y, self.dx = torch.zeros(size), torch.zeros(size)
        self.mask = torch.zeros((size + 7) // 8, dtype=torch.uint8)
        self.step = Step(size, threads, *(t.data_ptr() for t in (self.x, self.g, self.y, self.dx, self.mask)))
        self.address = ctypes.addressof(self.step)


def trained(op, x, g):
    """Forward and backward as in a training loop. Returns what it made."""
    x = x.detach().requires_grad_()

    def step():
        x.grad = None
        out = op(x)
        out.backward(g)
        return out, x.grad

    return step


def per_tensor(ours, t):
    def own():
        ours.forward(t.address, EXPONENT)
        ours.backward(t.address)

    return own, trained(lambda x: torch.fake_quantize_per_tensor_affine(x, 2.0**EXPONENT, 0, QMIN, QMAX), t.x, t.g)


class FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, ours, threads):
        y = torch.empty_like(x)
        mask = torch.empty((x.numel() + 7) // 8, dtype=torch.uint8)
        step = Step(x.numel(), threads, x.data_ptr(), None, y.data_ptr(), None, mask.data_ptr())
        ours.forward(ctypes.byref(step), EXPONENT)
        ctx.save_for_backward(mask)
        ctx.ours, ctx.threads = ours, threads
        return y

    @staticmethod
    def backward(ctx, g):
        mask, = ctx.saved_tensors
        dx = torch.empty_like(g)
        step = Step(g.numel(), ctx.threads, None, g.data_ptr(), None, dx.data_ptr(), mask.data_ptr())
        ctx.ours.backward(ctypes.byref(step))
        return dx, None, None


def in_autograd(ours, t):
    return trained(lambda x: FakeQuantize.apply(x, ours, t.step.threads), t.x, t.g), per_tensor(ours, t)[1]


def forward(ours, t):
    def other():
        with torch.no_grad():
            return torch.fake_quantize_per_tensor_affine(t.x, 2.0**EXPONENT, 0, QMIN, QMAX), None

    return lambda: ours.forward(t.address, EXPONENT), other


def backward(ours, t):
    ours.forward(t.address, EXPONENT)
    _, mask = torch.ops.aten.fake_quantize_per_tensor_affine_cachemask(t.x, 2.0**EXPONENT, 0, QMIN, QMAX)
    op = torch.ops.aten.fake_quantize_per_tensor_affine_cachemask_backward
    return lambda: ours.backward(t.address), lambda: (None, op(t.g, mask))


def per_channel(axis):
    def engines(ours, t):
        exponents = [EXPONENT - c % 3 for c in range(CHANNELS)]
        given = (ctypes.c_int * CHANNELS)(*exponents)
        inner = 1 if axis == 1 else t.x.numel() // CHANNELS
        scale, zero = torch.tensor([2.0**e for e in exponents]), torch.zeros(CHANNELS, dtype=torch.int32)
        shape = (CHANNELS, -1) if axis == 0 else (-1, CHANNELS)

        def own():
            ours.forward_channels(t.address, given, CHANNELS, inner)
            ours.backward(t.address)

        def op(x):
            return torch.fake_quantize_per_channel_affine(x, scale, zero, axis, QMIN, QMAX)

        return own, trained(op, t.x.view(shape), t.g.view(shape))

    return engines


class Learned:
    """Scales that are learned: None for one, else one per channel along an axis."""

    def __init__(self, ours, t, axis):
        self.ours, self.t, self.axis = ours, t, axis
        self.exponents = [EXPONENT - c % 3 for c in range(1 if axis is None else CHANNELS)]
        self.given = (ctypes.c_int * len(self.exponents))(*self.exponents)
        self.sums = (ctypes.c_double * len(self.exponents))()
        self.scale = torch.tensor([2.0**e for e in self.exponents], requires_grad=True)
        self.zero = torch.zeros(len(self.exponents))
        self.shape = {None: (-1,), 0: (CHANNELS, -1), 1: (-1, CHANNELS)}[axis]

    def own(self):
        if self.axis is None:
            self.sums[0] = self.ours.learned(self.t.address, EXPONENT)
        else:
            inner = 1 if self.axis == 1 else self.t.x.numel() // CHANNELS
            self.ours.learned_channels(self.t.address, self.given, CHANNELS, inner, self.sums)

    def op(self, x):
        self.scale.grad = None
        if self.axis is None:
            return torch._fake_quantize_learnable_per_tensor_affine(x, self.scale, self.zero, QMIN, QMAX, 1.0)
        return torch._fake_quantize_learnable_per_channel_affine(x, self.scale, self.zero, self.axis, QMIN, QMAX, 1.0)

    def compare(self):
        shape = [1] * len(self.shape)
        shape[self.axis or 0] = -1
        x, g = (v.view(self.shape).double() for v in (self.t.x, self.t.g))
        v = x / self.scale.detach().view(shape)
        code = torch.round(v)
        terms = g * torch.where((code >= QMIN) & (code <= QMAX), code - v, code.clamp(QMIN, QMAX))
        others = [d for d in range(terms.dim()) if d != self.axis]
        size = terms.square().sum(others).sqrt().view(-1)
        exact = terms.sum(others).view(-1)
        sums = torch.tensor(list(self.sums), dtype=torch.float64)
        apart = (sums - exact).abs() > 2.0**-22 * size, (self.scale.grad - exact).abs() > 2.0**-12 * size
        return int(sum(a.sum() for a in apart))


def learned(axis):
    def engines(ours, t):
        state = Learned(ours, t, axis)
        return state.own, trained(state.op, t.x.view(state.shape), t.g.view(state.shape)), state

    return engines


class Average:
    """A moving average of ranges in both engines, after a step with extremes of ±(127 / 16 - 1): that of `t` brings it
    to ±127 / 16, which gives both the scale 1 / 16."""

    def __init__(self, ours, t):
        self.library, self.range = ours, ours.new_range(1 - AVERAGING)
        self.min, self.max = torch.full((1,), torch.inf), torch.full((1,), -torch.inf)
        self.scale, self.zero = torch.ones(1), torch.zeros(1, dtype=torch.int32)
        self.on = torch.ones(1, dtype=torch.int64)
        first = Tensors(t.x.numel(), 1, 1)
        first.x.clamp_(-6.9375, 6.9375)
        ours.observe_and_forward(first.address, self.range)
        self.op(first.x)

    def op(self, x):
        return torch.fused_moving_avg_obs_fake_quant(x, self.on, self.on, self.min, self.max, self.scale, self.zero,
                                                     AVERAGING, QMIN, QMAX, 0, False, True)

    def compare(self):
        ranges = (self.library.range_min(self.range), self.library.range_max(self.range))
        return int(ranges != (self.min.item(), self.max.item())) + int(self.scale.item() != 2.0**EXPONENT)

    def __del__(self):
        self.library.delete_range(self.range)


def observed(pass_name):
    def engines(ours, t):
        average = Average(ours, t)
        run = getattr(ours, pass_name)

        def own():
            run(t.address, average.range)
            ours.backward(t.address)

        return own, trained(average.op, t.x, t.g), average

    return engines


def composed(ours, t):
    scale = 2.0**EXPONENT

    def op(x):
        v = x / scale
        return (v + (torch.round(v) - v).detach()).clamp(QMIN, QMAX) * scale

    return per_tensor(ours, t)[0], trained(op, t.x, t.g)


ROWS = {
    "per tensor": per_tensor,
    "per tensor, autograd": in_autograd,
    "per tensor, forward": forward,
    "per tensor, backward": backward,
    "channels outermost": per_channel(0),
    "channels innermost": per_channel(1),
    "learned step": learned(None),
    "learned, outermost": learned(0),
    "learned, innermost": learned(1),
    "range before": observed("observe_and_forward"),
    "range beside": observed("forward_observing"),
    "composed": composed,
}


def quantile(values, q):
    return sorted(values)[int(q * (len(values) - 1))]


def spread(times):
    return (quantile(times, 0.75) - quantile(times, 0.25)) / quantile(times, 0.5)


def differing(own, other, name):
    """How many values and gradients differ, and how many gradients do that may."""
    def apart(mine, theirs):
        return torch.zeros(1, dtype=torch.bool) if theirs is None else mine.detach() != theirs.detach().view(-1)

    values, gradients = map(apart, own, other)
    if name != "composed":
        return int(values.sum() + gradients.sum()), 0
    at_ends = gradients & ((own[0] == QMIN * 2.0**EXPONENT) | (own[0] == QMAX * 2.0**EXPONENT))
    return int(values.sum() + (gradients & ~at_ends).sum()), int(at_ends.sum())


def time_calls(f, calls):
    """Seconds per call."""
    start = time.perf_counter()
    for _ in range(calls):
        f()
    return (time.perf_counter() - start) / calls


def time_batch(f, calls):
    """The same, again where the kernel took a core from us to run others meanwhile, while patience lasts."""
    start = time.perf_counter()
    while True:
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        seconds = time_calls(f, calls)
        alone = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw == switches
        if alone or time.perf_counter() - start > PATIENCE:
            return seconds


def measure(ours, name, size, threads, options, order):
    torch.set_num_threads(threads)
    t = Tensors(size, threads, options.seed)
    own, other, *state = ROWS[name](ours, t)
    differ, ends = differing(own() or (t.y, t.dx), other(), name)
    differ += sum(s.compare() for s in state)
    engines = {"po2quant": own, "PyTorch": other}
    calls = {engine: max(1, int(BATCH / time_calls(f, 2))) for engine, f in engines.items()}
    times = {engine: [] for engine in engines}
    copies = []
    rounds = options.rounds * (4 if size < 1 << 20 else 1)
    for _ in range(rounds):
        copies.append(time_batch(lambda: t.y.copy_(t.x), calls["po2quant"]))
        for engine in order.sample(list(engines), len(engines)):
            engines[engine]()
            times[engine].append(time_batch(engines[engine], calls[engine]))
    kept = [i for i, copy in enumerate(copies) if copy <= 1.15 * quantile(copies, 0.5)]
    times = {engine: [all_of[i] for i in kept] for engine, all_of in times.items()}
    medians = {engine: quantile(of, 0.5) for engine, of in times.items()}
    return {"row": name, "size": size, "threads": threads,
            **{f"{engine}_us": median * 1e6 for engine, median in medians.items()},
            **{f"{engine}_spread": spread(of) for engine, of in times.items()},
            "copy_us": quantile(copies, 0.5) * 1e6, "ratio": medians["PyTorch"] / medians["po2quant"],
            "discarded_rounds": rounds - len(kept), "differing": differ, "ends_differing": ends}


def cell(r):
    unit = 1 if r["size"] < 1 << 20 else 1e3
    return f"{r['po2quant_us'] / unit:.3g}, {r['PyTorch_us'] / unit:.3g}, **{r['ratio']:.1f}**"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", help="the built po2quant_training_passes")
    parser.add_argument("--json", help="a file for the figures")
    parser.add_argument("--filter", default="", help="a regular expression that rows must match")
    parser.add_argument("--rounds", type=int, default=15, help="of large tensors; small ones have 4 times as many")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ours, order = load(options.library), random.Random(options.seed)
    given = [f", {v}={os.environ[v]}" for v in sorted(os.environ) if v.startswith(("MALLOC_", "OMP_", "THP_MEM_"))]
    print(f"PyTorch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}), po2quant "
          f"({ours.arch().decode()}), {options.rounds} rounds, seed {options.seed}{''.join(given)}")
    print("po2quant, PyTorch, PyTorch / po2quant\n")
    heads = [f"{size >> 10}K, {n}, µs" if size < 1 << 20 else f"{size >> 20}M, {n}, ms" for size, n in SETTINGS]
    print(f"| row, floats, threads | {' | '.join(heads)} | spread up to |\n|---|" + "--:|" * (len(heads) + 1))
    results = []
    for name in filter(lambda row: re.search(options.filter, row), ROWS):
        row = [measure(ours, name, size, threads, options, order) for size, threads in SETTINGS]
        widest = max(r[f"{engine}_spread"] for r in row for engine in ("po2quant", "PyTorch"))
        print(f"| {name} | {' | '.join(map(cell, row))} | {100 * widest:.0f} % |", flush=True)
        results += row
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    discarded, differ, ends = (sum(r[c] for r in results) for c in ("discarded_rounds", "differing", "ends_differing"))
    print(f"\n{discarded} rounds discarded; {differ} values and gradients differ, {ends} gradients at the ends of `composed`")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The ops and layers against float64 and against PyTorch's own; exits with 1 if something differs.

Values and gradients that are on a grid must be equal. Threshold gradients are compared with autograd through TQT's
formula in float64: products are exact there and in ours, so only the order of the sum differs.
"""
import itertools
import math
import sys

import torch
from torch.nn import functional as F

from functions import fake_quantize, ops, trained_threshold
from layers import Conv2d, OutputQuantizer, Predictor, Scheme, freeze_norms, freeze_ranges
from networks import DETECTORS, NETWORKS

SHAPES = ((1,), (7,), (3, 5), (4, 3, 9, 7), (16, 1, 3, 3), (2, 64, 17, 16), (200000,))
LAYOUTS = (torch.contiguous_format, torch.channels_last)
FORMATS = ((8, True), (8, False), (4, True), (16, True), (2, True))
EVERY_NETWORK = NETWORKS | DETECTORS
failures = []


def expect(holds, what):
    if not holds:
        failures.append(what)
        print(f"FAILED  {what}")


def same(a, b, what):
    expect(a.shape == b.shape and torch.equal(a, b), what)


def close(a, b, what, tolerance):
    error = (a.double() - b.double()).abs().max().item()
    bound = tolerance * max(1e-30, b.double().abs().max().item())
    expect(error <= bound, f"{what}: {error:.3g} apart, {bound:.3g} allowed")


def values(shape, exponent, qmax, layout=torch.contiguous_format):
    """Some beyond both ends, half of them ties, in either layout."""
    x = torch.randn(shape).mul_(0.7 * qmax)
    x = torch.where(torch.rand(shape) < 0.5, (2 * x).round() / 2, x) * 2.0**exponent
    return x.contiguous(memory_format=layout) if x.dim() == 4 else x


def limits(bits, is_signed):
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)


def int32(*exponents):
    return torch.tensor(exponents, dtype=torch.int32)


def on_grid(x, exponent, bits, is_signed):
    """Half up, by its definition, in float64; `exponent` may be a tensor."""
    scale = 2.0**exponent
    return torch.floor(x.double() / scale + 0.5).clamp(*limits(bits, is_signed)) * scale


def along(exponents, x, axis):
    return exponents.double().reshape([-1 if d == axis % x.dim() else 1 for d in range(x.dim())])


def check_forward_and_backward():
    for shape, (bits, is_signed) in itertools.product(SHAPES, FORMATS):
        what = f"fake_quantize {shape} {bits} {is_signed}"
        qmin, qmax = limits(bits, is_signed)
        for layout, axis in itertools.product(LAYOUTS, (None, *range(len(shape)))):
            x = values(shape, -3, qmax, layout)
            exponents = int32(-3) if axis is None else torch.randint(-5, -1, (shape[axis],), dtype=torch.int32)
            spread = exponents.double() if axis is None else along(exponents, x, axis)
            y, mask, ranges = ops.fake_quantize(x, exponents, axis or 0, bits, is_signed, observe=True)
            same(y.double(), on_grid(x, spread, bits, is_signed), f"{what} {axis}")
            rows = [x] if exponents.numel() == 1 else x.unbind(axis)
            seen = [[row.min().item(), row.max().item(), row.numel(), 0] for row in rows]
            same(ranges, torch.tensor(seen, dtype=torch.float64), f"{what} {axis} ranges")
            dy = torch.randn_like(x)
            code = torch.floor(x.double() / 2.0**spread + 0.5)
            passes = (qmin <= code) & (code <= qmax)
            same(ops.fake_quantize_backward(mask, dy), torch.where(passes, dy, 0.0), f"{what} {axis} gradient")
            if is_signed:  # a gradient that lies in memory as no output does
                given = x.clone().requires_grad_()
                fake_quantize(given, exponents, axis or 0, bits).sum().backward()
                same(given.grad, passes.float(), f"{what} {axis} in autograd")


def check_against_torch():
    """torch rounds half to even; its mask is by the codes too. Per channel it has qmin for +∞, so that is left out."""
    for shape in SHAPES:
        x = values(shape, -4, 127)
        dy = torch.randn(shape)
        exponents = torch.randint(-6, -2, (shape[0],), dtype=torch.int32)
        zero = torch.zeros(shape[0], dtype=torch.int32)
        theirs = torch.fake_quantize_per_channel_affine(x, 2.0 ** exponents.float(), zero, 0, -128, 127)
        same(ops.fake_quantize(x, exponents, 0, rounding="half_even")[0], theirs, f"torch's per channel {shape}")
        x.view(-1)[0] = math.inf
        theirs = x.clone().requires_grad_()
        out = torch.fake_quantize_per_tensor_affine(theirs, 2.0**-4, 0, -128, 127)
        out.backward(dy)
        y, mask, _ = ops.fake_quantize(x, int32(-4), rounding="half_even")
        same(y, out.detach(), f"torch's fake quantization {shape}")
        same(ops.fake_quantize_backward(mask, dy), theirs.grad, f"torch's gradient {shape}")


def tqt(x, log2_t, bits, axis):
    """TQT by its formula, in float64 by autograd: ⌈⌉ and rounding are passed straight through."""
    qmin, qmax = limits(bits, True)
    straight = log2_t + (log2_t.ceil() - log2_t).detach()
    scale = 2.0 ** (straight if log2_t.numel() == 1 else along(straight, x, axis)) / 2 ** (bits - 1)
    v = x / scale
    code = v + (torch.floor(v + 0.5) - v).detach()
    return torch.where(code > qmax, qmax, torch.where(code < qmin, qmin, code)) * scale


def check_thresholds():
    for shape, bits, layout in itertools.product(SHAPES, (8, 4), LAYOUTS):
        for axis in (None, *range(len(shape))):
            x = values(shape, -bits + 2, limits(bits, True)[1], layout)
            log2_t = torch.randn(1 if axis is None else shape[axis], dtype=torch.float64).requires_grad_()
            dy = torch.randn_like(x)
            ours = x.clone().requires_grad_()
            y = trained_threshold(ours, log2_t, axis or 0, bits)
            y.backward(dy)
            gradient, log2_t.grad = log2_t.grad, None
            wide = x.double().requires_grad_()
            reference = tqt(wide, log2_t, bits, axis)
            reference.backward(dy.double())
            what = f"threshold {shape} {bits} {axis}"
            same(y.detach().double(), reference.detach(), f"{what} values")
            same(ours.grad.double(), wide.grad, f"{what} gradient of x")
            # Ours sums products rounded to float: off by 2^-24 of each at most, up or down.
            error = torch.where(wide.grad == dy, reference - x, reference).detach()  # where no gradient passes: y
            size = (math.log(2) * error * dy).norm()
            expect((gradient - log2_t.grad).abs().max() <= 4 * 2.0**-24 * size, f"{what} gradient of log2 t")


def check_ranges():
    x = torch.randn(6, 5, 4, 3)
    x[0, 0, 0] = torch.tensor([math.nan, math.inf, -math.inf])
    for axis in range(4):
        rows = x.transpose(0, axis).reshape(x.shape[axis], -1)
        seen = ops.observe(x, axis)
        for channel, row in zip(seen, rows):
            finite = row[row.isfinite()]
            same(channel, torch.tensor([finite.min(), finite.max(), len(finite), len(row) - len(finite)],
                                       dtype=torch.float64), f"observe {axis}")
        magnitudes = seen[:, :2].abs().amax(1)
        same(ops.exponents_for(seen, 4), (magnitudes.log2().ceil() - 3).int(), f"exponents_for {axis}")
    w = torch.randn(6, 5, 3, 3)
    for axis in (None, 0, 1):
        rows = w.reshape(1, -1) if axis is None else w.transpose(0, axis).reshape(w.shape[axis], -1)
        rows = rows.double()
        errors = torch.stack([((rows * 2.0**-e + 0.5).floor().clamp(-8, 7) * 2.0**e - rows).square().sum(1)
                              for e in range(2, -12, -1)])  # the first of equals, the coarsest, is the best
        same(ops.least_error_exponents(w, axis, 4), (2 - errors.argmin(0)).int(), f"least_error_exponents {axis}")
    state, average = ops.new_ema_range(0.75, 2), None
    for step in range(5):
        expect(ops.ema_range_quantizing(state) == (step >= 2), f"delay at step {step}")
        seen = torch.tensor([[-1.0 * step, 2.0 * step, 10, 0]], dtype=torch.float64)
        average = seen if average is None else average + (seen - average) * 0.25
        ops.ema_range_update(state, seen)
        same(ops.ema_range_current(state)[:, :2], average[:, :2], f"moving average at step {step}")
    same(ops.tqt_exponents(torch.tensor([0.0, 0.1, -3.0, -3.5], dtype=torch.float64)), int32(-7, -6, -10, -10),
         "tqt_exponents")
    for wrong in (lambda: ops.fake_quantize(x, int32(1, 2)), lambda: ops.fake_quantize(x, int32(1), 0, 17),
                  lambda: ops.fake_quantize(x.double(), int32(1)), lambda: ops.fake_quantize(x[:, ::2], int32(1)),
                  lambda: ops.fake_quantize(x, int32(101)), lambda: ops.fake_quantize(x, int32(1), rounding="up")):
        try:
            wrong()
            expect(False, "a wrong argument was taken")
        except RuntimeError:
            pass


def check_folding():
    """With weights that the grid holds almost exactly, a folded layer is conv and batch norm: values and gradients."""
    for depthwise in (False, True):
        layer = Conv2d(6, 6, 3, 2, depthwise, scheme=Scheme(weight_bits=16, delay=0))
        layer.output = torch.nn.Identity()
        layer.output.quantizing, layer.output.exponent = True, lambda: 0
        layer.norm.running_var.uniform_(0.5, 2)
        layer.norm.running_mean.normal_()
        x, dy = torch.randn(8, 6, 9, 9), torch.randn(8, 6, 5, 5)
        for frozen in (False, True):
            if frozen:
                freeze_norms(layer)
            parameters = (layer.conv.weight, layer.norm.weight, layer.norm.bias)
            moving = layer.norm.running_mean.clone(), layer.norm.running_var.clone()
            y = layer(x)
            ours = torch.autograd.grad(y, parameters, dy)
            reference = F.batch_norm(layer.conv(x), *moving, layer.norm.weight, layer.norm.bias, not frozen)
            theirs = torch.autograd.grad(reference, parameters, dy)
            what = f"folding, {'depthwise' if depthwise else 'dense'}, {'frozen' if frozen else 'unfrozen'}"
            close(y, reference, what, 1e-3)
            for name, a, b in zip(("weight", "gamma", "beta"), ours, theirs):
                close(a, b, f"{what}, gradient of {name}", 2e-3)


def check_off_grid():
    """Its gradient is how far weights are off their grid point, before folding; 0 beyond the grid's ends."""
    for depthwise, trained in itertools.product((False, True), repeat=2):
        layer = Conv2d(6, 6, 3, 1, depthwise, scheme=Scheme(weight_bits=4, trained=trained))
        layer.norm.running_var.uniform_(0.1, 4)
        layer.norm.weight.data.uniform_(-2, 2)
        layer.norm.weight.data[0] = 0
        loss = layer.off_grid()
        loss.backward()
        w = layer.conv.weight.detach().double()
        fold = (layer.norm.weight.detach() / layer.moving_sigma()).double()[:, None, None, None]
        exponents = layer.on_grids()[2].double().reshape(-1, 1, 1, 1)
        v = w * fold
        off = v - on_grid(v, exponents, 4, True)
        wanted = torch.where((off.abs() <= 0.5 * 2.0**exponents) & (fold != 0), off / fold, 0)
        expect(torch.count_nonzero(wanted) > 30, "weights off the grid")
        close(layer.conv.weight.grad, wanted, f"off_grid's gradient, depthwise {depthwise}, trained {trained}", 1e-5)
        close(loss.detach(), 0.5 * wanted.square().sum(), "off_grid", 1e-5)
        expect(layer.weight.log2_t is None or layer.weight.log2_t.grad is None, "off_grid leaves thresholds alone")


@torch.no_grad()
def check_exactness():
    """Sums of codes are exact in float32: float64 gives a quantized layer the same bits."""
    def compare(layer, inputs, output):
        x, = inputs
        what = f"float32 beside float64 {tuple(layer.conv.weight.shape)}"
        if isinstance(layer, Predictor):
            w, b, _ = layer.deployed()
            wide = F.conv2d(x.double(), w.double(), b.double())
            same(layer.output(wide.float()), output, what)
        else:
            w, b, _ = layer.deployed()
            wide = layer.convolve(x.double(), w.double(), b.double())
            same(layer.output(layer.activation(wide.float())), output, what)

    for network in EVERY_NETWORK.values():
        network = network(3, 10, Scheme(delay=1))
        x = torch.randint(-128, 128, (16, 3, 32, 32)) / 128
        network(x)
        for layer in network.eval().modules():
            if isinstance(layer, (Conv2d, Predictor)):
                layer.register_forward_hook(compare)
        network(x)


def compare_with_integers(layer, inputs, outputs, what):
    """A layer beside its integers, computed in float64. Returns the exponents of its sums, and its bias in steps of
    them."""
    codes = torch.randint(-128, 128, (4, layer.conv.weight.shape[0], 5, 5)).double()
    folded = layer.folded((codes * 2.0**inputs).float())
    found = fake_quantize(folded, int32(outputs)) * 2.0**-outputs
    w, b, weights = layer.on_grids()
    sums = weights.double() + inputs
    whole = lambda values, exponents: values.double() / 2.0 ** exponents.reshape(-1, *[1] * (values.dim() - 1))
    bias = whole(b, sums)
    accumulated = layer.convolve(codes, whole(w, weights), bias.floor())
    scale = 2.0 ** (sums - outputs).reshape(-1, 1, 1)
    same(found.double(), (accumulated * scale + 0.5).floor().clamp(-128, 127), what)
    return sums, bias


@torch.no_grad()
def check_deployment():
    """A layer computes what integers do, where its outputs are on coarser, the same and finer grids than its sums are;
    where they are not coarser, the bias loses what is below those."""
    inputs, outputs, channels = -4, -6, 14
    source = OutputQuantizer(Scheme())
    source.exponent = lambda: inputs
    for depthwise in (False, True):
        layer = Conv2d(channels, channels, 3, 1, depthwise, scheme=Scheme(4, trained=True, delay=0), source=source)
        weights = torch.arange(-8, 6).int() if depthwise else int32(-2)
        layer.weight.log2_t.data = weights.double() + 3 if depthwise else torch.tensor([1.0], dtype=torch.float64)
        layer.output.log2_t.data = torch.tensor([outputs + 7.0], dtype=torch.float64)
        layer.eval().conv.weight.data *= 8
        layer.norm.running_mean.normal_(0, 0.1)
        same(layer.on_grids()[2], weights, "exponents of weights")
        what = f"integers, {'depthwise' if depthwise else 'dense'}"
        sums, bias = compare_with_integers(layer, inputs, outputs, what)
        lost = bias != bias.floor()
        expect(lost[sums < outputs].any() and lost[sums >= outputs].any() if depthwise else lost.any(), what + ": bias")


@torch.no_grad()
def check_dead_channels():
    """Channels of no weights, or next to none, get exponents by which their bias fits the sums."""
    inputs, outputs, channels = -4, -3, 6
    source = OutputQuantizer(Scheme())
    source.exponent = lambda: inputs
    same(ops.least_weight_exponents(torch.tensor([0.0, 1.0, -1.5]), inputs), int32(-100, -19, -18), "least exponents")
    for depthwise, trained in itertools.product((False, True), repeat=2):
        layer = Conv2d(channels, channels, 3, 1, depthwise, scheme=Scheme(trained=trained, delay=0), source=source)
        layer.eval().conv.weight.data[0] = 0
        layer.conv.weight.data[1] *= 1e-20
        if not depthwise:
            layer.conv.weight.data *= 1e-20
        layer.norm.bias.data = torch.tensor([10.0, -12.0, 0.5, -0.3, 0.1, 3.0])
        layer.on_grids()
        if trained:
            layer.output.log2_t.data = torch.tensor([outputs + 7.0], dtype=torch.float64)
        else:
            layer.output.exponent = lambda: outputs
        alone, used = layer.weight(layer.scaled_weights())[1], layer.on_grids()[2]
        what = f"dead channels, {'depthwise' if depthwise else 'dense'}, {'tqt' if trained else 'ema'}"
        expect((used[:2] > alone[:2]).all() and torch.equal(used[2:], alone[2:]), what + ": exponents")
        _, bias = compare_with_integers(layer, inputs, outputs, what)
        expect(bias.abs().max() <= 2**23, what + ": bias")


def flat(outputs):
    """A detector's outputs as one."""
    return outputs if isinstance(outputs, torch.Tensor) else torch.cat([part.flatten(1) for part in outputs], 1)


def check_networks():
    """Every parameter has a gradient, evaluation changes nothing, a state loads, frozen thresholds rest."""
    for name, trained, bits in itertools.product(EVERY_NETWORK, (False, True), (8, 4)):
        scheme = Scheme(weight_bits=bits, trained=trained, delay=1)
        network = EVERY_NETWORK[name](3, 10, scheme)
        x, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
        with torch.no_grad():
            network(x)
        F.cross_entropy(flat(network(x)), labels).backward()
        what = f"{name} {'tqt' if trained else 'ema'} int{bits}"
        without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        expect(not without, f"{what}: no gradient for {without}")
        network.eval()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        y = flat(network(x))
        changed = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
        expect(not changed, f"{what}: evaluation changes {changed}")
        other = EVERY_NETWORK[name](3, 10, scheme).eval()
        other.load_state_dict(before)
        same(flat(other(x)), y, f"{what}: loaded")
        freeze_ranges(network)
        learning = [n for n, p in network.named_parameters() if n.endswith("log2_t") and p.requires_grad]
        expect(not learning, f"{what}: {learning} are not frozen")


def main():
    torch.manual_seed(1)
    for check in (check_forward_and_backward, check_against_torch, check_thresholds, check_ranges, check_folding,
                  check_off_grid, check_exactness, check_deployment, check_dead_channels, check_networks):
        before = len(failures)
        check()
        verdict = "ok" if len(failures) == before else "FAILED"
        print(f"{check.__name__.removeprefix('check_').replace('_', ' ')}: {verdict}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

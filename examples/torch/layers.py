"""Layers whose weights, biases and outputs are on power-of-two grids, or in float32 where they are given no scheme."""
import dataclasses

import torch
from torch import nn
from torch.nn import functional as F

from functions import fake_quantize, fake_quantize_observing, ops, trained_threshold

BIAS_BITS = 16
IMAGE_EXPONENT = -7


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How a network is quantized."""

    weight_bits: int = 8
    depthwise_bits: int = 0  # of depthwise weights where not weight_bits
    trained: bool = False  # thresholds: learned (TQT), or from ranges, the original project's method
    least_error: bool = False  # where those of weights start: at least squared error, or as published
    delay: int = 50  # training steps that only watch ranges
    decay: float = 0.99  # of the moving averages of ranges


class WeightQuantizer(nn.Module):
    """Weights on the grid of their own range, of today; or of a trained threshold, which starts as three times their
    root mean square, or in the middle of the exponent of least squared error: of 9 weights none is beyond the first,
    and most are far below. One exponent, or one per output channel; none below those of `least`, one per channel."""

    def __init__(self, scheme, bits, channels=1):
        super().__init__()
        self.bits, self.axis, self.least_error = bits, None if channels == 1 else 0, scheme.least_error
        self.log2_t = nn.Parameter(torch.full((channels,), torch.nan, dtype=torch.float64)) if scheme.trained else None

    def forward(self, w, least=None):
        """w on the grid, and its exponents."""
        if least is not None and self.axis is None:
            least = least.amax(0, keepdim=True)
        if self.log2_t is None:
            exponents = ops.exponents_for(ops.observe(w.detach(), self.axis), self.bits)
            if least is not None:
                exponents = torch.maximum(exponents, least)
            return fake_quantize(w, exponents, 0, self.bits), exponents
        if self.log2_t.isnan().any():
            if self.least_error:
                start = ops.least_error_exponents(w.detach(), self.axis, self.bits).double() + (self.bits - 1 - 0.5)
            else:
                start = (3 * w.detach().double().reshape(self.log2_t.numel(), -1).square().mean(1).sqrt()).log2()
            self.log2_t.data = start.clamp_min(-20)
        log2_t = self.log2_t
        if least is not None:
            log2_t = torch.maximum(log2_t, (least + (self.bits - 1)).double())
        return trained_threshold(w, log2_t, 0, self.bits), ops.tqt_exponents(log2_t.detach(), self.bits)


class OutputQuantizer(nn.Module):
    """Activations, int8, on the grid of a moving average of their range; or of a trained threshold, which starts as
    that average. Training steps are watched; for the first ones, the delay, nothing more is done."""

    def __init__(self, scheme):
        super().__init__()
        self.register_buffer("range", ops.new_ema_range(scheme.decay, scheme.delay))
        self.log2_t = nn.Parameter(torch.full((1,), torch.nan, dtype=torch.float64)) if scheme.trained else None
        self.frozen = False

    @property
    def quantizing(self):
        return ops.ema_range_quantizing(self.range)

    def started_threshold(self):
        if self.log2_t.isnan().any():
            self.log2_t.data = ops.ema_range_current(self.range)[:, :2].abs().amax(1).log2()
        return self.log2_t

    def exponent(self):
        if self.log2_t is None:
            return int(ops.exponents_for(ops.ema_range_current(self.range)))
        return int(ops.tqt_exponents(self.started_threshold().detach(), 8))

    def forward(self, x):
        watching = self.training and not self.frozen
        if not self.quantizing:
            if watching:
                ops.ema_range_update(self.range, ops.observe(x.detach()))
            return x
        if self.log2_t is not None:
            return trained_threshold(x, self.started_threshold())
        exponents = ops.exponents_for(ops.ema_range_current(self.range))
        if not watching:
            return fake_quantize(x, exponents)
        # The exponent comes from the steps before this one, so one pass does for both.
        y, seen = fake_quantize_observing(x, exponents)
        ops.ema_range_update(self.range, seen)
        return y


@dataclasses.dataclass(frozen=True)
class Source:
    """What made a layer's inputs: the quantizer of other layers' outputs, which is no part of the layer; None for
    images."""

    quantizer: nn.Module | None = None

    def exponent(self):
        return IMAGE_EXPONENT if self.quantizer is None else self.quantizer.exponent()


def quantized_bias(bias):
    """16-bit codes with an exponent of their own."""
    return fake_quantize(bias, ops.exponents_for(ops.observe(bias.detach()), BIAS_BITS), 0, BIAS_BITS)


def on_grids(quantizer, weights, bias, source):
    """Weights and bias of a layer on their grids, and the exponents of the weights. Channels whose weights are all but
    zeros, pruned or dead, have ranges that leave no room for the bias in sums of that grid: they get larger ones."""
    b = quantized_bias(bias)
    w, exponents = quantizer(weights, ops.least_weight_exponents(b.detach(), source.exponent()))
    return w, b, exponents


def deployed(quantizer, weights, bias, source, output):
    """The same, the bias as integers add it, to sums on the grids 2^(exponents of weights and inputs): floored to
    these. Where outputs are coarser that changes none of them, and the bias stays as it is; where they are not, the
    floor is computed here."""
    w, b, exponents = on_grids(quantizer, weights, bias, source)
    sums = exponents + source.exponent()
    step = torch.exp2(sums.double()).float()
    floored = (b.detach() / step).floor() * step
    return w, torch.where(sums < output.exponent(), b, b + (floored - b).detach()), exponents


class Conv2d(nn.Module):
    """Convolution, batch norm, activation. Quantized, the norm is folded into the weights:

        w_q = the grid's γ·w/σ_M                             of the moving averages: it does not jitter
        y = conv(x, w_q) · σ_M/σ_B + β − γ·μ_B/σ_B           the batch's own normalization, while norms are not frozen
        y = conv(x, w_q) + the grid's (β − γ·μ_M/σ_M)        frozen, and outside of training: what is deployed
    """

    def __init__(self, inputs, outputs, kernel=1, stride=1, depthwise=False, activation=None, scheme=None, bits=None,
                 source=None):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=inputs if depthwise else 1,
                              bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = activation or nn.Identity()
        self.frozen_norm = False
        if scheme is not None:
            # Depthwise layers hold few weights per channel, and folding leaves each channel its own range.
            bits = bits or (depthwise and scheme.depthwise_bits) or scheme.weight_bits
            self.weight = WeightQuantizer(scheme, bits, outputs if depthwise else 1)
        self.output = None if scheme is None else OutputQuantizer(scheme)
        self.source = Source(source)

    def normalized(self, x):
        """In float32, as every step before the quantization."""
        batch = self.training and not self.frozen_norm
        norm = self.norm
        return F.batch_norm(self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, batch,
                            norm.momentum, norm.eps)

    def moving_sigma(self):
        return (self.norm.running_var + self.norm.eps).sqrt()

    def scaled_weights(self):
        """γ·w/σ_M"""
        return self.conv.weight * (self.norm.weight / self.moving_sigma())[:, None, None, None]

    def offset(self):
        """β − γ·μ_M/σ_M"""
        return self.norm.bias - self.norm.running_mean * self.norm.weight / self.moving_sigma()

    def on_grids(self):
        return on_grids(self.weight, self.scaled_weights(), self.offset(), self.source)

    def deployed(self):
        return deployed(self.weight, self.scaled_weights(), self.offset(), self.source, self.output)

    def off_grid(self):
        """½·Σ(w − w')², w' what folding puts on the grid point that w is rounded to; weights beyond the ends of the
        grid add nothing. Its gradient takes weights away from where two grid points meet: near there they go to and
        fro with each step, the more the coarser the grid ("Overcoming Oscillations in Quantization-Aware Training",
        Nagel and others, 2022, who do this to folded weights)."""
        with torch.no_grad():
            fold = (self.norm.weight / self.moving_sigma())[:, None, None, None]
            folded = self.scaled_weights()
            rounded, _, exponents = self.on_grids()
            step = 2.0 ** exponents.reshape(-1, 1, 1, 1)
            counts = ((folded - rounded).abs() <= 0.5 * step) & (fold != 0)
            target = torch.where(counts, rounded / fold, self.conv.weight)
        return 0.5 * (self.conv.weight - target).square().sum()

    def convolve(self, x, w, b=None):
        return F.conv2d(x, w, b, self.conv.stride, self.conv.padding, groups=self.conv.groups)

    def folded(self, x):
        if self.frozen_norm or not self.training:
            w, b, _ = self.deployed()
            return self.convolve(x, w, b)
        w, _, _ = self.on_grids()
        norm, sigma = self.norm, self.moving_sigma()
        variance, mean = torch.var_mean(self.conv(x), (0, 2, 3), correction=0)
        batch_sigma = (variance + norm.eps).sqrt()
        with torch.no_grad():
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance, norm.momentum)
        offset = norm.bias - mean * norm.weight / batch_sigma
        return torch.addcmul(offset[:, None, None], self.convolve(x, w), (sigma / batch_sigma)[:, None, None])

    def forward(self, x):
        if self.output is None:
            return self.activation(self.normalized(x))
        return self.output(self.activation(self.folded(x) if self.output.quantizing else self.normalized(x)))


class Linear(nn.Linear):
    """The classifier: weights and bias on their grids, sums as they are. It quantizes when its source does."""

    def __init__(self, inputs, outputs, scheme=None, bits=None, source=None):
        super().__init__(inputs, outputs)
        self.source = Source(source)
        if scheme is not None:
            self.quantizer = WeightQuantizer(scheme, bits or scheme.weight_bits)

    def forward(self, x):
        source = self.source.quantizer
        if source is None or not source.quantizing:
            return super().forward(x)
        return F.linear(x, self.quantizer(self.weight)[0], quantized_bias(self.bias))


class Predictor(nn.Module):
    """A 1x1 convolution with a bias, its grid."""

    def __init__(self, inputs, outputs, scheme=None, bits=None, source=None):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)
        if scheme is not None:
            self.weight = WeightQuantizer(scheme, bits or scheme.weight_bits)
        self.output = None if scheme is None else OutputQuantizer(scheme)
        self.source = Source(source)

    def deployed(self):
        return deployed(self.weight, self.conv.weight, self.conv.bias, self.source, self.output)

    def forward(self, x):
        if self.output is None:
            return self.conv(x)
        if not self.output.quantizing:
            return self.output(self.conv(x))
        w, b, _ = self.deployed()
        return self.output(F.conv2d(x, w, b))


class Join(nn.Module):
    """The sum of two branches, its activation, its grid."""

    def __init__(self, scheme=None):
        super().__init__()
        self.output = nn.Identity() if scheme is None else OutputQuantizer(scheme)

    def forward(self, a, b):
        return self.output(F.relu(a + b))


class GlobalAveragePool(nn.Module):
    def __init__(self, scheme=None):
        super().__init__()
        self.output = nn.Identity() if scheme is None else OutputQuantizer(scheme)

    def forward(self, x):
        return self.output(x.mean((2, 3)))


def freeze_norms(network, frozen=True):
    """From now on the moving averages normalize, and stay what they are."""
    for module in network.modules():
        if isinstance(module, Conv2d):
            module.frozen_norm = frozen


def off_grid(network):
    """The sum over quantized convolutions of how far their weights are off the grid."""
    return sum(module.off_grid() for module in network.modules()
               if isinstance(module, Conv2d) and module.output is not None)


def freeze_ranges(network):
    """From now on ranges and thresholds stay what they are."""
    for module in network.modules():
        if isinstance(module, OutputQuantizer):
            module.frozen = True
        if isinstance(module, (OutputQuantizer, WeightQuantizer)) and module.log2_t is not None:
            module.log2_t.requires_grad_(False)

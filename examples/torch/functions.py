"""Fake quantization in autograd: the passes of ops.cpp with their gradients."""
import os
import pathlib

import torch

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
LIBRARY = os.environ.get("PO2QUANT_TORCH_LIBRARY",
                         REPOSITORY / "build" / "release" / "examples" / "torch" / "libpo2quant_torch.so")

try:
    torch.ops.load_library(LIBRARY)
except OSError as error:
    raise SystemExit(f"{error}\nBuild it (examples/torch/CMakeLists.txt says how), or name it in "
                     "$PO2QUANT_TORCH_LIBRARY") from error
ops = torch.ops.po2quant


def laid_out(tensor, stride):
    """`tensor` with its elements in memory by `stride`: itself if they are."""
    if tensor.stride() == stride:
        return tensor
    return torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)


class FakeQuantize(torch.autograd.Function):
    """x on the grid of given exponents. The gradient passes where the mask of one bit per element says so."""

    @staticmethod
    def forward(ctx, x, exponents, axis, bits, observe):
        y, mask, seen = ops.fake_quantize(x, exponents, axis, bits, observe=observe)
        ctx.save_for_backward(mask)
        ctx.stride = x.stride()
        ctx.mark_non_differentiable(seen)
        return y, seen

    @staticmethod
    def backward(ctx, grad, _):
        mask, = ctx.saved_tensors
        return ops.fake_quantize_backward(mask, laid_out(grad, ctx.stride)), None, None, None, None


class TrainedThreshold(torch.autograd.Function):
    """x on the grid of the thresholds 2^⌈log2_t⌉, with the gradients of x and of log2_t (TQT)."""

    @staticmethod
    def forward(ctx, x, log2_t, axis, bits):
        exponents = ops.tqt_exponents(log2_t, bits)
        ctx.save_for_backward(x, exponents)
        ctx.axis, ctx.bits = axis, bits
        return ops.fake_quantize(x, exponents, axis, bits)[0]

    @staticmethod
    def backward(ctx, grad):
        x, exponents = ctx.saved_tensors
        grad_x, grad_log2_t = ops.fake_quantize_backward_threshold(x, laid_out(grad, x.stride()), exponents, ctx.axis,
                                                                   ctx.bits)
        return grad_x, grad_log2_t, None, None


def fake_quantize(x, exponents, axis=0, bits=8):
    return FakeQuantize.apply(x, exponents, axis, bits, False)[0]


def fake_quantize_observing(x, exponents, bits=8):
    """The same and the range of x, which the same pass finds."""
    return FakeQuantize.apply(x, exponents, 0, bits, True)


def trained_threshold(x, log2_t, axis=0, bits=8):
    return TrainedThreshold.apply(x, log2_t, axis, bits)

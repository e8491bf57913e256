"""Fake quantization in autograd: the ops of functions.cpp."""
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


def fake_quantize(x, exponents, axis=0, bits=8):
    """x on the grid of given exponents. The gradient passes where the mask of one bit per element says so."""
    return ops.fake_quantize(x, exponents, axis, bits)[0]


def fake_quantize_observing(x, exponents, axis=0, bits=8):
    """The same and the range of x, or of each channel where there are several exponents, which the same pass finds."""
    y, _, seen = ops.fake_quantize(x, exponents, axis, bits, observe=True)
    return y, seen


def trained_threshold(x, log2_t, axis=0, bits=8):
    """x on the grid of the thresholds 2^⌈log2_t⌉, with the gradients of x and of log2_t (TQT)."""
    return ops.trained_threshold(x, log2_t, axis, bits)

#!/usr/bin/env python3
"""fake_quantize and its gradients beside PyTorch.

    pip install torch numpy
    cmake --build --preset release --target fake_quantize_values
    python tests/oracles/pytorch_gradients.py build/release/tests/fake_quantize_values [--values N] [--seed S]

Values, and gradients of x: torch.fake_quantize_per_tensor_affine with scale 2^e and zero point 0 rounds half to even and
passes the gradient where the rounded code is inside the range, which is rounding::half_even with ste::clip_code. Equal
bit for bit, but where PyTorch converts a float to int64 that does not hold it: NaN, ±∞, and x / 2^e of 2^63 and more.

Gradients of thresholds: autograd in float64 of the papers' formulas,
    TQT  y = clamp(round(x / s), qmin, qmax) * s,   s = 2^ceil(log2 t) / 2^(bits − 1), ceil and round straight through
    LSQ  y = clamp(round(x / s), qmin, qmax) * s,   gradient of s times 1 / √(N · qmax)
beside tqt_gradient(S, e) and lsq_gradient(S, N, format). Ours are sums of products rounded to float, each off by at most
2^-24 of itself: sums are compared to within 4 · 2^-24 · √(Σ terms²), ten times what such roundings add up to.
Exits with 1 if something differs that is not named here.
"""
import math
import sys

import numpy as np
import torch

from values import codes_of, differ, fake_quantize, options_of, print_row, rows, verdict


def theirs(x, dy, fmt, exponent):
    qmin, qmax = codes_of(fmt)
    v = torch.from_numpy(x).requires_grad_()
    y = torch.fake_quantize_per_tensor_affine(v, 2.0**exponent, 0, qmin, qmax)
    y.backward(torch.from_numpy(dy))
    return y.detach().numpy(), v.grad.numpy()


def straight_through(v, rounded):
    return v + (rounded - v).detach()


def quantized(x, scale, qmin, qmax):
    v = x / scale
    code = straight_through(v, torch.round(v))
    # torch.clamp lets no gradient pass at the ends; the papers count codes of qmin and qmax as inside.
    code = torch.where(code < qmin, float(qmin), torch.where(code > qmax, float(qmax), code))
    return code * scale


def threshold_gradients(x, dy, fmt, exponent):
    """d loss / d log2 t by TQT and d loss / d s by LSQ, loss = Σ dy · y; and √(Σ terms²) of the latter."""
    bits, signed, _ = fmt
    qmin, qmax = codes_of(fmt)
    x, dy = torch.from_numpy(x.astype(np.float64)), torch.from_numpy(dy.astype(np.float64))
    # Inside the interval of thresholds that have this exponent.
    log2_t = torch.tensor(exponent + bits - (1 if signed else 0) - 0.3, dtype=torch.float64, requires_grad=True)
    power = straight_through(log2_t, torch.ceil(log2_t))
    y = quantized(x, 2.0 ** (power - (bits - 1 if signed else bits)), qmin, qmax)
    (dy * y).sum().backward()

    scale = torch.tensor(2.0**exponent, dtype=torch.float64, requires_grad=True)
    (dy * quantized(x, scale, qmin, qmax)).sum().backward()
    lsq = scale.grad.item() / math.sqrt(x.numel() * qmax)

    v = x / 2.0**exponent
    term = torch.where((torch.round(v) >= qmin) & (torch.round(v) <= qmax), torch.round(v) - v,
                       torch.clamp(torch.round(v), qmin, qmax))
    return log2_t.grad.item(), lsq, (dy * term).square().sum().sqrt().item()


def main():
    options = options_of(__doc__)
    unexplained = 0
    columns = ("values differ", "beyond int64", "dx differ", "beyond int64", "TQT, 2^-24", "LSQ, 2^-24")
    for name, fmt, exponent, x, random in rows(options, f"PyTorch {torch.__version__}", columns):
        _, qmax = codes_of(fmt)
        dy = random.standard_normal(x.size).astype(np.float32)
        y, dx, _ = fake_quantize(options.program, x, dy, fmt, exponent, "half_even", "clip_code")
        y_torch, dx_torch = theirs(x, dy, fmt, exponent)
        with np.errstate(invalid="ignore"):
            beyond = ~(np.abs(x.astype(np.float64)) * 2.0**-exponent < 2.0**63)
        values, gradients = differ(y, y_torch), differ(dx, dx_torch)
        unexplained += int(((values | gradients) & ~beyond).sum())

        # Sums of real values: none of them near a tie, where a hair's breadth of float64 could change a code.
        x = x[np.abs(x) < 4 * 2.0**exponent * qmax]
        v = x.astype(np.float64) * 2.0**-exponent
        x = x[np.abs(v - np.floor(v) - 0.5) > 1e-4]
        dy = random.standard_normal(x.size).astype(np.float32)
        _, _, total = fake_quantize(options.program, x, dy, fmt, exponent, "half_even", "clip_code")
        tqt, lsq, size = threshold_gradients(x, dy, fmt, exponent)
        apart = [abs(tqt / (2.0**exponent * math.log(2)) - total) / size * 2**24,
                 abs(lsq * math.sqrt(x.size * qmax) - total) / size * 2**24]
        unexplained += sum(not a < 4 for a in apart)
        counts = (values, values & beyond, gradients, gradients & beyond)
        print_row(name, exponent, [c.sum() for c in counts] + [f"{a:.2f}" for a in apart])
    return verdict(unexplained)


if __name__ == "__main__":
    sys.exit(main())

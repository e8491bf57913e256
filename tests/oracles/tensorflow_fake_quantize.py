#!/usr/bin/env python3
"""fake_quantize and its gradient beside TensorFlow's fake_quant_with_min_max_vars, value by value.

    pip install tensorflow-cpu
    cmake --build --preset release --target fake_quantize_values
    python tests/oracles/tensorflow_fake_quantize.py build/release/tests/fake_quantize_values [--values N] [--seed S]

TensorFlow works in units of codes above qmin, in float32:

    y = floor((clamp(x, min, max) - min) / s + 1/2) * s + min        s = (max - min) / (2^bits - 1)

With min = qmin * 2^e and max = qmax * 2^e its scale s is 2^e and its zero point is exact, so both mean the same rounding.
But x - min and the 1/2 round to float32, which can lift a value just below a tie onto it. po2quant rounds x / 2^e itself.

For each format and exponent this checks that
  - po2quant gives clamp(floor(x / 2^e + 1/2), qmin, qmax) * 2^e, computed in float64 where nothing rounds;
  - TensorFlow gives the formula above in float32, so that each value it has otherwise is explained by those roundings;
  - the gradients agree: both pass it where min <= x <= max; but TensorFlow takes subnormal floats for 0, so it passes
    the gradient of negative ones where min is 0.
It prints how many differ and how many of them these reasons explain, and exits with 1 if something else does.
"""
import os
import sys

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf  # noqa: E402

from values import codes_of, differ, fake_quantize, options_of, print_row, rows, verdict  # noqa: E402


def theirs(x, fmt, qmin, qmax, exponent):
    bits, _, narrow = fmt
    low, high = float(qmin * 2.0**exponent), float(qmax * 2.0**exponent)
    v = tf.Variable(x)
    with tf.GradientTape() as tape:
        y = tf.quantization.fake_quant_with_min_max_vars(v, low, high, num_bits=bits, narrow_range=narrow)
    return y.numpy(), tape.gradient(y, v).numpy()


def exact(x, qmin, qmax, exponent):
    v = np.clip(x.astype(np.float64) * 2.0**-exponent, -(2.0**20), 2.0**20)
    return (np.clip(np.floor(v + 0.5), qmin, qmax) * 2.0**exponent).astype(np.float32)


def formula(x, qmin, qmax, exponent):
    scale, low, high = np.float32(2.0**exponent), np.float32(qmin * 2.0**exponent), np.float32(qmax * 2.0**exponent)
    shifted = np.clip(x, low, high) - low
    return np.floor(shifted * np.float32(2.0**-exponent) + np.float32(0.5)) * scale + low


def main():
    options = options_of(__doc__)
    unexplained = 0
    columns = ("values differ", "explained", "gradients differ", "explained", "not as specified")
    for name, fmt, exponent, x, _ in rows(options, f"TensorFlow {tf.__version__}", columns):
        qmin, qmax = codes_of(fmt)
        y, dx, _ = fake_quantize(options.program, x, np.ones_like(x), fmt, exponent, "half_up", "clip_range")
        y_tf, dx_tf = theirs(x, fmt, qmin, qmax, exponent)
        with np.errstate(invalid="ignore"):
            wrong = differ(y, exact(x, qmin, qmax, exponent))
            apart = differ(y, y_tf)
            explained = apart & ~differ(y_tf, formula(x, qmin, qmax, exponent))
            gradients = differ(dx, dx_tf)
            subnormal = gradients & (np.abs(x) < np.finfo(np.float32).tiny) & (x < 0) & (qmin == 0)
        unexplained += int(wrong.sum() + (apart & ~explained).sum() + (gradients & ~subnormal).sum())
        print_row(name, exponent, [c.sum() for c in (apart, explained, gradients, subnormal, wrong)])
    return verdict(unexplained)


if __name__ == "__main__":
    sys.exit(main())

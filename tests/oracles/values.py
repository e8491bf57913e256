"""Inputs for the oracles, and what po2quant makes of them."""
import argparse
import subprocess

import numpy as np

# name: bits, signed, narrow range
FORMATS = {
    "int8": (8, True, False),
    "int8 narrow": (8, True, True),
    "uint8": (8, False, False),
    "int4": (4, True, False),
    "int2": (2, True, False),
    "int16": (16, True, False),
}
EXPONENTS = (-9, -4, 0, 3)


def options_of(description):
    """The command line that the oracles have in common."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the built fake_quantize_values")
    parser.add_argument("--values", type=int, default=10**7, help="per format and exponent (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def rows(options, system, columns):
    """Prints the head of a table and yields, for each of its rows, the format's name, the format, the exponent, the
    inputs, and the source of random numbers."""
    random = np.random.default_rng(options.seed)
    print(f"{system}, {options.values} values a row, seed {options.seed}\n")
    print(f"| format | e | {' | '.join(columns)} |")
    print("|---|--:|" + "--:|" * len(columns))
    for name, fmt in FORMATS.items():
        for exponent in EXPONENTS:
            yield name, fmt, exponent, inputs(options.values, fmt, exponent, random), random


def print_row(name, exponent, cells):
    print(f"| {name} | {exponent} | {' | '.join(str(c) for c in cells)} |", flush=True)


def verdict(unexplained):
    """The exit status."""
    print(f"\n{unexplained} not explained")
    return 1 if unexplained else 0


def codes_of(fmt):
    """qmin and qmax."""
    bits, signed, narrow = fmt
    if not signed:
        return 0, 2**bits - 1
    qmax = 2 ** (bits - 1) - 1
    return (-qmax if narrow else -qmax - 1), qmax


def inputs(count, fmt, exponent, random):
    """Values inside and outside the range, neighbours of ties, any bits, and the special ones."""
    qmin, qmax = codes_of(fmt)
    scale = np.float32(2.0**exponent)
    width = max(-qmin, qmax) * 1.25
    inside = random.uniform(-width, width, count // 2).astype(np.float32) * scale
    ties = (random.integers(qmin - 2, qmax + 2, count // 4) + 0.5).astype(np.float32) * scale
    ties = (ties.view(np.int32) + random.integers(-3, 4, ties.size).astype(np.int32)).view(np.float32)
    any_bits = random.integers(0, 2**32, count - inside.size - ties.size, dtype=np.uint64).astype(np.uint32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38, -3.4e38], np.float32)
    return np.concatenate([inside, ties, any_bits.view(np.float32), special])


def fake_quantize(program, x, dy, fmt, exponent, mode, estimator):
    """y, dx and S = Σ dy · {r − x/2^e inside, qmin or qmax beyond}, from the built fake_quantize_values."""
    arguments = [str(int(a)) for a in (*fmt, exponent)] + [mode, estimator]
    given = x.astype(np.float32).tobytes() + dy.astype(np.float32).tobytes()
    out = subprocess.run([program, *arguments], input=given, stdout=subprocess.PIPE, check=True).stdout
    values = np.frombuffer(out[:-8], np.float32)
    return values[: x.size], values[x.size :], float(np.frombuffer(out[-8:], np.float64)[0])


def differ(a, b):
    """Where values differ; NaN equals NaN."""
    return (a != b) & ~(np.isnan(a) & np.isnan(b))

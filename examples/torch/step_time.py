#!/usr/bin/env python3
"""A training step with our fake quantization beside one with PyTorch's own modules, and one in float32: CPU time.

    python examples/torch/step_time.py [--rounds N]

The networks are the same, and so is everything that is not fake quantization. PyTorch's: FusedMovingAvgObsFakeQuantize
for outputs and weights, int8, symmetric, per channel for depthwise weights; biases, which its modules leave in float32,
go through ours in both. Norms are frozen. One thread; every round times a step of each, in a new order; medians of
processor time, which other programs on the machine disturb less than the clock's. The last column is the ratio of
what PyTorch's and ours (EMA) take longer than float32.
"""
import argparse
import random
import statistics
import sys
import time

import torch
from torch.ao import quantization as ao
from torch.nn import functional as F

from layers import OutputQuantizer, Scheme, Source, WeightQuantizer, freeze_norms
from networks import NETWORKS

BATCH, SIDE, CLASSES = 128, 32, 10


class TorchQuantizer(ao.FusedMovingAvgObsFakeQuantize):
    """PyTorch's module in the place of ours: it observes and quantizes from the first step on."""

    quantizing = True

    def __init__(self, per_channel=False):
        observer = ao.MovingAveragePerChannelMinMaxObserver if per_channel else ao.MovingAverageMinMaxObserver
        scheme = torch.per_channel_symmetric if per_channel else torch.per_tensor_symmetric
        super().__init__(observer, -128, 127, dtype=torch.qint8, qscheme=scheme)

    # Biases are the same in all networks, so their grids' exponents are asked for.
    def exponent(self):
        return 0


class TorchWeightQuantizer(TorchQuantizer):
    def forward(self, w, _=None):
        return super().forward(w), torch.full((1,), -7, dtype=torch.int32)


def with_torch_quantizers(network):
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, OutputQuantizer):
                setattr(module, name, TorchQuantizer())
            elif isinstance(child, WeightQuantizer):
                setattr(module, name, TorchWeightQuantizer(child.axis is not None))
    for module in network.modules():
        if hasattr(module, "source"):
            module.source = Source(network.pool.output)
    return network


def engines(network):
    """What steps of the network are timed, by name."""
    schemes = {"float32": None, "po2quant, EMA": Scheme(delay=1), "po2quant, TQT": Scheme(trained=True, delay=1),
               "PyTorch": Scheme(delay=1)}
    built = {name: NETWORKS[network](3, CLASSES, scheme) for name, scheme in schemes.items()}
    with_torch_quantizers(built["PyTorch"])
    return {name: stepping(net.to(memory_format=torch.channels_last)) for name, net in built.items()}


def stepping(network):
    """Forward, backward and the weights' update of one batch."""
    freeze_norms(network.train())
    optimizer = torch.optim.SGD(network.parameters(), 1e-4, 0.9)
    x = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % CLASSES

    def step():
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimizer.step()

    return step


def seconds(step):
    start = time.process_time()
    step()
    return time.process_time() - start


def measure(network, rounds):
    """Median seconds by engine."""
    steps = engines(network)
    times = {name: [] for name in steps}
    for number in range(-3, rounds):
        for name in random.sample(list(steps), len(steps)):
            taken = seconds(steps[name])
            if number >= 0:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    random.seed(1)
    print("| ms a step | float32 | po2quant, EMA | po2quant, TQT | PyTorch | PyTorch / EMA | of what is added |")
    print("|---|" + "--:|" * 6)
    for network in NETWORKS:
        of = measure(network, options.rounds)
        ratio = of["PyTorch"] / of["po2quant, EMA"]
        added = (of["PyTorch"] - of["float32"]) / (of["po2quant, EMA"] - of["float32"])
        print(f"| `{network}` | {' | '.join(f'{1e3 * t:.0f}' for t in of.values())} | {ratio:.2f} | {added:.1f} |",
              flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

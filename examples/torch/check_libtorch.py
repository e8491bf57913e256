#!/usr/bin/env python3
"""torch_train, in C++, beside the same training in Python: the same bits from the same seed; exits with 1 if not.

$PO2QUANT_TORCH_TRAIN names the program. What is compared: all weights, norms, ranges and thresholds after training in
float32 and after fine-tuning with both methods. Adam of thresholds rounds otherwise in C++, so these may be off in
their last bits. One thread each: sums over a batch depend on their number.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

import torch

from data import Batches, Set
from layers import Scheme
from networks import NETWORKS
from tasks import Classes
from training import FLOAT_RATE, TUNING_RATE, Training, calibrate

NETWORK, BATCH, STEPS, SEED = "mobilenet_v1_025", 128, 12, 3


def differing(network, expected):
    """Names of what is not the same."""
    state = network.state_dict()
    if state.keys() != expected.keys():
        return sorted(state.keys() ^ expected.keys())
    return [name for name, value in state.items()
            if not (torch.allclose(value, expected[name], 0, 1e-12) if name.endswith("log2_t")
                    else torch.equal(value, expected[name]))]


def trained(network, batches, steps, rate, tuning=False):
    training = Training(network.to(memory_format=torch.channels_last), batches, steps, rate, tuning)
    while training.done < steps:
        training.step()
    return network


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as out:
        command = [os.environ["PO2QUANT_TORCH_TRAIN"], "--shapes", "--test", "500", "--out", out]
        subprocess.run([*command, "--steps", str(STEPS), "--seed", str(SEED)], check=True,
                       env=os.environ | {"OMP_NUM_THREADS": "1"})
        states = {file.stem: torch.load(file, weights_only=False) for file in pathlib.Path(out).iterdir()}
    pictures = states["pictures"]
    data = Set("shapes", Classes(range(10)), 0,
               lambda part: [pictures[f"{part}.{what}"].numpy() for what in ("images", "labels")])

    torch.manual_seed(SEED)
    network = trained(NETWORKS[NETWORK](1, 10), Batches(data, BATCH, SEED), STEPS, FLOAT_RATE)
    found = {"float32": differing(network, states["float32"])}
    for method in ("ema", "tqt"):
        scheme = Scheme(trained=method == "tqt")
        network = NETWORKS[NETWORK](1, 10, scheme)
        network.load_state_dict(states["float32"], strict=False)
        batches = Batches(data, BATCH, SEED + 1000)
        calibrate(network.to(memory_format=torch.channels_last), batches, scheme.delay)
        found[method] = differing(trained(network, batches, STEPS // 2, TUNING_RATE, True), states[method])
    for name, names in found.items():
        print(f"{name}: {len(states[name])} tensors", f"FAILED, differing: {names}" if names else "ok")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

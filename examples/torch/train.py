#!/usr/bin/env python3
"""Networks trained in float32, put on power-of-two grids and fine-tuned there: test accuracy over seeds, as a table.

    python examples/torch/train.py --data DIR --out DIR [--filter REGEX]     trains what --out does not have yet
    python examples/torch/train.py --out DIR --table [--json FILE]           prints the table of what it has

A run is one line of results.jsonl in --out, written when it ends; so a killed program loses the run it was in, and goes
on with that when started again. Two programs may share the work: each takes runs that no other one is in.

    float32         one cycle of SGD: to 0.1 in a tenth of the steps and by a cosine down to 0
    float32 again   its fine-tuning without quantization, as long as the others': what more steps bring by themselves
    post-training   batch norm folded, ranges watched over 50 batches, nothing trained
    ema             fine-tuning on grids that follow moving averages of ranges: the original project's method
    tqt             fine-tuning with trained thresholds, of weights and activations

Fine-tuning starts from float32 of the same seed, at a hundredth of its rate and by a cosine down to 0: frozen norms
no longer shrink the gradients of large folded weights, and at a tenth runs diverged. Batch norm is
folded with the batch's correction for the first quarter and frozen for the rest; ranges and thresholds rest for the
last fifth. Weights learn by SGD with a momentum of 0.9 and a decay of 5e-4, thresholds by Adam at TQT's rate.
"""
import argparse
import fcntl
import json
import math
import os
import pathlib
import re
import statistics
import sys

import torch

import data as datasets
from layers import Scheme, freeze_norms, freeze_ranges
from networks import NETWORKS

BATCH = 128
FLOAT_RATE, TUNING_RATE = 0.1, 0.001
EPOCHS = {("fashion-mnist", "mobilenet_v1_025"): (5, 2), ("cifar-10", "mobilenet_v1_025"): (30, 6),
          ("fashion-mnist", "resnet_8"): (5, 2), ("cifar-10", "resnet_8"): (10, 4),
          ("drawn", "resnet_8"): (12, 4)}  # in float32, of fine-tuning
SEEDS = (0, 1, 2)
# What matters most comes first.
METHODS = (("float32", 32), ("post-training", 8), ("ema", 8), ("tqt", 8), ("tqt", 4), ("float32 again", 32),
           ("post-training", 4))
LAST_METHODS = (("ema", 4),)
PLAN = [{"data": data, "network": network, "method": method, "weights": bits, "seed": seed}
        for methods in (METHODS, LAST_METHODS)
        for data, network in (("fashion-mnist", "mobilenet_v1_025"), ("cifar-10", "mobilenet_v1_025"),
                              ("fashion-mnist", "resnet_8"), ("cifar-10", "resnet_8"),
                              ("drawn", "resnet_8"))
        for method, bits in methods for seed in SEEDS]


def name_of(run):
    return "{data} {network} {method} {weights} {seed}".format(**run)


class Data:
    """A data set, read once."""

    def __init__(self, name, folder):
        self.name = name
        self.images, self.labels = datasets.load(name, "train", folder)
        self.test = datasets.load(name, "test", folder)

    def batches(self, seed):
        """Batches of augmented training images without end."""
        source = torch.Generator().manual_seed(seed)
        while True:
            for chosen in torch.randperm(len(self.images), generator=source).split(BATCH)[: self.steps_per_epoch]:
                images = datasets.augmented(self.images[chosen], datasets.SHIFT[self.name], source)
                yield as_input(images), self.labels[chosen]

    @property
    def steps_per_epoch(self):
        return len(self.images) // BATCH


def as_input(images):
    return datasets.to_floats(images).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def correct(network, data):
    """How many of the test images' answers are right."""
    network.eval()
    return sum(datasets.right(network(as_input(images)), labels)
               for images, labels in zip(*(tensor.split(500) for tensor in data.test)))


@torch.no_grad()
def calibrate(network, batches, steps):
    """Watches ranges as they are behind norms of moving averages."""
    network.train()
    freeze_norms(network)
    for _ in range(steps):
        network(next(batches)[0])
    freeze_norms(network, False)


def cycle(steps, rises):
    """Shares of a rate: up in a line for the share `rises` of the steps, then down by a cosine."""
    top = rises * steps
    return lambda step: (step + 1) / top if step < top else 0.5 + 0.5 * math.cos(math.pi * (step - top) / (steps - top))


def optimizers_of(network, rate, steps, rises):
    """Optimizers and their schedules: of weights, and, as TQT published it, of thresholds if there are any."""
    parameters = dict(network.named_parameters())
    thresholds = [p for name, p in parameters.items() if name.endswith("log2_t")]
    weights = [p for name, p in parameters.items() if not name.endswith("log2_t")]
    optimizer = torch.optim.SGD(weights, rate, 0.9, weight_decay=5e-4, nesterov=True)
    optimizers = [(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, cycle(steps, rises)))]
    if thresholds:
        optimizer = torch.optim.Adam(thresholds, 1e-2)
        optimizers.append((optimizer, torch.optim.lr_scheduler.StepLR(optimizer, round(1000 * 24 / BATCH), 0.5)))
    return optimizers


def train(network, batches, steps, rate, rises, before_step=lambda done: None):
    """Returns the mean loss of the last tenth of the steps."""
    optimizers = optimizers_of(network, rate, steps, rises)
    last = []
    for step in range(steps):
        network.train()
        before_step(step / steps)
        images, labels = next(batches)
        network.zero_grad()
        loss = datasets.loss(network(images), labels)
        loss.backward()
        for optimizer, schedule in optimizers:
            optimizer.step()
            schedule.step()
        if step >= 0.9 * steps:
            last.append(loss.item())
    return statistics.fmean(last)


def freezing(network):
    """What rests from when on, by the share of fine-tuning that is done."""
    def before_step(done):
        if done >= 0.25:
            freeze_norms(network)
        if done >= 0.8:
            freeze_ranges(network)

    return before_step


def save(network, path):
    unfinished = path.with_suffix(f".{os.getpid()}")
    torch.save(network.state_dict(), unfinished)
    os.replace(unfinished, path)


def execute(run, data, out):
    """Trains and tests. Returns the result's line."""
    torch.manual_seed(run["seed"])
    batches = data.batches(run["seed"] + (0 if run["method"] == "float32" else 1000))
    epochs, tuning_epochs = EPOCHS[run["data"], run["network"]]
    floats = run["weights"] == 32
    scheme = None if floats else Scheme(weight_bits=run["weights"], trained=run["method"] == "tqt")
    network = NETWORKS[run["network"]](data.images.shape[1], datasets.OUTPUTS[run["data"]], scheme)
    network.to(memory_format=torch.channels_last)
    result = dict(run)
    if run["method"] == "float32":
        result |= {"epochs": epochs,
                   "loss": train(network, batches, epochs * data.steps_per_epoch, FLOAT_RATE, 0.1)}
        save(network, checkpoint_of(run, out))
    else:
        network.load_state_dict(torch.load(checkpoint_of(run | {"method": "float32", "weights": 32}, out)), strict=False)
        if scheme is not None:
            calibrate(network, batches, scheme.delay)
        if run["method"] != "post-training":
            result |= {"epochs": tuning_epochs,
                       "loss": train(network, batches, tuning_epochs * data.steps_per_epoch, TUNING_RATE, 0.02,
                                     freezing(network))}
        save(network, checkpoint_of(run, out))
    return result | {"correct": correct(network, data), "images": datasets.answers(data.test[1]),
                     "training_images": len(data.images), "torch": torch.__version__}


def read_results(path):
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def checkpoint_of(run, out):
    """What a run leaves: its network's state."""
    return out / (name_of(run).replace(" ", "-") + ".pt")


def train_all(options, out):
    """Runs, one after the other, until none is left that no other program is in."""
    results, loaded = out / "results.jsonl", {}

    def next_run():
        finished = {name_of(result) for result in read_results(results)}
        for run in PLAN:
            needs_float = run["method"] != "float32"
            if name_of(run) in finished or not re.search(options.filter, name_of(run)) or (
                    needs_float and name_of(run | {"method": "float32", "weights": 32}) not in finished):
                continue
            lock = open(out / f"{name_of(run).replace(' ', '-')}.lock", "w", encoding="utf-8")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if name_of(run) not in {name_of(result) for result in read_results(results)}:
                return run, lock
        return None, None

    while True:
        run, lock = next_run()
        if run is None:
            return
        with lock:
            if run["data"] not in loaded:
                loaded = {run["data"]: Data(run["data"], options.data)}
            result = execute(run, loaded[run["data"]], out)
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        print(f"{name_of(run)}: {100 * result['correct'] / result['images']:.2f} %", flush=True)


def summary_of(results):
    """Of every data set, network, method and bits of weights: percent right by seed, what is off float32 by seed."""
    percent = {name_of(r): 100 * r["correct"] / r["images"] for r in results}
    rows = {}
    for run in PLAN:
        if name_of(run) in percent:
            row = rows.setdefault(tuple(run[key] for key in ("data", "network", "method", "weights")),
                                  {"seeds": [], "percent": [], "off_float32": []})
            row["seeds"].append(run["seed"])
            row["percent"].append(percent[name_of(run)])
            row["off_float32"].append(percent[name_of(run)]
                                      - percent[name_of(run | {"method": "float32", "weights": 32})])
    return rows


def print_table(rows):
    """Means over the seeds, in brackets largest - smallest; the mean of what is off float32 of the same seed."""
    def cell(data, network, method, bits):
        row = rows.get((data, network, method, bits))
        if row is None:
            return "–"
        count = len(row["seeds"])
        off = "" if method == "float32" else f", {statistics.fmean(row['off_float32']):+.2f}"
        missing = "" if count == len(SEEDS) else f", {count} of {len(SEEDS)}"
        return (f"{statistics.fmean(row['percent']):.2f} ({max(row['percent']) - min(row['percent']):.2f}){off}"
                f"{missing}")

    print("| data, network | weights | float32 | float32 again | post-training | EMA | TQT |\n|---|---|" + "--:|" * 5)
    for data, network in dict.fromkeys(key[:2] for key in rows):
        for bits in (8, 4):
            columns = (("float32", 32), ("float32 again", 32), ("post-training", bits), ("ema", bits), ("tqt", bits))
            print(f"| {data}, `{network}` | int{bits} |",
                  " | ".join(cell(data, network, *column) for column in columns), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    datasets.add_argument(parser)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="the folder of results and checkpoints")
    parser.add_argument("--filter", default="", help="a regular expression that runs must match, by their names: data, "
                                                     "network, method, bits of weights, seed")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--table", action="store_true", help="print the table of what --out has, train nothing")
    parser.add_argument("--json", help="with --table: a file for its numbers, seed by seed")
    options = parser.parse_args()
    if options.table:
        rows = summary_of(read_results(options.out / "results.jsonl"))
        print_table(rows)
        if options.json:
            keys = ("data", "network", "method", "weights")
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump([dict(zip(keys, key)) | row for key, row in rows.items()], file, indent=1)
        return 0
    if options.data is None:
        parser.error("--data or $PO2QUANT_DATA_DIR must say where the data sets are")
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    train_all(options, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

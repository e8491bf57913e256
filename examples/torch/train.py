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

Fine-tuning starts from float32 of the same seed, at a hundredth of its rate and by a cosine down to 0: frozen norms no
longer shrink the gradients of large folded weights, and at a tenth runs diverged. Batch norm is folded with the batch's
correction for the first quarter and frozen for the rest; ranges and thresholds rest for the last fifth. Weights learn
by SGD with a momentum of 0.9 and a decay of 5e-4, thresholds by Adam at TQT's rate.

For weights of 4 bits of CIFAR-10's MobileNet, besides:

    tqt longer             for 12 epochs at a tenth of the float rate, norms frozen for the last fifth only, depthwise
                           weights of 8 bits
    float32 twice          a second cycle like float32's, from where that ended
    tqt twice              from there, 30 epochs at a fifth of the float rate; norms never frozen; thresholds start at
                           least squared error and rest for the second half; for the last two fifths weights are drawn
                           to the grid (Conv2d.off_grid), with a factor that grows to 0.1
    float32 twice again    from there, as long and at the same rate without quantization
"""
import argparse
import fcntl
import json
import pathlib
import re
import statistics
import sys

import torch

import data as datasets
from layers import Scheme
from networks import NETWORKS
from training import FLOAT_RATE, RECIPES, TUNING_RATE, Training, calibrate, save, tested

SEEDS = (0, 1, 2)
# What matters most comes first.
METHODS = (("float32", 32), ("post-training", 8), ("ema", 8), ("tqt", 8), ("tqt", 4), ("float32 again", 32),
           ("post-training", 4))
LAST_METHODS = (("ema", 4),)
# Fine-tuning that is not the data set's.
TUNING = {"tqt longer": {"epochs": 12, "rate": 0.01, "norms_rest": 0.8},
          "tqt twice": {"epochs": 30, "rate": 0.02, "norms_rest": 1, "ranges_rest": 0.5, "damping": 0.1},
          "float32 twice again": {"epochs": 30, "rate": 0.02, "norms_rest": 1}}
PLAN = [{"data": data, "network": network, "method": method, "weights": bits, "seed": seed}
        for methods in (METHODS, LAST_METHODS)
        for data, network in (("fashion-mnist", "mobilenet_v1_025"), ("cifar-10", "mobilenet_v1_025"),
                              ("fashion-mnist", "resnet_8"), ("cifar-10", "resnet_8"),
                              ("drawn", "resnet_8"))
        for method, bits in methods for seed in SEEDS]
PLAN += [{"data": "cifar-10", "network": "mobilenet_v1_025", "method": method, "weights": bits, "seed": seed}
         for method, bits in (("tqt longer", 4), ("float32 twice", 32), ("tqt twice", 4), ("float32 twice again", 32))
         for seed in SEEDS]


def name_of(run):
    return "{data} {network} {method} {weights} {seed}".format(**run)


def base_of(run):
    """The run whose network this one starts with; None where it starts with drawn weights."""
    if run["method"] == "float32":
        return None
    twice = run["method"] in ("tqt twice", "float32 twice again")
    return run | {"method": "float32 twice" if twice else "float32", "weights": 32}


def scheme_of(run):
    """How a run's network is quantized; None for float32."""
    if run["weights"] == 32:
        return None
    return Scheme(weight_bits=run["weights"], depthwise_bits=8 if run["method"] == "tqt longer" else 0,
                  trained=run["method"].startswith("tqt"), least_error=run["method"] == "tqt twice")


def execute(run, data, out):
    """Trains and tests. Returns the result's line."""
    torch.manual_seed(run["seed"])
    recipe = RECIPES[run["data"], run["network"]]
    batches = datasets.Batches(data, recipe.batch, run["seed"] + (0 if run["method"] == "float32" else 1000))
    scheme = scheme_of(run)
    network = NETWORKS[run["network"]](data.train[0].shape[1], len(data.task.names), scheme)
    network.to(memory_format=torch.channels_last)
    result = dict(run)

    def train(epochs, rate, tuning=True, **when):
        training = Training(network, batches, epochs * batches.per_epoch, rate, tuning, **when)
        while training.done < training.steps:
            training.step()
        return {"epochs": epochs, "loss": training.last_loss()}

    if base_of(run) is not None:
        network.load_state_dict(torch.load(checkpoint_of(base_of(run), out)), strict=False)
    if run["method"] in ("float32", "float32 twice"):
        result |= train(recipe.epochs, FLOAT_RATE, False)
    else:
        if scheme is not None:
            calibrate(network, batches, scheme.delay)
        if run["method"] != "post-training":
            result |= train(**TUNING.get(run["method"], {"epochs": recipe.tuning_epochs, "rate": TUNING_RATE}))
    save(network.state_dict(), checkpoint_of(run, out))
    metrics = tested(network, data.task, data.test)
    return result | {"correct": metrics["right"], "images": metrics["answers"],
                     "training_images": len(data.train[0]), "torch": torch.__version__}


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
            base = base_of(run)
            if name_of(run) in finished or not re.search(options.filter, name_of(run)) or (
                    base is not None and name_of(base) not in finished):
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
                loaded = {run["data"]: datasets.load(run["data"], options.data)}
            result = execute(run, loaded[run["data"]], out)
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
        print(f"{name_of(run)}: {100 * result['correct'] / result['images']:.2f} %", flush=True)


def summary_of(results):
    """Of every data set, network, method and bits of weights: percent right by seed, and by seed what is off the
    float32 that it starts from."""
    percent = {name_of(r): 100 * r["correct"] / r["images"] for r in results}
    rows = {}
    for run in PLAN:
        if name_of(run) in percent:
            row = rows.setdefault(tuple(run[key] for key in ("data", "network", "method", "weights")),
                                  {"seeds": [], "percent": [], "off_float32": []})
            row["seeds"].append(run["seed"])
            row["percent"].append(percent[name_of(run)])
            row["off_float32"].append(percent[name_of(run)] - percent[name_of(base_of(run) or run)])
    return rows


def print_table(rows):
    """Means over the seeds, in brackets largest - smallest; the mean of what is off the row's float32, by seed."""
    def cell(data, network, method, bits):
        row = rows.get((data, network, method, bits))
        if row is None:
            return "–"
        count = len(row["seeds"])
        off = "" if method in ("float32", "float32 twice") else f", {statistics.fmean(row['off_float32']):+.2f}"
        missing = "" if count == len(SEEDS) else f", {count} of {len(SEEDS)}"
        return (f"{statistics.fmean(row['percent']):.2f} ({max(row['percent']) - min(row['percent']):.2f}){off}"
                f"{missing}")

    print("| data, network | weights | float32 | float32 again | post-training | EMA | TQT |\n|---|---|" + "--:|" * 5)
    for data, network in dict.fromkeys(key[:2] for key in rows):
        for bits in (8, 4):
            columns = (("float32", 32), ("float32 again", 32), ("post-training", bits), ("ema", bits), ("tqt", bits))
            print(f"| {data}, `{network}` | int{bits} |",
                  " | ".join(cell(data, network, *column) for column in columns), "|")
            if bits == 4 and (data, network, "tqt longer", bits) in rows:
                print(f"| {data}, `{network}`, longer | int4, depthwise int8 |",
                      " | ".join((cell(data, network, "float32", 32), cell(data, network, "float32 again", 32), "–", "–",
                                  cell(data, network, "tqt longer", bits))), "|")
            if bits == 4 and (data, network, "tqt twice", bits) in rows:
                columns = (("float32 twice", 32), ("float32 twice again", 32), None, None, ("tqt twice", bits))
                print(f"| {data}, `{network}`, twice | int4 |",
                      " | ".join(cell(data, network, *column) if column else "–" for column in columns), "|")


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
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    train_all(options, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

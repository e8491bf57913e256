#!/usr/bin/env python3
"""From pictures to a network of integers: the original project's steps, over one folder, RUN.

    python examples/torch/workflow.py train RUN --set drawn-boxes    in float32
    python examples/torch/workflow.py finetune RUN                   on power-of-two grids, from the float32 network
    python examples/torch/workflow.py freeze RUN                     folds, writes RUN/network for run_network
    python examples/torch/workflow.py test RUN                       float32, fake-quantized and integers, side by side

Pictures are a --set, of which fashion-mnist and cifar-10 are in --data; or, without --set, one's own in --data DIR,
with DIR/train and DIR/test: classes, attributes, or boxes (folders.py says how).

A step that is killed and started again goes on from its last checkpoint, and ends with the bits of one that was not
killed: on the same machine, PyTorch and number of threads. RUN/float32 and RUN/quantized hold checkpoint.pt and
curves.svg.
"""
import argparse
import fcntl
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import torch

import data as datasets
import drawings
import folders
from export import export
from functions import REPOSITORY
from layers import Scheme
from networks import DETECTORS, NETWORKS
from tasks import LEAST_SCORE, SHOWN_SCORE
from training import NORMS_REST, RECIPES, TUNING_RATE, Recipe, Training, exponents_of_outputs, save, tested

OWN = {"classes": ("resnet_8", Recipe(30, 6, 32, 0.05)), "attributes": ("resnet_8", Recipe(30, 6, 32, 0.05)),
       "boxes": ("ssd_mobilenet_v1_025", Recipe(60, 10, 32, 0.05))}  # networks and recipes for one's own pictures
WATCHED = 500  # test pictures, at most, that are tried after each epoch
RUN_NETWORK = REPOSITORY / "build" / "release" / "examples" / "run_network" / "run_network"


def pictures_of(settings, moved=None):
    """`moved` is where they are by now."""
    where = moved or settings["data"]
    if settings["set"] is None:
        return folders.load(where, settings["side"])
    return datasets.load(settings["set"], where, settings["limit"])


def network_of(settings, data, quantized=False):
    """In the memory layout that training uses."""
    every = DETECTORS if data.task.kind == "boxes" else NETWORKS
    if settings["network"] not in every:
        raise SystemExit(f"--network: is {settings['network']!r}; for {data.task.kind} allowed: {', '.join(every)}")
    scheme = None
    if quantized:
        scheme = Scheme(weight_bits=settings["bits"], trained=settings["method"] == "tqt", delay=settings["delay"])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    network = every[settings["network"]](data.test[0].shape[1], len(data.task.names), scheme)
    return network.to(memory_format=torch.channels_last)


def recipe_of(name, network, task):
    """The network, which has a default, and its recipe."""
    for of, recipe in RECIPES.items():
        if of == (name, network or of[1]):
            return of[1], recipe
    return network or OWN[task.kind][0], OWN[task.kind][1]


class Line:
    """Progress in one line of a terminal; elsewhere only what is worth a line of its own."""

    shown = sys.stdout.isatty()

    def show(self, text):
        if self.shown:
            print(f"\r\033[K{text}", end="", flush=True)

    def finish(self, text):
        self.show("")
        print(text, flush=True)


class Step:
    """A training in a folder of its own: begun, or gone on with, to its end."""

    def __init__(self, folder):
        self.folder, self.path, self.saved = folder, folder / "checkpoint.pt", None
        if self.path.exists():
            try:
                self.saved = torch.load(self.path)
            except Exception as error:  # of many kinds
                raise SystemExit(f"{self.path}: is no checkpoint") from error

    def settings(self, given, otherwise):
        """Those of the checkpoint, which those given must not contradict; or those given, and else the others."""
        given = {key: value for key, value in given.items() if value is not None}
        if self.saved is None:
            return otherwise | given
        for key, value in given.items():
            before = self.saved["settings"][key]
            if before != value:
                raise SystemExit(f"--{key}: is {value}; {self.path} was begun with {before}. The same or nothing goes "
                                 "on; something new needs another folder, or finetune --first")
        return self.saved["settings"]

    def need_finished(self, verb):
        if self.saved is None:
            raise SystemExit(f"{self.path}: no such file; {verb} writes it")
        if not self.saved["finished"]:
            raise SystemExit(f"{self.path}: {verb} has not finished; started again, it goes on")
        return self.saved["settings"]

    def run(self, training, settings, save_every):
        task, batches, line = training.batches.data.task, training.batches, Line()
        watched = tuple(part[:WATCHED] for part in batches.data.test)
        metrics, exponents = [], []
        if self.saved is not None:
            training.load_state_dict(self.saved["training"])
            metrics, exponents = self.saved["metrics"], self.saved["exponents"]
            print(f"{self.folder}: step {training.done} of {training.steps} was saved", flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = open(self.folder / "lock", "w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SystemExit(f"{self.folder}: another program trains there") from error
        begun, start = training.done, time.monotonic()
        while training.done < training.steps:
            training.step()
            loss = training.losses[-1]
            state = f"{self.folder}: step {training.done} of {training.steps}, loss {loss:.4f}"
            left = (time.monotonic() - start) / (training.done - begun) * (training.steps - training.done)
            line.show(f"{state}, {left:.0f} s left")
            if not math.isfinite(loss):
                line.finish(state)
                raise SystemExit("training has diverged: try a smaller --rate in another folder")
            last = training.done == training.steps
            if training.done % batches.per_epoch == 0 or last:
                percent = 100 * tested(training.network, task, watched)[task.metric]
                metrics.append((training.done, percent))
                exponents.append((training.done, exponents_of_outputs(training.network)))
                line.finish(f"{state}, {task.metric} {percent:.2f} %")
            if training.done % save_every == 0 or last:
                self.saved = {"settings": settings, "training": training.state_dict(), "metrics": metrics,
                              "exponents": exponents, "finished": last}
                save(self.saved, self.path)
                write(self.folder / "curves.svg", curves_of(training, task.metric, metrics, exponents))


def curves_of(training, metric, metrics, exponents):
    def by_step(values):
        return list(enumerate(values, 1))

    panels = [("loss", [by_step(training.losses)]), (f"{metric} in percent, test pictures", [metrics]),
              ("rate", [by_step(training.rates)])]
    layers = exponents[-1][1] if exponents else {}
    if layers:
        panels.append(("exponents of the layers' outputs",
                       [[(step, of[name]) for step, of in exponents if name in of] for name in layers]))
    return drawings.curves(panels, training.steps)


def write(path, text):
    """All of the file or nothing."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def chosen(options, *names):
    return {name: getattr(options, name) for name in names}


def train(options):
    step = Step(options.run / "float32")
    pictures = chosen(options, "set", "data", "side", "limit")
    if step.saved is not None:
        pictures = {key: step.saved["settings"][key] for key in pictures}
    elif options.set is None and options.data is None:
        raise SystemExit(f"train: --set ({', '.join(datasets.SETS)}) or --data, the folder of own pictures, is missing")
    elif (options.side if options.set else options.limit) is not None:
        raise SystemExit("--side: is for own pictures" if options.set else "--limit: is for a --set")
    data = pictures_of(pictures, options.data)
    network, recipe = recipe_of(pictures["set"], options.network, data.task)
    given = chosen(options, "set", "side", "limit", "network", "epochs", "batch", "rate", "seed", "threads")
    settings = step.settings(given, pictures | {"network": network, "epochs": recipe.epochs, "batch": recipe.batch,
                                                "rate": recipe.rate, "seed": 0, "threads": 1})
    network = network_of(settings, data)
    batches = datasets.Batches(data, settings["batch"], settings["seed"])
    step.run(Training(network, batches, settings["epochs"] * batches.per_epoch, settings["rate"]), settings,
             options.save_every)


def finetune(options):
    of_floats, step = Step(options.run / "float32"), Step(options.run / "quantized")
    before = of_floats.need_finished("train")
    if options.first and step.saved is not None:
        shutil.rmtree(step.folder)
        step = Step(step.folder)
    data = pictures_of(before, options.data)
    recipe = recipe_of(before["set"], before["network"], data.task)[1]
    settings = step.settings(chosen(options, "method", "bits", "delay", "epochs", "rate", "threads"),
                             before | {"method": "tqt", "bits": 8, "delay": 50, "epochs": recipe.tuning_epochs,
                                       "rate": TUNING_RATE})
    batches = datasets.Batches(data, settings["batch"], settings["seed"] + 1000)
    steps = settings["epochs"] * batches.per_epoch
    if not 1 <= settings["delay"] <= NORMS_REST * steps:
        raise SystemExit(f"--delay: is {settings['delay']}; {steps} steps allow 1..{int(NORMS_REST * steps)}")
    network = network_of(settings, data, quantized=True)
    network.load_state_dict(of_floats.saved["training"]["network"], strict=False)
    if step.saved is None:
        shutil.rmtree(options.run / "network", ignore_errors=True)  # of an earlier fine-tuning
    step.run(Training(network, batches, steps, settings["rate"], tuning=True), settings, options.save_every)


def freeze(options):
    step = Step(options.run / "quantized")
    settings = step.need_finished("finetune")
    data = pictures_of(settings, options.data)
    network = network_of(settings, data, quantized=True)
    network.load_state_dict(step.saved["training"]["network"])
    folder = options.run / "network"
    unfinished = options.run / "network.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    metrics = export(network, data.task, data.test, unfinished, f"{data.name}-{settings['network']}")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)
    print(f"{folder}: written; fake-quantized, {data.task.metric} {100 * metrics[data.task.metric]:.2f} %")


def run_integers(folder, task, program):
    """What run_network finds of all test pictures, and the numbers of its comparison."""
    if not program.exists():
        raise SystemExit(f"{program}: no such file; build run_network, or say where it is by --run-network or "
                         "$PO2QUANT_RUN_NETWORK")
    with tempfile.TemporaryDirectory() as scratch:
        rule, results = pathlib.Path(scratch) / "task.json", pathlib.Path(scratch) / "results.json"
        rule.write_text(json.dumps(task.description(LEAST_SCORE)), encoding="utf-8")
        ended = subprocess.run([program, folder, "--golden", "--seconds", "0", "--task", rule, "--json", results],
                               capture_output=True, text=True, check=False)
        if not results.exists():
            raise SystemExit(f"{program} failed: {ended.stderr.strip()}")
        found = json.loads(results.read_text(encoding="utf-8"))
    return [result["found"] for result in found["results"]], {key: found[key] for key in ("compared", "differing")}


def test(options):
    """0 if all that the integers gave was equal."""
    floats, quantized = Step(options.run / "float32"), Step(options.run / "quantized")
    settings = floats.need_finished("train")
    data = pictures_of(settings, options.data)
    task, results, found = data.task, {}, None
    network = network_of(settings, data)
    network.load_state_dict(floats.saved["training"]["network"])
    results["float32"] = tested(network, task, data.test)
    if quantized.saved is not None and quantized.saved["finished"]:
        network = network_of(quantized.saved["settings"], data, quantized=True)
        network.load_state_dict(quantized.saved["training"]["network"])
        results["fake-quantized"] = tested(network, task, data.test)
    frozen = options.run / "network"
    if frozen.exists():
        found, compared = run_integers(frozen, task, options.run_network)
        if len(found) != len(data.test[0]):
            raise SystemExit(f"{frozen}: has {len(found)} pictures; {len(data.test[0])} are there to test with")
        results["integers"] = task.metrics([task.answer_of(of) for of in found], data.test[1]) | compared
    for name, metrics in results.items():
        shares = ", ".join(f"{key} {100 * value:.2f} %" for key, value in metrics.items() if isinstance(value, float))
        print(f"{name:15} {shares}")
    equal = True
    if found is not None:
        print(f"{compared['compared']} values of integers compared with the fake-quantized network's, "
              f"{compared['differing']} differ")
        equal = compared["differing"] == 0 < compared["compared"]
    if options.json:
        content = {"settings": settings, "pictures": len(data.test[0])} | results
        write(options.json, json.dumps(content, indent=1) + "\n")
    if options.draw:
        if found is None or task.kind != "boxes":
            raise SystemExit("--draw: needs a frozen network that finds boxes")
        drawn = [[(task.names.index(box["label"]), box["box"]) for box in boxes if box["value"] >= SHOWN_SCORE]
                 for boxes in found]
        options.draw.write_bytes(drawings.sheet(data.test[0].numpy(), drawn))
    return 0 if equal else 1


def positive(kind):
    def read(text):
        value = kind(text)
        if not (value > 0 and math.isfinite(value)):
            raise ValueError
        return value

    read.__name__ = f"positive {kind.__name__}"  # what argparse calls it
    return read


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    whole, number = positive(int), positive(float)

    def verb(does):
        of = verbs.add_parser(does.__name__)
        of.set_defaults(does=does)
        of.add_argument("run", metavar="RUN", type=pathlib.Path, help="the folder of all four steps")
        of.add_argument("--data", help="the folder of one's own pictures, or of the data sets' folders; by default "
                                       "what train was given, else $PO2QUANT_DATA_DIR")
        return of

    def trains(of, rate):
        of.add_argument("--epochs", type=whole, help="by default the recipe's")
        of.add_argument("--rate", type=number, help=f"the largest of the cycle; {rate} by default")
        of.add_argument("--threads", type=whole, help="of PyTorch; 1 by default")
        of.add_argument("--save-every", type=whole, default=100, help="steps between checkpoints; 100 by default")

    of = verb(train)
    trains(of, "the recipe's")
    of.add_argument("--set", choices=datasets.SETS)
    of.add_argument("--network", choices=[*NETWORKS, *DETECTORS], help="by default the first one that has a recipe")
    of.add_argument("--side", type=whole, help="of one's own pictures as the network sees them; 32, or 64 for boxes")
    of.add_argument("--limit", type=whole, help="training pictures of a --set; a quarter as many are test pictures")
    of.add_argument("--batch", type=whole, help="by default the recipe's")
    of.add_argument("--seed", type=int, help="0 by default")
    of = verb(finetune)
    trains(of, TUNING_RATE)
    of.add_argument("--method", choices=("tqt", "ema"), help="trained thresholds, the default, or averages of ranges")
    of.add_argument("--bits", type=int, choices=(8, 4), help="of weights; 8 by default")
    of.add_argument("--delay", type=whole, help="steps that train in float32 and only watch ranges; 50 by default")
    of.add_argument("--first", action="store_true", help="starts at step 0 from the float32 network, whatever there is")
    verb(freeze)
    of = verb(test)
    of.add_argument("--run-network", type=pathlib.Path, default=os.environ.get("PO2QUANT_RUN_NETWORK", RUN_NETWORK),
                    help="the program that executes RUN/network; else $PO2QUANT_RUN_NETWORK")
    of.add_argument("--json", type=pathlib.Path, help="a file for all that was found")
    of.add_argument("--draw", type=pathlib.Path, metavar="FILE.png", help="test pictures with boxes by integers")
    options = parser.parse_args(arguments)
    options.data = options.data and str(pathlib.Path(options.data).resolve())
    return options.does(options)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The whole of workflow.py in miniature; exits with 1 if something is wrong.

    python examples/torch/check_workflow.py drawn      trains, is killed and goes on, freezes, compares with integers
    python examples/torch/check_workflow.py folders    the same from folders of pictures, and what is wrong with some

A few steps teach little: what is checked is that numbers are the same where they must be, and that pictures, labels and
errors are those meant. $PO2QUANT_RUN_NETWORK names the program that executes integers.
"""
import contextlib
import csv
import fcntl
import io
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

import boxes
import data as datasets
import drawn
import folders
import workflow
from tasks import Boxes
from networks import Ssd

WORKFLOW = pathlib.Path(workflow.__file__)
PROGRAM = pathlib.Path(os.environ.get("PO2QUANT_RUN_NETWORK", workflow.RUN_NETWORK))
failures = []


def expect(holds, what):
    if not holds:
        failures.append(what)
        print(f"FAILED  {what}")


def started(*arguments):
    return subprocess.Popen([sys.executable, "-B", WORKFLOW, *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def step(*arguments, fails=None):
    """A step, which succeeds, or fails with an error that has the text."""
    command, code = " ".join(map(str, arguments)), None
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            code = workflow.main(list(map(str, arguments)))
        except SystemExit as caught:
            code = str(caught)
    if fails is None:
        expect(not code, f"{command}: {code}")
    else:
        expect(fails in str(code), f"{command}: {fails!r} is not in {code!r}")


def version(path):
    return path.stat().st_ino if path.exists() else None


def killed(source, path, *arguments):
    """Starts a step, and kills it when it has written some checkpoints; says whether it was in time."""
    process, count = started(*arguments), source.randint(1, 4)
    while process.poll() is None and count > 0:
        before = version(path)
        while process.poll() is None and version(path) == before:
            time.sleep(0.0005)
        count -= 1
    time.sleep(source.uniform(0, 0.05))
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def same(a, b, what):
    if isinstance(a, torch.Tensor):
        expect(a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7), b.nan_to_num(7)), what)
    elif isinstance(a, dict):
        expect(list(a) == list(b), f"{what}: keys")
        for key in a:
            same(a[key], b[key], f"{what}: {key}")
    elif isinstance(a, (list, tuple)):
        expect(len(a) == len(b), f"{what}: length")
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, f"{what}[{i}]")
    else:
        expect(a == b, f"{what}: {a} and {b}")


def tested(run):
    """The results of freezing and testing: integers, of which none differs, and as good as fake quantization."""
    step("freeze", run)
    file = run / "results.json"
    step("test", run, "--json", file)
    results = json.loads(file.read_text(encoding="utf-8"))
    integers = results["integers"]
    expect(integers["compared"] > 0 and integers["differing"] == 0, f"{run.name}: {integers}")
    for key, value in results["fake-quantized"].items():
        expect(integers[key] == value, f"{run.name}: {key}: {integers[key]} by integers, {value} fake-quantized")
    return results


def check_kills(folder):
    """Killed at any time and gone on with: the bits of a training that was not."""
    source = random.Random(1)
    options = {"train": ("--set", "drawn-boxes", "--limit", 128, "--batch", 16, "--epochs", 2),
               "finetune": ("--epochs", 3, "--delay", 4)}
    step("train", folder / "whole", *options["train"])
    for verb, of in (("train", "float32"), ("finetune", "quantized")):
        if verb == "finetune":
            step("finetune", folder / "whole", *options[verb], "--save-every", 7)
        path, kills = folder / "killed" / of / "checkpoint.pt", 0
        for _ in range(3):
            kills += killed(source, path, verb, folder / "killed", *options[verb], "--save-every", 1)
        expect(kills == 3 and not torch.load(path)["finished"], f"{verb}: was killed {kills} times")
        if verb == "train":
            step("finetune", folder / "killed", fails="has not finished")
            step("train", folder / "killed", "--batch", 32, fails="--batch: is 32")
        else:
            step("freeze", folder / "killed", fails="has not finished")
        process = started(verb, folder / "killed")
        output, _ = process.communicate()
        expect(process.returncode == 0 and "was saved" in output, f"{verb}: {output}")
        whole, other = (torch.load(folder / name / of / "checkpoint.pt") for name in ("whole", "killed"))
        same(whole, other, f"{verb}, killed and gone on with")
        whole, other = ((folder / name / of / "curves.svg").read_text() for name in ("whole", "killed"))
        expect(whole == other and whole.count("<polyline") == (3 if verb == "train" else 41), f"{verb}: other curves")


def check_boxes(folder):
    """The network that was killed, as integers: equal values, and the same boxes in every picture."""
    run = folder / "killed"
    tested(run)
    step("test", run, "--draw", run / "sheet.png")
    expect((run / "sheet.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n", "no PNG was drawn")
    saved = torch.load(run / "quantized" / "checkpoint.pt")
    data = workflow.pictures_of(saved["settings"])
    network = workflow.network_of(saved["settings"], data, quantized=True).eval()
    network.load_state_dict(saved["training"]["network"])
    with torch.no_grad():
        answers = data.task.answers(network(datasets.as_input(data.test[0])))
    found, _ = workflow.run_integers(run / "network", data.task, PROGRAM)
    expect(sum(len(label) for label, *_ in answers) > 0, "no boxes were found")
    for i, (answer, of) in enumerate(zip(answers, found)):
        integers = data.task.answer_of(of)
        same(answer[0], integers[0], f"labels of picture {i}")
        near = all((a - b).abs().max() <= 1e-6 for a, b in zip(answer[1:], integers[1:]) if len(a))
        expect(near, f"boxes of picture {i}")
    exponents = saved["exponents"][-1][1]
    expect(len(exponents) == 38 and all(-12 < e < 0 for e in exponents.values()), f"exponents {exponents}")


def check_again(folder):
    """A new fine-tuning, with moving averages and four bits, from the same float32 network; and other tasks."""
    run = folder / "whole"
    step("finetune", run, "--method", "ema", fails="--method: is ema")
    step("finetune", run, "--first", "--method", "ema", "--bits", 4, "--epochs", 1, "--delay", 99, fails="allow 1..2")
    step("finetune", run, "--method", "ema", "--bits", 4, "--epochs", 1, "--delay", 2)
    expect(len(torch.load(run / "quantized" / "checkpoint.pt")["training"]["losses"]) == 8, "steps began at 0")
    tested(run)
    run = folder / "attributes"
    step("train", run, "--set", "drawn", "--network", "mobilenet_v1_025", "--limit", 64, "--batch", 16, "--epochs", 1)
    step("finetune", run, "--epochs", 2, "--delay", 2)
    tested(run)
    (folder / "damaged" / "float32").mkdir(parents=True)
    (folder / "damaged" / "float32" / "checkpoint.pt").write_bytes(b"text")
    step("train", folder / "damaged", fails="is no checkpoint")
    with open(run / "float32" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        step("train", run, fails="another program trains there")
    step("train", folder / "none", "--data", folder, "--limit", 3, fails="--limit: is for a --set")
    step("train", folder / "none", fails="--set")
    step("test", folder / "none", fails="no such file; train writes it")


def check_rules(_):
    """Anchors, codes and precision by hand."""
    rule = boxes.Rule((2, 1), 0.2, 0.6, (1.0, 4.0))
    anchors = rule.anchors()
    expect(anchors.shape == (15, 4), f"anchors {anchors.shape}")
    root = (0.2 * 0.6) ** 0.5
    second = torch.tensor([[0.25, 0.75, 0.2, 0.2], [0.25, 0.75, 0.1, 0.4], [0.25, 0.75, root, root]]).double()
    expect(torch.allclose(anchors[3:6], second, atol=1e-7), "anchors' order")
    own = torch.tensor([[0.1, 0.2, 0.5, 0.9]], dtype=torch.float64).expand(15, 4)
    back = boxes.decode(boxes.encode(own, anchors, rule.coder), anchors, rule.coder)
    expect((back - own).abs().max() < 1e-12, "codes do not lead back")
    truth = torch.zeros(1, 2, 5)
    truth[0, 0] = torch.tensor([2, 0.1, 0.1, 0.3, 0.3])
    label, box = boxes.match(truth, anchors)
    right = label[0].tolist() == [2] + [0] * 14 and torch.equal(box[0, 0], truth[0, 0, 1:])
    expect(right, f"matched {label[0].tolist()}")
    scores = torch.tensor([[0.0, 0.9, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 0.7], [0.0, 0.6, 0.0]])
    same_place = torch.tensor([[0.5, 0.5, 0.4, 0.4]] * 3 + [[0.1, 0.1, 0.2, 0.2]], dtype=torch.float64)
    found = boxes.detections(torch.zeros(4, 4), scores, same_place, rule, 0.65)
    right = found[0].tolist() == [1, 2] and torch.allclose(found[1].float(), torch.tensor([0.9, 0.7]))
    expect(right, f"found {found}")
    # Ranked right, wrong, right, twice: 2 of 3 boxes found, precision 1, then 2/3.
    there = torch.tensor([[0.0, 0.0, 0.2, 0.2], [0.4, 0.4, 0.6, 0.6], [0.8, 0.8, 1.0, 1.0]])
    truths = torch.cat([torch.ones(3, 1), there], 1)[None]
    offered = torch.stack([there[0], there[0] + 0.3, there[1], there[0]]).double()
    found = [(torch.ones(4).long(), torch.tensor([0.9, 0.8, 0.7, 0.6]).double(), offered)]
    at = boxes.mean_average_precision(found, truths, 2, (0.5,))
    expect(abs(at[0.5] - (1 + 2 / 3) / 3) < 1e-6, f"precision {at}")


def check_pictures(_):
    """Boxes are where the figures are, in a mirrored picture too."""
    images, labels = drawn.scenes(None, "train", 40)
    expect((labels[:, 0, 0] > 0).all(), "pictures without figures")
    task = Boxes(drawn.FIGURES, drawn.SCENE, Ssd.STRIDES)
    which = torch.arange(40) % 2 == 1
    mirrored = task.mirrored(torch.from_numpy(labels), which).numpy()
    for number, (image, own) in enumerate(zip(images, mirrored)):
        image = image[:, :, ::-1] if which[number] else image
        for label, *box in own[own[:, 0] > 0]:
            top, left, bottom, right = (round(share * drawn.SCENE) for share in box)
            inside = image[:, top:bottom, left:right].astype(float)
            # A figure is at least 70 off its ground in a channel, which noise and slope are not.
            expect(np.ptp(inside.reshape(3, -1), 1).max() > 45, f"picture {number}: nothing at {box}")


def write_folder(folder, kind, part, count):
    """Drawn pictures as a user's own; twice as wide for boxes, so that they are resized."""
    from PIL import Image

    (folder / part).mkdir(parents=True)
    if kind == "boxes":
        images, labels = drawn.scenes(None, part, count)
        listed, boxes_of = [], []
        for i, (image, own) in enumerate(zip(images, labels)):
            wide = image.transpose(1, 2, 0).repeat(2, 1)
            Image.fromarray(wide).save(folder / part / f"{i}.png")
            Image.fromarray(wide).save(folder / part / f"{i}.ppm")
            listed.append({"id": 10 + i, "file_name": f"{i}.png", "width": 128, "height": 64})
            for label, top, left, bottom, right in own[own[:, 0] > 0].tolist():
                boxes_of.append({"id": len(boxes_of), "image_id": 10 + i, "category_id": 7 * int(label),
                                 "bbox": [128 * left, 64 * top, 128 * (right - left), 64 * (bottom - top)]})
        categories = [{"id": 7 * i, "name": name} for i, name in enumerate(drawn.FIGURES, 1)]
        content = {"images": listed, "annotations": boxes_of, "categories": categories}
        (folder / part / "annotations.json").write_text(json.dumps(content))
        return images, labels
    images, labels = drawn.attributes(None, part, count)
    lines = [("file", *drawn.ATTRIBUTES)]
    for i, (image, own) in enumerate(zip(images, labels)):
        name = f"{i}.png" if kind == "attributes" else f"{'round' if own[0] else 'other'}/{i:03}.png"
        (folder / part / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / part / name)
        lines.append((name, *own.astype(int)))
    if kind == "attributes":
        with open(folder / part / "attributes.csv", "w", newline="") as file:
            csv.writer(file).writerows(lines)
    return images, labels


def check_own_pictures(folder):
    """What folders.py reads is what was written; all steps with each kind."""
    for kind in ("classes", "attributes", "boxes"):
        counts = {"train": 48, "test": 12}
        written = {part: write_folder(folder / kind, kind, part, count) for part, count in counts.items()}
        data = folders.load(folder / kind)
        expect(data.task.kind == kind, f"{kind} are taken for {data.task.kind}")
        for part in ("train", "test"):
            images, labels = written[part]
            read, of = getattr(data, part)
            if kind == "boxes":
                expect(read.shape == images.shape and of.shape[0] == len(labels), f"{kind}: {read.shape}, {of.shape}")
                rows = [[o[o[:, 0] > 0] for o in every] for every in (of, torch.from_numpy(labels))]
                expect(all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*rows)), f"{kind}: other boxes")
                # Every second column of the wide picture is one of the drawn picture's.
                expect(np.array_equal(read.numpy(), images), f"{kind}: other pictures")
            elif kind == "attributes":
                expect(np.array_equal(read.numpy(), images) and np.array_equal(of.numpy(), labels), f"{kind}: others")
            else:
                names = [data.task.names[label] for label in of.tolist()]
                meant = sorted("round" if own[0] else "other" for own in labels)
                expect(sorted(names) == meant, f"{kind}: other labels")
        run = folder / f"run of {kind}"
        step("train", run, "--data", folder / kind, "--batch", 16, "--epochs", 1)
        step("finetune", run, "--epochs", 2, "--delay", 1)
        tested(run)
        if kind == "boxes":
            check_from_files(run, folder / kind / "test", len(written["test"][0]))


def check_from_files(run, folder, count):
    """run_network itself reads the pictures, and resizes them: the same findings."""
    frozen, results = run / "network", run / "from_files.json"
    rule = run / "task.json"
    rule.write_text(json.dumps(folders.load(folder.parent).task.description(0.02)))
    images = [argument for i in range(count) for argument in ("--image", folder / f"{i}.ppm")]
    options = ("--golden", "--seconds", "0", "--task", rule, "--json", results)
    subprocess.run([PROGRAM, frozen, *options, *images], check=True, stdout=subprocess.DEVNULL)
    found = [of["found"] for of in json.loads(results.read_text())["results"]]
    expect(found[:count] == found[count:], "pictures that run_network reads give other boxes")


def check_errors(folder):
    """Each names the file and what is wrong in it."""
    for kind in ("classes", "attributes", "boxes"):
        for part in ("train", "test"):
            write_folder(folder / f"wrong {kind}", kind, part, 4)

    def fails(kind, name, content, error):
        path = folder / f"wrong {kind}" / name
        before = path.read_bytes() if path.exists() else None
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        try:
            every = folders.load(folder / f"wrong {kind}")
            _ = every.train, every.test  # are read
            expect(False, f"{kind}: {error!r}: was taken")
        except SystemExit as caught:
            expect(str(path) in str(caught) and error in str(caught), f"{kind}: {error!r} is not in {str(caught)!r}")
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)

    lines = (folder / "wrong attributes" / "train" / "attributes.csv").read_text().splitlines()
    table = "train/attributes.csv"
    fails("attributes", table, "", "line 1: is ''")
    fails("attributes", table, "name,a\n0.png,1\n", "line 1: is 'name,a'")
    fails("attributes", table, "file,a,a\n0.png,1,1\n", "names an attribute twice")
    fails("attributes", table, "\n".join([*lines[:2], "1.png,1"]), "line 3: has 2 fields; line 1 has 5")
    fails("attributes", table, lines[0] + "\n0.png,1,0,yes,0\n", "line 2: triangle: is 'yes'; allowed: 0, 1")
    fails("attributes", table, lines[0] + "\n", "names no pictures")
    fails("attributes", "test/attributes.csv", None, "no such file")
    fails("attributes", "test/attributes.csv", "file,other\n0.png,1\n", "has other;")
    fails("attributes", "train/0.png", None, "no such file")
    fails("attributes", "train/0.png", "text", "cannot be read as a picture")
    good = json.loads((folder / "wrong boxes" / "train" / "annotations.json").read_text())
    for change, error in (({"images": 3}, "images: is 3; a list is needed"),
                          ({"images": []}, "images: is empty"),
                          ({"categories": [{"id": 1}]}, "categories[0]: name: is missing"),
                          ({"images": [good["images"][0]] * 2}, "images[1]: id: is 10; that of something before"),
                          ({"images": [good["images"][0] | {"width": "9"}]}, "images[0]: width: is \"9\"; an integer"),
                          ({"annotations": [good["annotations"][0] | {"image_id": 1}]},
                           "annotations[0]: image_id: is 1; which is no id of images"),
                          ({"annotations": [good["annotations"][0] | {"bbox": [1, 2, 0, 4]}]},
                           "annotations[0]: bbox: is [1, 2, 0, 4]; needed"),
                          ({"annotations": [good["annotations"][0] | {"bbox": [100, 2, 40, 4]}]},
                           "bbox: is [100, 2, 40, 4]; the picture has 128 x 64 pixels"),
                          ({"annotations": []}, "annotations: is []; at least one is needed"),
                          ({"images": [image | {"width": 64} for image in good["images"]],
                            "annotations": [good["annotations"][0] | {"bbox": [1, 2, 3, 4]}]}, "says 64 x 64")):
        fails("boxes", "train/annotations.json", json.dumps(good | change), error)
    fails("boxes", "train/annotations.json", "{", "is no JSON")
    fails("boxes", "train/annotations.json", json.dumps({"images": []}), "categories: is missing")
    empty = folder / "wrong classes" / "train" / "empty"
    empty.mkdir()
    try:
        folders.load(folder / "wrong classes")
        expect(False, "an empty class was taken")
    except SystemExit as caught:
        expect(f"{empty}: has no pictures" in str(caught), str(caught))
    step("train", folder / "x", "--data", folder / "nowhere", fails="nowhere/train: no such folder")


def main():
    checks = {"drawn": (check_rules, check_pictures, check_kills, check_boxes, check_again),
              "folders": (check_own_pictures, check_errors)}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        for check in checks[sys.argv[1]]:
            before = len(failures)
            check(pathlib.Path(scratch))
            verdict = "ok" if len(failures) == before else "FAILED"
            print(f"{check.__name__.removeprefix('check_').replace('_', ' ')}: {verdict}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

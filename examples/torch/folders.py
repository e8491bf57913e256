"""A user's own pictures: DIR/train and DIR/test, each with

    annotations.json    boxes, as COCO has them: images (id, file_name, width, height), categories (id, name) and
                        annotations (image_id, category_id, bbox [left, top, width, height] in pixels)
    attributes.csv      or attributes: a line `file,NAME,NAME,…`, then one for each picture with 0 or 1 for each name
    CLASS/              or a folder of pictures for each class

Files are named from DIR/train and DIR/test on. Pictures of any format that Pillow reads become RGB of SIDE x SIDE,
resized as run_network does it.
"""
import csv
import functools
import json
import pathlib

import numpy as np

from data import Set
from networks import Ssd
from tasks import Attributes, Boxes, Classes

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
SIDE, SIDE_OF_BOXES = 32, 64  # by default
SHIFT = 2  # of pictures without boxes, pixels


def resized(pixels, side):
    """[height][width][3] bytes as [3][side][side]: bilinear, corners not aligned, as in TensorFlow 1."""
    def along(length):
        source = np.arange(side, dtype=np.float32) * (np.float32(length) / np.float32(side))
        low = np.minimum(source.astype(np.int64), length - 1)
        return low, np.minimum(low + 1, length - 1), source - low.astype(np.float32)

    pixels = pixels.astype(np.float32)
    top, bottom, down = along(pixels.shape[0])
    left, right, across = along(pixels.shape[1])
    down, across = down[:, None, None], across[None, :, None]
    above = pixels[top][:, left] + (pixels[top][:, right] - pixels[top][:, left]) * across
    below = pixels[bottom][:, left] + (pixels[bottom][:, right] - pixels[bottom][:, left]) * across
    codes = np.floor(above + (below - above) * down - np.float32(128) + np.float32(0.5))
    return (codes + 128).astype(np.uint8).transpose(2, 0, 1)


def read_picture(path, side):
    """The picture, and its height and width."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise SystemExit("own pictures are read by Pillow, which is not installed: pip install pillow") from error
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise SystemExit(f"{path}: no such file") from error
    except (UnidentifiedImageError, OSError) as error:
        raise SystemExit(f"{path}: cannot be read as a picture: {error}") from error
    return resized(pixels, side), pixels.shape[:2]


def pictures(paths, side):
    return np.stack([read_picture(path, side)[0] for path in paths])


def classes(folder):
    """Names, files, labels."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(names) < 2:
        raise SystemExit(f"{folder}: has {len(names)} folders, one for each class; at least 2 are needed, or "
                         "annotations.json, or attributes.csv")
    files, labels = [], []
    for label, name in enumerate(names):
        own = sorted(path for path in (folder / name).iterdir() if path.suffix.lower() in SUFFIXES)
        if not own:
            raise SystemExit(f"{folder / name}: has no pictures; allowed: {', '.join(sorted(SUFFIXES))}")
        files += own
        labels += [label] * len(own)
    return names, files, labels


def attributes(path):
    with open(path, newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if not lines or len(lines[0]) < 2 or lines[0][0] != "file":
        raise SystemExit(f"{path}: line 1: is {','.join(lines[0]) if lines else ''!r}; needed: file,NAME,…")
    names, files, labels = lines[0][1:], [], []
    if len(set(names)) < len(names):
        raise SystemExit(f"{path}: line 1: names an attribute twice")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(lines[0]):
            raise SystemExit(f"{path}: line {number}: has {len(line)} fields; line 1 has {len(lines[0])}")
        for name, value in zip(names, line[1:]):
            if value not in ("0", "1"):
                raise SystemExit(f"{path}: line {number}: {name}: is {value!r}; allowed: 0, 1")
        files.append(path.parent / line[0])
        labels.append([int(value) for value in line[1:]])
    if not files:
        raise SystemExit(f"{path}: names no pictures")
    return names, files, labels


class Node:
    """A part of a JSON file that knows where it stands."""

    def __init__(self, value, where):
        self.value, self.where = value, where

    def fail(self, what):
        shown = json.dumps(self.value)
        raise SystemExit(f"{self.where}: is {shown if len(shown) <= 60 else shown[:57] + '...'}; {what}")

    def at(self, key):
        if not isinstance(self.value, dict):
            self.fail("an object is needed")
        if key not in self.value:
            raise SystemExit(f"{self.where}: {key}: is missing")
        return Node(self.value[key], f"{self.where}: {key}")

    def items(self):
        if not isinstance(self.value, list):
            self.fail("a list is needed")
        return [Node(value, f"{self.where}[{i}]") for i, value in enumerate(self.value)]

    def of(self, *types, what):
        if not isinstance(self.value, types) or isinstance(self.value, bool):
            self.fail(f"{what} is needed")
        return self.value


def annotations(path):
    """Names, and of each picture file, height, width and its boxes: category, top, left, bottom, right in pixels."""
    try:
        root = Node(json.loads(path.read_text(encoding="utf-8")), str(path))
    except ValueError as error:
        raise SystemExit(f"{path}: is no JSON: {error}") from error

    def by_id(key):
        every = {}
        for node in root.at(key).items():
            if node.at("id").of(int, what="an integer") in every:
                node.at("id").fail("that of something before")
            every[node.at("id").value] = node
        if not every:
            raise SystemExit(f"{path}: {key}: is empty")
        return every

    categories, images = by_id("categories"), by_id("images")
    index = {key: i for i, key in enumerate(sorted(categories), 1)}
    names = [categories[key].at("name").of(str, what="text") for key in index]
    every = {key: (path.parent / node.at("file_name").of(str, what="text"),
                   *(node.at(side).of(int, what="an integer") for side in ("height", "width")), [])
             for key, node in images.items()}
    if not root.at("annotations").items():
        root.at("annotations").fail("at least one is needed")
    for node in root.at("annotations").items():
        for key, known in (("image_id", images), ("category_id", categories)):
            if node.at(key).of(int, what="an integer") not in known:
                node.at(key).fail(f"which is no id of {'images' if key == 'image_id' else 'categories'}")
        _, height, width, own = every[node.at("image_id").value]
        box = [number.of(int, float, what="a number") for number in node.at("bbox").items()]
        if len(box) != 4 or box[2] <= 0 or box[3] <= 0:
            node.at("bbox").fail("needed: left, top, width > 0, height > 0")
        left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
        if left < -1 or top < -1 or right > width + 1 or bottom > height + 1:
            node.at("bbox").fail(f"the picture has {width} x {height} pixels")
        own.append((index[node.at("category_id").value], top, left, bottom, right))
    return names, list(every.values())


def scenes(path, pictures, side, most):
    """Pictures, and their boxes [n][most][5] in shares."""
    images, labels = [], np.zeros((len(pictures), most, 5), np.float32)
    for label, (file, height, width, own) in zip(labels, pictures):
        image, shape = read_picture(file, side)
        if shape != (height, width):
            raise SystemExit(f"{file}: has {shape[1]} x {shape[0]} pixels; {path} says {width} x {height}")
        images.append(image)
        for i, (category, *box) in enumerate(own):
            label[i] = category, *np.clip(np.array(box) / (height, width, height, width), 0, 1)
    return np.stack(images), labels


def load(folder, side=None):
    """The set of DIR; what its task is, its files say. By default SIDE is 64 for boxes, else 32."""
    folder = pathlib.Path(folder)
    parts = {part: folder / part for part in ("train", "test")}
    for path in parts.values():
        if not path.is_dir():
            raise SystemExit(f"{path}: no such folder")
    file = next((name for name in ("annotations.json", "attributes.csv")
                 if any((path / name).exists() for path in parts.values())), "")
    files = {part: path / file for part, path in parts.items()}
    for path in files.values():
        if not path.exists():
            raise SystemExit(f"{path}: no such file")
    if file == "annotations.json":
        side = side or SIDE_OF_BOXES
        read = {part: annotations(path) for part, path in files.items()}
        most = max(1, *(len(own) for _, every in read.values() for *_, own in every))

        def of(part):
            return scenes(files[part], read[part][1], side, most)

        make, shift = functools.partial(Boxes, side=side, strides=Ssd.STRIDES), 0
    else:
        read = {part: (attributes if file else classes)(path) for part, path in files.items()}

        def of(part):
            return pictures(read[part][1], side or SIDE), read[part][2]

        make, shift = Attributes if file else Classes, SHIFT
    names = {part: found[0] for part, found in read.items()}
    if names["train"] != names["test"]:
        raise SystemExit(f"{files['test']}: has {', '.join(names['test'])}; {files['train']} has "
                         f"{', '.join(names['train'])}")
    return Set(folder.name, make(names["train"]), shift, of)

"""Fashion-MNIST and CIFAR-10 from their official files, drawn pictures, and batches of them."""
import functools
import gzip
import lzma
import os
import pathlib

import numpy as np
import torch

import drawn
from networks import Ssd
from tasks import Attributes, Boxes, Classes


def read_file(path):
    """The bytes of `path`, or of what it is packed in, `path`.gz or `path`.xz."""
    for suffix, opened in (("", open), (".gz", gzip.open), (".xz", lzma.open)):
        packed = pathlib.Path(f"{path}{suffix}")
        if packed.exists():
            with opened(packed, "rb") as file:
                return file.read()
    raise SystemExit(f"{path}: no such file, nor .gz nor .xz")


def read_idx(path):
    """The array of an IDX file: 0, 0, 8, the number of dimensions, each as uint32 big endian, the bytes."""
    content = read_file(path)
    if content[:3] != b"\0\0\x08":
        raise SystemExit(f"{path}: not an IDX file of bytes")
    shape = np.frombuffer(content, ">u4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def fashion_mnist(folder, part, limit):
    name = {"train": "train", "test": "t10k"}[part]
    images = read_idx(folder / f"{name}-images-idx3-ubyte")
    return images[:limit, None], read_idx(folder / f"{name}-labels-idx1-ubyte")[:limit]


def cifar_10(folder, part, limit):
    """Records of a label and 3 planes of 32x32. Of the five training batches those that are there."""
    paths = [folder / "test_batch.bin"]
    if part == "train":
        numbered = [folder / f"data_batch_{i}.bin" for i in range(1, 6)]
        paths = [p for p in numbered if list(folder.glob(f"{p.name}*"))] or numbered
    records = np.concatenate([np.frombuffer(read_file(p), np.uint8).reshape(-1, 3073) for p in paths])[:limit]
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def tensors(images, labels):
    """Classes are int64, all other labels float32."""
    labels = np.asarray(labels)
    return (torch.from_numpy(np.ascontiguousarray(images).copy()),
            torch.from_numpy(labels.astype(np.int64 if labels.ndim == 1 else np.float32)))


class Set:
    """Pictures to learn from and to test with, bytes [n][channels][height][width], and their labels, as the task has
    them; read(part) is called when a part is first used. Training pictures are moved by up to `shift` pixels."""

    def __init__(self, name, task, shift, read):
        self.name, self.task, self.shift, self.read = name, task, shift, read

    @functools.cached_property
    def train(self):
        return tensors(*self.read("train"))

    @functools.cached_property
    def test(self):
        return tensors(*self.read("test"))


FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SETS = {"fashion-mnist": (fashion_mnist, Classes(FASHION), 0), "cifar-10": (cifar_10, Classes(CIFAR), 4),
        "drawn": (drawn.attributes, Attributes(drawn.ATTRIBUTES), 2),
        "drawn-boxes": (drawn.scenes, Boxes(drawn.FIGURES, drawn.SCENE, Ssd.STRIDES), 0)}
DRAWN = ("drawn", "drawn-boxes")  # need no files


def load(name, data=None, limit=None):
    """One of SETS. `data` holds the set's folder, or `datasets` with it. A limit is the number of training pictures; a
    quarter of it are test pictures."""
    read, task, shift = SETS[name]
    folder = None
    if name not in DRAWN:
        data = data or os.environ.get("PO2QUANT_DATA_DIR")
        if not data:
            raise SystemExit(f"{name}: --data or $PO2QUANT_DATA_DIR must say where the data sets are")
        roots = [pathlib.Path(data), pathlib.Path(data) / "datasets"]
        folder = next((root / name for root in roots if (root / name).is_dir()), roots[0] / name)
    limits = {"train": limit, "test": limit and max(1, limit // 4)}
    return Set(name, task, shift, lambda part: read(folder, part, limits[part]))


def add_argument(parser):
    parser.add_argument("--data", help="the folder of the data sets' folders; else $PO2QUANT_DATA_DIR")


def to_floats(images):
    """Bytes to [-1, 1): the int8 codes of the network's input times 2^-7, exactly."""
    return (images.float() - 128) / 128


def as_input(images):
    return to_floats(images).contiguous(memory_format=torch.channels_last)


def augmented(images, labels, task, shift, source):
    """Mirrored half of the times, and moved by up to `shift` pixels; what is moved in is grey."""
    n, _, height, width = images.shape
    mirrored = torch.rand(n, generator=source) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    labels = task.mirrored(labels, mirrored)
    if shift == 0:
        return images, labels
    padded = torch.nn.functional.pad(images, (shift,) * 4, value=128)
    at = torch.randint(2 * shift + 1, (n, 2), generator=source).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, at)]), labels


class Batches:
    """Batches of augmented training pictures without end, in each epoch as many full ones as there are. Where they are
    can be saved."""

    def __init__(self, data, size, seed):
        self.data, self.size = data, size
        if not 0 < size <= len(data.train[0]):
            raise SystemExit(f"--batch: is {size}; {data.name} has {len(data.train[0])} training pictures")
        self.source = torch.Generator().manual_seed(seed)
        self.order, self.at = torch.zeros(0, dtype=torch.int64), 0

    @property
    def per_epoch(self):
        return len(self.data.train[0]) // self.size

    def __next__(self):
        if self.at == len(self.order):
            self.order = torch.randperm(len(self.data.train[0]), generator=self.source)[: self.per_epoch * self.size]
            self.at = 0
        chosen = self.order[self.at : self.at + self.size]
        self.at += self.size
        images, labels = (of_all[chosen] for of_all in self.data.train)
        images, labels = augmented(images, labels, self.data.task, self.data.shift, self.source)
        return as_input(images), labels

    def state_dict(self):
        return {"source": self.source.get_state(), "order": self.order, "at": self.at}

    def load_state_dict(self, state):
        self.source.set_state(state["source"])
        self.order, self.at = state["order"], state["at"]

"""Fashion-MNIST and CIFAR-10 from their official files, and drawn pictures."""
import gzip
import lzma
import os
import pathlib

import numpy as np
import torch

import drawn


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


def fashion_mnist(folder, part):
    name = {"train": "train", "test": "t10k"}[part]
    images = read_idx(folder / f"{name}-images-idx3-ubyte")
    return images[:, None], read_idx(folder / f"{name}-labels-idx1-ubyte")


def cifar_10(folder, part):
    """Records of a label and 3 planes of 32x32. Of the five training batches those that are there."""
    paths = [folder / "test_batch.bin"]
    if part == "train":
        numbered = [folder / f"data_batch_{i}.bin" for i in range(1, 6)]
        paths = [p for p in numbered if list(folder.glob(f"{p.name}*"))] or numbered
    records = np.concatenate([np.frombuffer(read_file(p), np.uint8).reshape(-1, 3073) for p in paths])
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


SETS = {"fashion-mnist": fashion_mnist, "cifar-10": cifar_10, "drawn": drawn.attributes}
OUTPUTS = {"fashion-mnist": 10, "cifar-10": 10, "drawn": len(drawn.ATTRIBUTES)}  # classes, or attributes
# Pixels that a training image is moved by, at most, in each direction.
SHIFT = {"fashion-mnist": 0, "cifar-10": 4, "drawn": 2}


def load(name, part, data):
    """Images, bytes [n][channels][height][width], and labels: the class of each, or, as floats, 0 or 1 for each of its
    attributes. `data` holds the set's folder, or `datasets` with it."""
    roots = [pathlib.Path(data), pathlib.Path(data) / "datasets"]
    folder = next((root / name for root in roots if (root / name).is_dir()), roots[0] / name)
    images, labels = SETS[name](folder, part)
    labels = torch.from_numpy(labels.astype(np.float32 if labels.ndim == 2 else np.int64))
    return torch.from_numpy(images.copy()), labels


def loss(outputs, labels):
    several = labels.dim() == 2
    return (torch.nn.functional.binary_cross_entropy_with_logits if several
            else torch.nn.functional.cross_entropy)(outputs, labels)


def right(outputs, labels):
    """How many images are classified right, or how many attributes are."""
    if labels.dim() == 2:
        return int(((outputs > 0) == (labels > 0)).sum())
    return int((outputs.argmax(1) == labels).sum())


def answers(labels):
    """How many can be right."""
    return labels.numel()


def add_argument(parser):
    parser.add_argument("--data", default=os.environ.get("PO2QUANT_DATA_DIR"),
                        help="the folder of the data sets' folders; else $PO2QUANT_DATA_DIR")


def to_floats(images):
    """Bytes to [-1, 1): the int8 codes of the network's input times 2^-7, exactly."""
    return (images.float() - 128) / 128


def augmented(images, shift, source):
    """Mirrored half of the times, and moved by up to `shift` pixels; what is moved in is grey."""
    n, _, height, width = images.shape
    mirrored = torch.rand(n, generator=source) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if shift == 0:
        return images
    padded = torch.nn.functional.pad(images, (shift,) * 4, value=128)
    at = torch.randint(2 * shift + 1, (n, 2), generator=source).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, at)])

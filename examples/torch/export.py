#!/usr/bin/env python3
"""A network that train.py has fine-tuned, in the format that run_network reads, with goldens of the whole test set.

    python examples/torch/export.py --data DIR --from OUT --run "cifar-10 mobilenet_v1_025 tqt 8 0" --to DIR

OUT is train.py's --out, and the run one of its names. Then

    run_network DIR --golden

computes every test image by integers and compares: the outputs of all of them, and every layer of the first 16, with
those of the fake-quantized PyTorch network, bit for bit.
"""
import argparse
import hashlib
import json
import pathlib
import sys

import numpy as np
import torch
from torch import nn

import data as datasets
from functions import ops
from layers import BIAS_BITS, IMAGE_EXPONENT, Conv2d, quantized_bias
from networks import NETWORKS, Residual, Ssd
from train import checkpoint_of, scheme_of

WHOLE_LAYERS = 16  # images of which every layer is compared


def codes_of(values, exponents, dtype):
    """Integers that stand for values on a grid; exponents count along the first axis, or there is one."""
    scales = torch.exp2(-torch.as_tensor(exponents, dtype=torch.float64).reshape(-1, *[1] * (values.dim() - 1)))
    codes = values.double() * scales
    whole = codes.round()
    if not torch.equal(codes, whole):
        raise SystemExit("values that are not on their grid")
    return whole.numpy().astype(dtype)


def hwio(weights):
    return weights.transpose(2, 3, 1, 0)


class Writer:
    """Collects ops, writes their arrays."""

    def __init__(self, folder, name, shape):
        self.folder, self.ops = folder, []
        self.modules, self.grids = {}, {}  # by op: whose output its result is; its exponent, None for floats, and type
        self.of_all = []  # ops whose results are compared of all images
        self.model = {"format": "po2net", "version": 1, "name": name,
                      "input": {"name": "image", "shape": [1, *shape], "exponent": IMAGE_EXPONENT, "bits": 8}}

    def save(self, name, array):
        np.save(self.folder / name, array)
        return name

    def add(self, name, op, inputs, module=None, exponent=None, wide=False, **fields):
        fields["output_exponent"] = None if wide else exponent
        self.ops.append({"name": name, "op": op, "inputs": inputs} | fields)
        self.grids[name] = exponent, np.int16 if wide else np.int8
        if module is not None:
            self.modules[name] = module
        return name

    def weights(self, name, bits, values, exponents, layout="HWIO", arranged=hwio):
        """`arranged` brings [outputs][inputs][height][width] into the layout."""
        array = np.ascontiguousarray(arranged(codes_of(values, exponents, np.int8)))
        exponents = [int(e) for e in exponents.reshape(-1)]
        return {"layout": layout, "shape": list(array.shape), "bits": bits,
                "exponent": exponents[0] if len(exponents) == 1 else exponents,
                "int": self.save(f"{name}.weights.npy", array)}

    def bias(self, name, values, deployed):
        exponent = int(ops.exponents_for(ops.observe(values), BIAS_BITS))
        return {"quantized": True, "bits": BIAS_BITS, "exponent": exponent,
                "int": self.save(f"{name}.bias.npy", codes_of(deployed, exponent, np.int16))}

    def conv(self, name, layer, source):
        conv = layer.conv
        depthwise = conv.groups > 1
        pad = conv.padding[0]
        layout = ("HWC", lambda w: w[:, 0].transpose(1, 2, 0)) if depthwise else ()
        w, b, exponents = layer.deployed()
        clamp = {nn.ReLU6: "relu6", nn.ReLU: "relu", nn.Identity: "none"}[type(layer.activation)]
        return self.add(name, "depthwise_conv2d" if depthwise else "conv2d", [source], layer, layer.output.exponent(),
                        kernel=list(conv.kernel_size), stride=list(conv.stride), pad=[pad] * 4, cin=conv.in_channels,
                        cout=conv.out_channels, activation=clamp,
                        weights=self.weights(name, layer.weight.bits, w, exponents, *layout),
                        bias=self.bias(name, layer.offset(), b))

    def residual(self, name, block, source):
        first = self.conv(f"{name}.first", block.first, source)
        second = self.conv(f"{name}.second", block.second, first)
        if isinstance(block.shortcut, Conv2d):
            source = self.conv(f"{name}.shortcut", block.shortcut, source)
        return self.add(f"{name}.join", "add", [second, source], block.join, block.join.output.exponent(),
                        activation="relu")

    def sequence(self, name, layers, source, first=0):
        for i, layer in enumerate(layers, first):
            source = (self.residual if isinstance(layer, Residual) else self.conv)(f"{name}.{i}", layer, source)
        return source

    def pointwise(self, name, quantizer, quantized, bias, source, **where):
        """A 1x1 convolution with a bias instead of a norm; `quantized` are its weights, its bias and its exponents."""
        w, b, exponents = quantized
        return self.add(name, "conv2d", [source], kernel=[1, 1], cin=w.shape[1], cout=w.shape[0],
                        weights=self.weights(name, quantizer.bits, w, exponents), bias=self.bias(name, bias, b),
                        **where)

    def classifier(self, network):
        value = self.sequence("features", network.features, "image")
        shapes = []
        hook = network.pool.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape[2:]))
        height, width, channels = self.model["input"]["shape"][1:]
        network(torch.zeros(1, channels, height, width).contiguous(memory_format=torch.channels_last))
        hook.remove()
        value = self.add("pool", "avg_pool2d", [value], network.pool, network.pool.output.exponent(),
                         kernel=list(shapes[0]))
        last = network.classifier
        w, exponents = last.quantizer(last.weight[:, :, None, None])
        self.pointwise("classes", last.quantizer, (w, quantized_bias(last.bias), exponents), last.bias, value,
                       module=last)
        self.of_all = ["classes"]
        return ["classes"]

    def together(self, name, module, parts, width):
        """Rows of all parts; on the finest grid and int16 where they have several."""
        exponents = [self.grids[part][0] for part, _ in parts]
        rows = [self.add(f"{part}.rows", "reshape", [part], exponent=exponent, output_shape=[1, count, width])
                for (part, count), exponent in zip(parts, exponents)]
        return self.add(name, "concat", rows, module, min(exponents), len(set(exponents)) > 1, axis=1)

    def detector(self, network, task):
        taps = network.taps
        eighth = self.sequence("features", network.features[:taps], "image")
        sixteenth = self.sequence("features", network.features[taps:], eighth, taps)
        codes, scores = [], []
        for i, value in enumerate((eighth, sixteenth, self.sequence("extra", network.extra, sixteenth))):
            anchors = task.rule.grids[i] ** 2 * task.rule.anchors_per_cell
            tower = self.conv(f"towers.{i}", network.towers[i], value)
            for name, predictors, parts in (("codes", network.codes, codes), ("scores", network.scores, scores)):
                of = predictors[i]
                parts.append((self.pointwise(f"{name}.{i}", of.weight, of.deployed(), of.conv.bias, tower, module=of,
                                             exponent=of.output.exponent()), anchors))
        self.together("codes", network.all_codes, codes, 4)
        self.together("logits", network.all_scores, scores, network.labels)
        self.add("scores", "sigmoid", ["logits"])
        self.of_all = ["codes", "logits"]
        return ["codes", "scores"]

    def network(self, network, task):
        outputs = self.detector(network, task) if isinstance(network, Ssd) else self.classifier(network)
        self.model |= {"ops": self.ops, "outputs": outputs}
        (self.folder / "model.json").write_text(json.dumps(self.model, indent=1), encoding="utf-8")
        (self.folder / "task.json").write_text(json.dumps(task.description(), indent=1), encoding="utf-8")

    def content(self, name, value):
        """One image's result as the integer network has it."""
        exponent, dtype = self.grids[name]
        if exponent is None:
            return value.numpy()
        codes = codes_of(value[None], exponent, dtype)[0]
        return np.ascontiguousarray(codes.transpose(1, 2, 0) if codes.ndim == 3 else codes)

    def goldens(self, network, task, images, labels):
        """Digests of every layer of the first images, and of the outputs of all. Returns what the answers are worth."""
        folder = self.folder / "goldens"
        folder.mkdir(exist_ok=True)
        inputs = images.numpy().astype(np.int16).transpose(0, 2, 3, 1) - 128
        np.save(folder / "input_i8.npy", np.ascontiguousarray(inputs.astype(np.int8)))
        seen = {}
        hooks = [module.register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
                 for name, module in self.modules.items()]
        classes = [{"label": int(label)} for label in labels] if task.kind == "classes" else [{}] * len(images)
        named = [{"name": str(i)} | label for i, label in enumerate(classes)]
        digests, answers = {}, []
        for first in range(0, len(images), 500):
            outputs = network(datasets.as_input(images[first : first + 500]))
            answers += task.answers(outputs)
            for i in range(first, min(first + 500, len(images))):
                names = seen if i < WHOLE_LAYERS else self.of_all
                digests[str(i)] = {name: hashlib.sha256(self.content(name, seen[name][i - first]).tobytes()).hexdigest()
                                   for name in names}
            if first == 0 and task.kind == "boxes":
                floats = torch.sigmoid(outputs[1][:WHOLE_LAYERS].double()).float().numpy()
                np.save(folder / "graph_f32_int8_input.scores.npy", floats)
        for hook in hooks:
            hook.remove()
        goldens = {"images": named, "input_exponent": IMAGE_EXPONENT, "sha256": digests}
        (folder / "goldens.json").write_text(json.dumps(goldens), encoding="utf-8")
        return task.metrics(answers, labels)


@torch.no_grad()
def export(network, task, pictures, folder, name):
    """Writes the fake-quantized network, its task, and goldens of the pictures. Returns what its answers are worth."""
    network.eval()
    images, labels = pictures
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(folder, name, (images.shape[2], images.shape[3], images.shape[1]))
    writer.network(network, task)
    return writer.goldens(network, task, images, labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    datasets.add_argument(parser)
    parser.add_argument("--from", dest="trained", required=True, type=pathlib.Path, help="train.py's --out")
    parser.add_argument("--run", required=True, help="data, network, method, bits of weights, seed")
    parser.add_argument("--to", required=True, type=pathlib.Path, help="the folder to write")
    options = parser.parse_args()
    fields = options.run.split()
    if len(fields) < 5 or fields[1] not in NETWORKS or fields[0] not in datasets.SETS:
        parser.error(f"--run: {options.run!r} is not 'DATA NETWORK METHOD BITS SEED'")
    run = {"data": fields[0], "network": fields[1], "method": " ".join(fields[2:-2]), "weights": int(fields[-2]),
           "seed": fields[-1]}
    path = checkpoint_of(run, options.trained)
    if not path.exists():
        raise SystemExit(f"{path}: no such file; train.py writes it at the end of the run")
    data = datasets.load(run["data"], options.data)
    network = NETWORKS[run["network"]](data.test[0].shape[1], len(data.task.names),
                                       scheme_of(run))
    network.load_state_dict(torch.load(path))
    network.to(memory_format=torch.channels_last)
    metrics = export(network, data.task, data.test, options.to, options.run.replace(" ", "-"))
    print(f"{options.run}: fake-quantized, {metrics['right']} of {metrics['answers']} right; written to {options.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

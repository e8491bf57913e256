#!/usr/bin/env python3
"""A network that train.py has fine-tuned, in the format that run_network reads, with goldens of the whole test set.

    python examples/torch/export.py --data DIR --from OUT --run "cifar-10 mobilenet_v1_025 tqt 8 0" --to DIR

OUT is train.py's --out, and the run one of its names. Then

    run_network DIR --golden

computes every test image by integers and compares: the classes' sums of all of them, and every layer of the first 16, with
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
import drawn
from functions import ops
from layers import BIAS_BITS, Conv2d, Scheme, quantized_bias
from networks import NETWORKS, Residual
from train import as_input, checkpoint_of

WHOLE_LAYERS = 16  # images of which every layer is compared
INPUT_EXPONENT = -7


def exponents_of(quantizer, weights):
    if quantizer.log2_t is not None:
        return ops.tqt_exponents(quantizer.log2_t.detach(), quantizer.bits)
    return ops.exponents_for(ops.observe(weights, quantizer.axis), quantizer.bits)


def output_exponent(quantizer):
    if quantizer.log2_t is not None:
        return int(ops.tqt_exponents(quantizer.log2_t.detach(), 8))
    return int(ops.exponents_for(ops.ema_range_current(quantizer.range)))


def codes_of(values, exponents, dtype):
    """Integers that stand for values on a grid; exponents count along the first axis, or there is one."""
    scales = torch.exp2(-torch.as_tensor(exponents, dtype=torch.float64).reshape(-1, *[1] * (values.dim() - 1)))
    codes = values.double() * scales
    whole = codes.round()
    if not torch.equal(codes, whole):
        raise SystemExit("values that are not on their grid")
    return whole.numpy().astype(dtype)


class Writer:
    """Collects ops, writes their arrays."""

    def __init__(self, folder, name, shape):
        self.folder, self.ops, self.modules = folder, [], {}
        self.model = {"format": "po2net", "version": 1, "name": name,
                      "input": {"name": "image", "shape": [1, *shape], "exponent": INPUT_EXPONENT, "bits": 8}}

    def save(self, name, array):
        np.save(self.folder / name, array)
        return name

    def add(self, module, **op):
        """`module` is the one whose output the op's result is."""
        self.ops.append(op)
        self.modules[op["name"]] = module
        return op["name"]

    def weights(self, name, quantizer, values, layout, arranged):
        """`arranged` brings [outputs][inputs][height][width] into the layout."""
        exponents = exponents_of(quantizer, values)
        array = np.ascontiguousarray(arranged(codes_of(quantizer(values), exponents, np.int8)))
        exponents = [int(e) for e in exponents.reshape(-1)]
        return {"layout": layout, "shape": list(array.shape), "bits": quantizer.bits,
                "exponent": exponents[0] if len(exponents) == 1 else exponents,
                "int": self.save(f"{name}.weights.npy", array)}

    def bias(self, name, values):
        exponent = int(ops.exponents_for(ops.observe(values), BIAS_BITS))
        return {"quantized": True, "bits": BIAS_BITS, "exponent": exponent,
                "int": self.save(f"{name}.bias.npy", codes_of(quantized_bias(values), exponent, np.int16))}

    def conv(self, name, layer, source):
        conv, norm = layer.conv, layer.norm
        depthwise = conv.groups > 1
        pad = conv.padding[0]
        folded = conv.weight * (norm.weight / layer.moving_sigma())[:, None, None, None]
        layout, arranged = (("HWC", lambda w: w[:, 0].transpose(1, 2, 0)) if depthwise
                            else ("HWIO", lambda w: w.transpose(2, 3, 1, 0)))
        clamp = {nn.ReLU6: "relu6", nn.ReLU: "relu", nn.Identity: "none"}[type(layer.activation)]
        return self.add(layer, name=name, op="depthwise_conv2d" if depthwise else "conv2d", inputs=[source],
                        kernel=list(conv.kernel_size), stride=list(conv.stride), pad=[pad] * 4, cin=conv.in_channels,
                        cout=conv.out_channels, activation=clamp,
                        weights=self.weights(name, layer.weight, folded, layout, arranged),
                        bias=self.bias(name, norm.bias - norm.running_mean * norm.weight / layer.moving_sigma()),
                        output_exponent=output_exponent(layer.output))

    def residual(self, name, block, source):
        first = self.conv(f"{name}.first", block.first, source)
        second = self.conv(f"{name}.second", block.second, first)
        if isinstance(block.shortcut, Conv2d):
            source = self.conv(f"{name}.shortcut", block.shortcut, source)
        return self.add(block.join, name=f"{name}.join", op="add", inputs=[second, source], activation="relu",
                        output_exponent=output_exponent(block.join.output))

    def pool(self, pool, source, size):
        return self.add(pool, name="pool", op="avg_pool2d", inputs=[source], kernel=[size, size],
                        output_exponent=output_exponent(pool.output))

    def linear(self, layer, source):
        return self.add(layer, name="classes", op="conv2d", inputs=[source], kernel=[1, 1], cin=layer.in_features,
                        cout=layer.out_features,
                        weights=self.weights("classes", layer.quantizer, layer.weight, "HWIO", lambda w: w.T[None, None]),
                        bias=self.bias("classes", layer.bias), output_exponent=None)

    def finish(self):
        self.model |= {"ops": self.ops, "outputs": [self.ops[-1]["name"]]}
        (self.folder / "model.json").write_text(json.dumps(self.model, indent=1), encoding="utf-8")


def write_network(network, writer):
    value = "image"
    for i, layer in enumerate(network.features):
        value = (writer.residual if isinstance(layer, Residual) else writer.conv)(f"features.{i}", layer, value)
    spatial = {}
    hook = network.pool.register_forward_hook(lambda _, inputs, __: spatial.update(size=inputs[0].shape[2]))
    height, width, channels = writer.model["input"]["shape"][1:]
    network(torch.zeros(1, channels, height, width).contiguous(memory_format=torch.channels_last))
    hook.remove()
    value = writer.pool(network.pool, value, spatial["size"])
    writer.linear(network.classifier, value)
    writer.finish()


def write_goldens(network, writer, images, labels):
    """Digests of every layer of the first images, and of the sums of all."""
    folder = writer.folder / "goldens"
    folder.mkdir(exist_ok=True)
    inputs = images.numpy().astype(np.int16).transpose(0, 2, 3, 1) - 128
    np.save(folder / "input_i8.npy", np.ascontiguousarray(inputs.astype(np.int8)))
    seen = {}
    hooks = [module.register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
             for name, module in writer.modules.items()]
    exponents = {op["name"]: op["output_exponent"] for op in writer.ops}
    several = labels.dim() == 2
    goldens = {"images": [{"name": str(i)} if several else {"name": str(i), "label": int(label)}
                          for i, label in enumerate(labels)],
               "input_exponent": INPUT_EXPONENT, "sha256": {}}
    right = 0
    for first in range(0, len(images), 500):
        y = network(as_input(images[first:first + 500]))
        right += datasets.right(y, labels[first:first + 500])
        for i in range(len(y)):
            digests = goldens["sha256"][str(first + i)] = {}
            for name, value in seen.items():
                if exponents[name] is None:
                    content = value[i].numpy()
                elif first + i < WHOLE_LAYERS:
                    content = codes_of(value[i], exponents[name], np.int8)
                    content = np.ascontiguousarray(content.transpose(1, 2, 0) if content.ndim == 3 else content)
                else:
                    continue
                digests[name] = hashlib.sha256(content.tobytes()).hexdigest()
    for hook in hooks:
        hook.remove()
    (folder / "goldens.json").write_text(json.dumps(goldens), encoding="utf-8")
    return right


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    datasets.add_argument(parser)
    parser.add_argument("--from", dest="trained", required=True, type=pathlib.Path, help="train.py's --out")
    parser.add_argument("--run", required=True, help="data, network, method, bits of weights, seed")
    parser.add_argument("--to", required=True, type=pathlib.Path, help="the folder to write")
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data or $PO2QUANT_DATA_DIR must say where the data sets are")
    fields = options.run.split()
    if len(fields) != 5 or fields[1] not in NETWORKS or fields[0] not in datasets.SETS:
        parser.error(f"--run: {options.run!r} is not 'DATA NETWORK METHOD BITS SEED'")
    run = dict(zip(("data", "network", "method", "weights", "seed"), fields)) | {"weights": int(fields[3])}
    path = checkpoint_of(run, options.trained)
    if not path.exists():
        raise SystemExit(f"{path}: no such file; train.py writes it at the end of the run")
    images, labels = datasets.load(run["data"], "test", options.data)
    network = NETWORKS[run["network"]](images.shape[1], datasets.OUTPUTS[run["data"]],
                                       Scheme(weight_bits=run["weights"], trained=run["method"] == "tqt"))
    network.load_state_dict(torch.load(path))
    network.eval().to(memory_format=torch.channels_last)
    options.to.mkdir(parents=True, exist_ok=True)
    writer = Writer(options.to, options.run.replace(" ", "-"), (images.shape[2], images.shape[3], images.shape[1]))
    write_network(network, writer)
    right = write_goldens(network, writer, images, labels)
    if labels.dim() == 2:
        task = {"task": "attributes", "labels": drawn.ATTRIBUTES}
        (options.to / "task.json").write_text(json.dumps(task), encoding="utf-8")
    print(f"{options.run}: fake-quantized, {right} of {datasets.answers(labels)} right; written to {options.to}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

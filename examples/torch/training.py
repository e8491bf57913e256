"""Training, step by step: recipes, optimizers, what rests when, and the test."""
import dataclasses
import math
import os

import torch

import data as datasets
from layers import OutputQuantizer, freeze_norms, freeze_ranges, off_grid

FLOAT_RATE, TUNING_RATE = 0.1, 0.001
FLOAT_RISES, TUNING_RISES = 0.1, 0.02  # shares of the steps in which the rate rises
DAMPING_STARTS = 0.6  # the share of the steps
NORMS_REST, RANGES_REST = 0.25, 0.8  # the shares of fine-tuning from which norms, and ranges and thresholds, are frozen


@dataclasses.dataclass(frozen=True)
class Recipe:
    epochs: int  # in float32
    tuning_epochs: int
    batch: int = 128
    rate: float = FLOAT_RATE


# The first one of a data set has its default network.
RECIPES = {("fashion-mnist", "mobilenet_v1_025"): Recipe(5, 2), ("cifar-10", "mobilenet_v1_025"): Recipe(30, 6),
           ("fashion-mnist", "resnet_8"): Recipe(5, 2), ("cifar-10", "resnet_8"): Recipe(10, 4),
           ("drawn", "resnet_8"): Recipe(12, 4), ("drawn-boxes", "ssd_mobilenet_v1_025"): Recipe(20, 1, 32, 0.05)}


def cycle(steps, rises):
    """Shares of a rate: up in a line for the share `rises` of the steps, then down by a cosine."""
    top = rises * steps
    return lambda step: (step + 1) / top if step < top else 0.5 + 0.5 * math.cos(math.pi * (step - top) / (steps - top))


def optimizers_of(network, rate, steps, rises, batch):
    """Optimizers and their schedules: of weights, and, as TQT published it, of thresholds if there are any."""
    parameters = dict(network.named_parameters())
    thresholds = [p for name, p in parameters.items() if name.endswith("log2_t")]
    weights = [p for name, p in parameters.items() if not name.endswith("log2_t")]
    optimizer = torch.optim.SGD(weights, rate, 0.9, weight_decay=5e-4, nesterov=True)
    optimizers = [(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, cycle(steps, rises)))]
    if thresholds:
        optimizer = torch.optim.Adam(thresholds, 1e-2)
        optimizers.append((optimizer, torch.optim.lr_scheduler.StepLR(optimizer, round(1000 * 24 / batch), 0.5)))
    return optimizers


class Training:
    """A cycle of SGD over `steps` batches. With `tuning`, norms, ranges and thresholds rest from their shares of it on.
    The loss has off_grid added, from the share DAMPING_STARTS on and with a factor that then grows in a line from 0 to
    `damping`. Saved after any step and loaded by another program it goes on with the same bits."""

    def __init__(self, network, batches, steps, rate, tuning=False, norms_rest=NORMS_REST, ranges_rest=RANGES_REST,
                 damping=0.0):
        self.network, self.batches, self.steps, self.tuning = network, batches, steps, tuning
        self.norms_rest, self.ranges_rest, self.damping = norms_rest, ranges_rest, damping
        self.optimizers = optimizers_of(network, rate, steps, TUNING_RISES if tuning else FLOAT_RISES, batches.size)
        self.losses, self.rates = [], []  # of the steps done

    @property
    def done(self):
        return len(self.losses)

    def step(self):
        network = self.network.train()
        if self.tuning and self.done >= self.norms_rest * self.steps:
            freeze_norms(network)
        if self.tuning and self.done >= self.ranges_rest * self.steps:
            freeze_ranges(network)
        self.rates.append(self.optimizers[0][0].param_groups[0]["lr"])
        images, labels = next(self.batches)
        network.zero_grad()
        loss = self.batches.data.task.loss(network(images), labels)
        damping = self.damping * (self.done / self.steps - DAMPING_STARTS) / (1 - DAMPING_STARTS)
        (loss + damping * off_grid(network) if damping > 0 else loss).backward()
        for optimizer, schedule in self.optimizers:
            optimizer.step()
            schedule.step()
        self.losses.append(loss.item())

    def last_loss(self):
        """The mean of the last tenth of the steps."""
        last = self.losses[int(0.9 * self.steps) :]
        return math.fsum(last) / len(last)

    def state_dict(self):
        return {"network": self.network.state_dict(), "batches": self.batches.state_dict(),
                "optimizers": [part.state_dict() for pair in self.optimizers for part in pair],
                "random": torch.get_rng_state(), "losses": self.losses, "rates": self.rates}

    def load_state_dict(self, state):
        self.network.load_state_dict(state["network"])
        self.batches.load_state_dict(state["batches"])
        for part, saved in zip((part for pair in self.optimizers for part in pair), state["optimizers"]):
            part.load_state_dict(saved)
        torch.set_rng_state(state["random"])
        self.losses, self.rates = list(state["losses"]), list(state["rates"])


@torch.no_grad()
def calibrate(network, batches, steps):
    """Watches ranges as they are behind norms of moving averages."""
    network.train()
    freeze_norms(network)
    for _ in range(steps):
        network(next(batches)[0])
    freeze_norms(network, False)


@torch.no_grad()
def tested(network, task, pictures):
    """What the network answers of test pictures is worth."""
    network.eval()
    answers = []
    for images in pictures[0].split(500):
        answers += task.answers(network(datasets.as_input(images)))
    return task.metrics(answers, pictures[1])


def exponents_of_outputs(network):
    """Exponents of the outputs' grids by layer."""
    return {name: module.exponent() for name, module in network.named_modules()
            if isinstance(module, OutputQuantizer) and module.quantizing}


def save(content, path):
    """The file has its old content or, all of it, the new one, whenever the program or the machine ends."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    with open(unfinished, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)

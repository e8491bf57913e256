"""The networks. Without a scheme they are float32; names of weights do not depend on it."""
import torch
from torch import nn

from layers import Conv2d, GlobalAveragePool, Join, Linear, Predictor

FIRST_AND_LAST_BITS = 8  # of weights; what is between has the scheme's


def mobilenet_features(channels, scheme):
    """The layers of MobileNetV1 of a quarter of the channels, up to 256; of its five strides of 2 the stem's and three
    more are left."""
    blocks = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1),
              (256, 2), (256, 1))
    layers = [Conv2d(channels, 8, 3, 2, activation=nn.ReLU6(), scheme=scheme, bits=FIRST_AND_LAST_BITS)]
    width = 8
    for outputs, stride in blocks:
        layers.append(Conv2d(width, width, 3, stride, True, nn.ReLU6(), scheme, source=layers[-1].output))
        layers.append(Conv2d(width, outputs, activation=nn.ReLU6(), scheme=scheme, source=layers[-1].output))
        width = outputs
    return nn.Sequential(*layers)


class MobileNetV1(nn.Module):
    """For images of 28 or 32 pixels, of which 2x2 reach the pool."""

    def __init__(self, channels, classes, scheme=None):
        super().__init__()
        self.features = mobilenet_features(channels, scheme)
        self.pool = GlobalAveragePool(scheme)
        self.classifier = Linear(256, classes, scheme, FIRST_AND_LAST_BITS, scheme and self.pool.output)

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs, outputs, stride, scheme=None, source=None):
        super().__init__()
        self.first = Conv2d(inputs, outputs, 3, stride, activation=nn.ReLU(), scheme=scheme, source=source)
        self.second = Conv2d(outputs, outputs, 3, scheme=scheme, source=self.first.output)
        changes = stride != 1 or inputs != outputs
        self.shortcut = (Conv2d(inputs, outputs, 1, stride, scheme=scheme, source=source) if changes
                         else nn.Identity())
        self.join = Join(scheme)

    @property
    def output(self):
        return self.join.output

    def forward(self, x):
        return self.join(self.second(self.first(x)), self.shortcut(x))


class ResNet8(nn.Module):
    """A stem of 3x3 and one residual block each of 16, 32 and 64 channels; the last two halve the image."""

    def __init__(self, channels, classes, scheme=None):
        super().__init__()
        layers = [Conv2d(channels, 16, 3, activation=nn.ReLU(), scheme=scheme, bits=FIRST_AND_LAST_BITS)]
        for inputs, outputs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
            layers.append(Residual(inputs, outputs, stride, scheme, layers[-1].output))
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool(scheme)
        self.classifier = Linear(64, classes, scheme, FIRST_AND_LAST_BITS, scheme and self.pool.output)

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)))


class Together(nn.Module):
    """Predictions of all layers, [images][channels][rows][columns] each, as [images][anchors][per anchor]."""

    def forward(self, parts, per_anchor):
        return torch.cat([part.permute(0, 2, 3, 1).flatten(1) for part in parts], 1).unflatten(1, (-1, per_anchor))


class Ssd(nn.Module):
    """Boxes and scores from MobileNetV1's last layers of an eighth and a sixteenth of the side, and from one of half as
    much behind them. Outputs are codes [images][anchors][4] and scores [images][anchors][labels] before the sigmoid."""

    STRIDES = (8, 16, 32)

    def __init__(self, channels, labels, scheme=None, anchors_per_cell=4):
        super().__init__()
        self.labels = labels
        self.features = mobilenet_features(channels, scheme)
        narrow = Conv2d(256, 64, activation=nn.ReLU6(), scheme=scheme, source=self.features[-1].output)
        self.extra = nn.Sequential(narrow, Conv2d(64, 128, 3, 2, activation=nn.ReLU6(), scheme=scheme,
                                                  source=narrow.output))
        maps = ((128, self.features[self.taps - 1]), (256, self.features[-1]), (128, self.extra[-1]))
        self.towers = nn.ModuleList([Conv2d(width, 64, activation=nn.ReLU6(), scheme=scheme, source=layer.output)
                                     for width, layer in maps])

        def predictors(per_anchor):
            return nn.ModuleList([Predictor(64, per_anchor * anchors_per_cell, scheme, FIRST_AND_LAST_BITS,
                                            tower.output) for tower in self.towers])

        self.codes, self.scores = predictors(4), predictors(labels)
        self.all_codes, self.all_scores = Together(), Together()
        with torch.no_grad():  # scores start near the background's: few anchors answer for a box
            for predictor in self.scores:
                predictor.conv.bias.view(-1, labels).copy_(torch.tensor([2.0] + [-2.0] * (labels - 1)))

    @property
    def taps(self):
        """How many of the features are before the first map."""
        return len(self.features) - 4

    def forward(self, x):
        eighth = self.features[: self.taps](x)
        sixteenth = self.features[self.taps :](eighth)
        maps = [tower(x) for tower, x in zip(self.towers, (eighth, sixteenth, self.extra(sixteenth)))]
        return (self.all_codes([predict(x) for predict, x in zip(self.codes, maps)], 4),
                self.all_scores([predict(x) for predict, x in zip(self.scores, maps)], self.labels))


NETWORKS = {"mobilenet_v1_025": MobileNetV1, "resnet_8": ResNet8}
DETECTORS = {"ssd_mobilenet_v1_025": Ssd}

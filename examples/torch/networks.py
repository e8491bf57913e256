"""The networks. Without a scheme they are float32; names of weights do not depend on it."""
from torch import nn

from layers import Conv2d, GlobalAveragePool, Join, Linear

FIRST_AND_LAST_BITS = 8  # of weights; what is between has the scheme's


class MobileNetV1(nn.Module):
    """MobileNetV1 of a quarter of the channels for images of 28 or 32 pixels: of its five strides of 2 the stem's and
    three more are left, so that 2x2 pixels reach the pool."""

    def __init__(self, channels, classes, scheme=None):
        super().__init__()
        blocks = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 1), (128, 1), (128, 1), (128, 1), (128, 1),
                  (128, 1), (256, 2), (256, 1))
        layers = [Conv2d(channels, 8, 3, 2, activation=nn.ReLU6(), scheme=scheme, bits=FIRST_AND_LAST_BITS)]
        width = 8
        for outputs, stride in blocks:
            layers.append(Conv2d(width, width, 3, stride, True, nn.ReLU6(), scheme))
            layers.append(Conv2d(width, outputs, activation=nn.ReLU6(), scheme=scheme))
            width = outputs
        self.features = nn.Sequential(*layers)
        self.pool = GlobalAveragePool(scheme)
        self.classifier = Linear(width, classes, scheme, FIRST_AND_LAST_BITS, scheme and self.pool.output)

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs, outputs, stride, scheme=None):
        super().__init__()
        self.first = Conv2d(inputs, outputs, 3, stride, activation=nn.ReLU(), scheme=scheme)
        self.second = Conv2d(outputs, outputs, 3, scheme=scheme)
        changes = stride != 1 or inputs != outputs
        self.shortcut = Conv2d(inputs, outputs, 1, stride, scheme=scheme) if changes else nn.Identity()
        self.join = Join(scheme)

    def forward(self, x):
        return self.join(self.second(self.first(x)), self.shortcut(x))


class ResNet8(nn.Module):
    """A stem of 3x3 and one residual block each of 16, 32 and 64 channels; the last two halve the image."""

    def __init__(self, channels, classes, scheme=None):
        super().__init__()
        self.features = nn.Sequential(
            Conv2d(channels, 16, 3, activation=nn.ReLU(), scheme=scheme, bits=FIRST_AND_LAST_BITS),
            Residual(16, 16, 1, scheme), Residual(16, 32, 2, scheme), Residual(32, 64, 2, scheme))
        self.pool = GlobalAveragePool(scheme)
        self.classifier = Linear(64, classes, scheme, FIRST_AND_LAST_BITS, scheme and self.pool.output)

    def forward(self, x):
        return self.classifier(self.pool(self.features(x)))


NETWORKS = {"mobilenet_v1_025": MobileNetV1, "resnet_8": ResNet8}

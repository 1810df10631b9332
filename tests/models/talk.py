"""The talk's network, in PyTorch as its slides have it."""

from collections.abc import Sequence

import torch
from torch import nn


class Block(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        identity_downsample: nn.Module | None = None,
        stride: int = 1,
    ):
        super().__init__()
        self.expansion = 4
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=1, padding=0)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, stride=stride, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv3 = nn.Conv2d(
            out_channels, out_channels * self.expansion, kernel_size=1, stride=1, padding=0
        )
        self.bn3 = nn.BatchNorm2d(out_channels * self.expansion)
        self.relu = nn.ReLU()
        self.identity_downsample = identity_downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        if self.identity_downsample is not None:
            identity = self.identity_downsample(identity)
        x += identity
        return self.relu(x)


class TalkResNet(nn.Module):
    """Its ResNet: by default with 64 channels in the first stage, here also with fewer."""

    def __init__(
        self, layers: Sequence[int], image_channels: int, num_classes: int, channels: int = 64
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(image_channels, channels, kernel_size=7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.in_channels = channels
        self.layer1 = self._make_layer(layers[0], out_channels=channels, stride=1)
        self.layer2 = self._make_layer(layers[1], out_channels=channels * 2, stride=2)
        self.layer3 = self._make_layer(layers[2], out_channels=channels * 4, stride=2)
        self.layer4 = self._make_layer(layers[3], out_channels=channels * 8, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels * 8 * 4, num_classes)

    def _make_layer(self, num_blocks: int, out_channels: int, stride: int) -> nn.Sequential:
        """Its slide is missing; the shapes that the talk lists say what it made."""
        identity_downsample = nn.Sequential(
            nn.Conv2d(self.in_channels, out_channels * 4, kernel_size=1, stride=stride),
            nn.BatchNorm2d(out_channels * 4),
        )
        layers = [Block(self.in_channels, out_channels, identity_downsample, stride)]
        self.in_channels = out_channels * 4
        layers += [Block(self.in_channels, out_channels) for _ in range(num_blocks - 1)]
        return nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.avgpool(x)
        x = x.reshape(x.shape[0], -1)
        return self.fc(x)


def talk_resnet152(img_channels: int = 3, num_classes: int = 1000) -> TalkResNet:
    return TalkResNet([3, 8, 36, 3], img_channels, num_classes)

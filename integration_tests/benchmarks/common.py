"""The net and the data that the benchmarks of the packages together share."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from snn_layers import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d
from snn_neurons import LIFNode

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))
from digits import Digits, load_digits

__all__ = ["Digits", "load_digits", "make_net", "score"]


def make_net(size: int = 8, channels: int = 16) -> nn.Sequential:
    """Conv-BN-LIF-pool twice and a linear readout for images of ``size`` x ``size`` pixels."""
    torch.manual_seed(0)
    return nn.Sequential(
        Conv2d(1, channels, 3, padding=1, bias=False, step_mode="m"),
        BatchNorm2d(channels, step_mode="m"),
        LIFNode(step_mode="m"),
        MaxPool2d(2, step_mode="m"),
        Conv2d(channels, 2 * channels, 3, padding=1, bias=False, step_mode="m"),
        BatchNorm2d(2 * channels, step_mode="m"),
        LIFNode(step_mode="m"),
        MaxPool2d(2, step_mode="m"),
        Flatten(step_mode="m"),
        Linear(2 * channels * (size // 4) ** 2, 10, step_mode="m"),
    )


def score(net: nn.Module, x: Tensor, steps: int) -> Tensor:
    """Readout averaged over ``steps`` presentations, in float32."""
    y: Tensor = net(x.expand(steps, *x.shape))
    return y.float().mean(0)

"""Surrogates whose derivative is made of straight pieces."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snn_neurons.surrogates.base import ScaledSurrogate, Surrogate


@dataclass(frozen=True)
class PiecewiseQuadratic(ScaledSurrogate):
    """``alpha max(0, 1 - alpha |u|)``, of area 1: the derivative of a function of two parabolas.

    Esser et al., "Convolutional networks for fast, energy-efficient neuromorphic computing", PNAS 2016,
    arXiv:1603.08270.
    """

    alpha: float | Tensor = 1.0

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha * torch.relu(1 - self.alpha * u.abs())


@dataclass(frozen=True)
class Triangle(Surrogate):
    """``height max(0, 1 - |u| / width)``; a height below 1 damps the gradient through many steps.

    Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018,
    arXiv:1803.09574.
    """

    width: float | Tensor = 1.0
    height: float | Tensor = 0.3

    positive_fields: ClassVar[tuple[str, ...]] = ("width", "height")

    def derivative(self, u: Tensor) -> Tensor:
        return self.height * torch.relu(1 - u.abs() / self.width)


@dataclass(frozen=True)
class Rectangle(ScaledSurrogate):
    """``alpha`` where ``|u| < 1 / (2 alpha)``, else 0, of area 1.

    Wu et al., "Spatio-Temporal Backpropagation for Training High-Performance Spiking Neural Networks", 2018,
    arXiv:1706.02609.
    """

    alpha: float | Tensor = 1.0

    def derivative(self, u: Tensor) -> Tensor:
        return self.alpha * (self.alpha * u.abs() < 0.5).to(u.dtype)


@dataclass(frozen=True)
class LeakyReLU(Surrogate):
    """``slope`` where ``u >= 0``, else ``leak``."""

    leak: float | Tensor = 0.01
    slope: float | Tensor = 1.0

    def derivative(self, u: Tensor) -> Tensor:
        above = (u >= 0).to(u.dtype)
        return self.slope * above + self.leak * (1 - above)


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """1 everywhere.

    Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013, arXiv:1308.3432.
    """

    def derivative(self, u: Tensor) -> Tensor:
        return torch.ones_like(u)

"""Surrogates whose derivative is positive everywhere, or a sum of bells."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snn_neurons.surrogates.base import ScaledSurrogate, Surrogate


@dataclass(frozen=True)
class ATan(ScaledSurrogate):
    """``alpha / (2 (1 + (pi/2 alpha u)^2))``, of area 1.

    Fang et al., "Incorporating Learnable Membrane Time Constant...", ICCV 2021, arXiv:2007.05785.
    """

    alpha: float | Tensor = 2.0

    def derivative(self, u: Tensor) -> Tensor:
        z = (math.pi / 2 * self.alpha) * u
        return (self.alpha / 2) / (1 + z * z)


@dataclass(frozen=True)
class ArcTan(Surrogate):
    """``scale / (1 + (slope u)^2)``, of height and width set apart, as other libraries write it."""

    slope: float | Tensor = math.pi
    scale: float | Tensor = 1 / math.pi

    positive_fields: ClassVar[tuple[str, ...]] = ("slope", "scale")

    def derivative(self, u: Tensor) -> Tensor:
        z = self.slope * u
        return self.scale / (1 + z * z)


@dataclass(frozen=True)
class Sigmoid(ScaledSurrogate):
    """``alpha s (1 - s)`` with ``s = sigmoid(alpha u)``, of area 1."""

    alpha: float | Tensor = 4.0

    def derivative(self, u: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * u)
        return self.alpha * s * (1 - s)


@dataclass(frozen=True)
class FastSigmoid(ScaledSurrogate):
    """``alpha / (2 (1 + alpha |u|)^2)``, of area 1: the derivative of ``(1 + alpha u / (1 + alpha |u|)) / 2``."""

    alpha: float | Tensor = 2.0

    def derivative(self, u: Tensor) -> Tensor:
        z = 1 + self.alpha * u.abs()
        return (self.alpha / 2) / (z * z)


@dataclass(frozen=True)
class SuperSpike(Surrogate):
    """``1 / (1 + beta |u|)^2``, of height 1 whatever ``beta``.

    Zenke and Ganguli, "SuperSpike", Neural Computation 2018, arXiv:1705.11146.
    """

    beta: float | Tensor = 10.0

    positive_fields: ClassVar[tuple[str, ...]] = ("beta",)
    learnable_fields: ClassVar[tuple[str, ...]] = ("beta",)

    def derivative(self, u: Tensor) -> Tensor:
        z = 1 + self.beta * u.abs()
        return 1 / (z * z)

    def field_derivative(self, name: str, u: Tensor) -> Tensor:
        return -u * u.abs() * self.derivative(u)  # of u / (1 + beta |u|)


@dataclass(frozen=True)
class Erf(ScaledSurrogate):
    """``alpha / sqrt(pi) exp(-(alpha u)^2)``, of area 1: the derivative of ``(1 + erf(alpha u)) / 2``."""

    alpha: float | Tensor = 2.0

    def derivative(self, u: Tensor) -> Tensor:
        z = self.alpha * u
        return (self.alpha / math.sqrt(math.pi)) * torch.exp(-z * z)


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """``scale N(u; 0, sigma^2)`` with ``N`` the normal density."""

    sigma: float | Tensor = 0.5
    scale: float | Tensor = 1.0

    positive_fields: ClassVar[tuple[str, ...]] = ("sigma", "scale")

    def derivative(self, u: Tensor) -> Tensor:
        return self.scale * _normal(u, 0.0, self.sigma)


@dataclass(frozen=True)
class MultiGaussian(Surrogate):
    """``scale ((1 + h) N(u; 0, sigma^2) - h N(u; sigma, (s sigma)^2) - h N(u; -sigma, (s sigma)^2))``.

    Negative away from the threshold. Yin et al., "Accurate and efficient time-domain classification with adaptive
    spiking recurrent neural networks", Nature Machine Intelligence 2021, arXiv:2103.12593.
    """

    sigma: float | Tensor = 0.5
    h: float | Tensor = 0.15
    s: float | Tensor = 6.0
    scale: float | Tensor = 0.5

    positive_fields: ClassVar[tuple[str, ...]] = ("sigma", "s", "scale")

    def derivative(self, u: Tensor) -> Tensor:
        wide = self.s * self.sigma
        sides = _normal(u, self.sigma, wide) + _normal(u, -self.sigma, wide)
        return self.scale * ((1 + self.h) * _normal(u, 0.0, self.sigma) - self.h * sides)


@dataclass(frozen=True)
class PiecewiseExp(ScaledSurrogate):
    """``alpha / 2 exp(-alpha |u|)``, of area 1.

    Neftci et al., "Surrogate Gradient Learning in Spiking Neural Networks", 2019, arXiv:1901.09948.
    """

    alpha: float | Tensor = 1.0

    def derivative(self, u: Tensor) -> Tensor:
        return (self.alpha / 2) * torch.exp(-self.alpha * u.abs())


@dataclass(frozen=True)
class Slayer(Surrogate):
    """``scale exp(-|u| / tau)``.

    Shrestha and Orchard, "SLAYER: Spike Layer Error Reassignment in Time", NeurIPS 2018, arXiv:1810.08646.
    """

    scale: float | Tensor = 1.0
    tau: float | Tensor = 1.0

    positive_fields: ClassVar[tuple[str, ...]] = ("scale", "tau")

    def derivative(self, u: Tensor) -> Tensor:
        return self.scale * torch.exp(-u.abs() / self.tau)


@dataclass(frozen=True)
class QPseudoSpike(Surrogate):
    """``(1 + 2 |u| / (alpha - 1))^-alpha``, whose tail is set by ``alpha > 1``.

    Herranz-Celotti and Rouat, "Stabilizing Spiking Neuron Training", 2022, arXiv:2202.00282.
    """

    alpha: float | Tensor = 2.0

    def __post_init__(self) -> None:
        if not isinstance(self.alpha, Tensor) and not self.alpha > 1:
            raise ValueError(f"QPseudoSpike: alpha must be above 1, got {self.alpha!r}")

    def derivative(self, u: Tensor) -> Tensor:
        return (1 + (2 / (self.alpha - 1)) * u.abs()) ** (-self.alpha)


def _normal(u: Tensor, mean: float | Tensor, sigma: float | Tensor) -> Tensor:
    z = (u - mean) / sigma
    return torch.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * sigma)

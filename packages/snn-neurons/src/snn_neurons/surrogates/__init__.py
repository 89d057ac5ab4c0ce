"""Surrogate gradients."""

import math
from dataclasses import dataclass

from torch import Tensor

from snn_neurons.surrogates.base import Surrogate

__all__ = ["ATan", "Surrogate"]


@dataclass(frozen=True)
class ATan(Surrogate):
    """``alpha / (2 (1 + (pi/2 alpha u)^2))``."""

    alpha: float | Tensor = 2.0

    def derivative(self, u: Tensor) -> Tensor:
        z = (math.pi / 2 * self.alpha) * u
        return (self.alpha / 2) / (1 + z * z)

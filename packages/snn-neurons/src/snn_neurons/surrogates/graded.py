"""Relatives of the spike function that emit several spikes in one step."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snn_neurons.surrogates.base import Surrogate


@dataclass(frozen=True)
class RoundClip(Surrogate):
    """``round(clip(u, 0, levels))`` forward, halves to even; 1 where ``0 <= u <= levels``, else 0, backward.

    Luo et al., "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance and
    Energy-efficient Object Detection", ECCV 2024, arXiv:2407.20708.
    """

    levels: int = 4

    positive_fields: ClassVar[tuple[str, ...]] = ("levels",)

    def spike(self, u: Tensor) -> Tensor:
        return torch.round(torch.clamp(u, 0.0, float(self.levels)))

    def derivative(self, u: Tensor) -> Tensor:
        return ((u >= 0) & (u <= self.levels)).to(u.dtype)


@dataclass(frozen=True)
class FloorClip(Surrogate):
    """``clip(floor(u), 0, levels)`` forward; 1 where ``0 <= u < levels + 1``, else 0, backward."""

    levels: int = 5

    positive_fields: ClassVar[tuple[str, ...]] = ("levels",)

    def spike(self, u: Tensor) -> Tensor:
        return torch.clamp(torch.floor(u), 0.0, float(self.levels))

    def derivative(self, u: Tensor) -> Tensor:
        return ((u >= 0) & (u < self.levels + 1)).to(u.dtype)

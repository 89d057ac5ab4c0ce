from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from snn_base import MemoryModule


class Decay(MemoryModule):
    """v[t] = v[t-1] / 2 + x[t]: a smooth stand-in for a neuron."""

    def __init__(self, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.register_memory("v", 0.0)

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.v = self.v * 0.5 + x
        return self.v


@pytest.fixture
def decay() -> Callable[..., Decay]:
    return Decay


@pytest.fixture
def spikes() -> Callable[..., Tensor]:
    def make(*shape: int, p: float = 0.4, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < p).to(dtype)

    return make

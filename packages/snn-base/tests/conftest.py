from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snn_base import MemoryModule


class Leaky(MemoryModule):
    """v[t] = v[t-1] / 2 + W x[t]; y = tanh(v)."""

    def __init__(self, size: int = 3, step_mode: str = "m", persistent: bool = False) -> None:
        super().__init__(step_mode)
        self.linear = nn.Linear(size, size)
        self.register_memory("v", 0.25, persistent=persistent)

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.v = self.v * 0.5 + self.linear(x)
        return torch.tanh(self.v)


class AllKinds(MemoryModule):
    """One memory of every kind: a float, a tensor, a callable and None."""

    def __init__(self, step_mode: str = "m") -> None:
        super().__init__(step_mode)
        self.register_memory("a", 0.5)
        self.register_memory("b", torch.tensor([1.0, 2.0, 3.0]))
        self.register_memory("c", lambda x: x.new_ones(x.shape[0], 1))
        self.register_memory("d", None)

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.remember(x)
        self.c = self.c + x.mean(-1, keepdim=True)
        y = self.a + self.b + self.c
        if self.d is not None:
            y = y + self.d
        self.d = torch.sin(y)
        return y

    def remember(self, x: Tensor) -> None:
        self.a = self.a * 0.5 + x
        self.b = self.b * 0.9 + x


@pytest.fixture
def leaky() -> Callable[..., Leaky]:
    torch.manual_seed(0)
    return Leaky


@pytest.fixture
def all_kinds() -> Callable[..., AllKinds]:
    return AllKinds

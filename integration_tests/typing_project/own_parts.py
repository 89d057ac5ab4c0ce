"""A user's neuron, layer and learning rule, typed."""

from typing import NamedTuple

import torch
from torch import Tensor

from snn_base import MemoryModule, StepMode
from snn_learning import Hebb
from snn_neurons import SpikingNode


class State(NamedTuple):
    v: Tensor
    fatigue: Tensor


class Parameters(NamedTuple):
    v_threshold: Tensor
    rest: Tensor


class TiredNode(SpikingNode):
    def __init__(self, rest: float = 0.9, *, step_mode: str = "s") -> None:
        super().__init__(v_threshold=0.5, step_mode=step_mode)
        self.register_param("rest", rest)
        self.register_memory("fatigue", 0.0)

    def step(self, x: Tensor, state: State, p: Parameters) -> tuple[Tensor, State]:
        h = state.v + x
        s = self.fire(h - p.v_threshold - state.fatigue, p)
        return s, state._replace(v=self.reset_membrane(h, s, p), fatigue=p.rest * state.fatigue + s)


class Leaky(MemoryModule):
    v: Tensor

    def __init__(self, decay: float, step_mode: StepMode = "s") -> None:
        super().__init__(step_mode)
        self.decay = decay
        self.register_memory("v", 0.0)

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.v = self.decay * self.v + x
        return self.v


class Cautious(Hebb):
    def __init__(self) -> None:
        super().__init__(lr=0.001)


def mean(net: Leaky, x_seq: Tensor) -> Tensor:
    return torch.stack([net.single_step_forward(x) for x in x_seq]).mean(0)

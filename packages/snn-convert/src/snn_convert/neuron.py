"""The neuron that takes the place of an activation."""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from snn_base import MemoryModule
from snn_neurons import BurstNode, IFNode, SignedIFNode, SpikingNode


class NeuronFactory(Protocol):
    """Makes the neuron of one activation; a class or function of the user's can take its place.

    The neuron has threshold 1, takes the sequence ``[T, N, ...]`` of currents in units of the threshold, returns spikes
    (or their number) per step, and has a memory ``v``.
    """

    def __call__(self) -> MemoryModule: ...


def if_neuron() -> MemoryModule:
    """Integrate-and-fire with soft reset: binary spikes."""
    return IFNode(v_reset=None, step_mode="m")


def hard_reset_if_neuron() -> MemoryModule:
    """Integrate-and-fire with reset to 0: what is above the threshold is lost."""
    return IFNode(v_reset=0.0, step_mode="m")


def signed_neuron() -> MemoryModule:
    """Integrate-and-fire that takes back early spikes by spikes of -1."""
    return SignedIFNode(step_mode="m")


class GradedIFNode(SpikingNode):
    """Signed integrate-and-fire with up to ``levels`` spikes of either sign in one step (graded events).

    ``h = v + x``; ``s = clip(floor(h / theta), 0, levels) - clip(min(ceil(-h / theta), count), 0, levels)``, where
    ``count`` are the spikes emitted so far; ``v = h - s theta``. For inference: it has no surrogate gradient.
    """

    def __init__(self, levels: int = 2, **options: Any) -> None:
        super().__init__(v_reset=None, **options)
        if levels < 1:
            raise ValueError(f"GradedIFNode: levels must be at least 1, got {levels}")
        self.levels = levels
        self.register_memory("count", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = state.v + x
        u = h / p.v_threshold
        up = torch.clamp(torch.floor(u), min=0.0, max=float(self.levels))
        down = torch.clamp(torch.minimum(torch.ceil(-u), state.count), min=0.0, max=float(self.levels))
        s = up - down
        return s, state._replace(v=h - s * p.v_threshold, count=state.count + s)


class GradedNeurons:
    """Factory of `GradedIFNode` with up to ``levels`` spikes of either sign in one step."""

    def __init__(self, levels: int = 2) -> None:
        self.levels = levels

    def __call__(self) -> MemoryModule:
        return GradedIFNode(self.levels, step_mode="m")


class BurstNeurons:
    """Factory of integrate-and-fire neurons with up to ``gamma`` spikes in one step."""

    def __init__(self, gamma: int = 5, hard_reset: bool = False) -> None:
        self.gamma = gamma
        self.hard_reset = hard_reset

    def __call__(self) -> MemoryModule:
        return BurstNode(self.gamma, v_reset=0.0 if self.hard_reset else None, step_mode="m")


class ConvertedNeuron(nn.Module):
    """An activation as spiking neurons: ``y[t] = theta s[t]``, with ``s`` the spikes of ``(x[t] + offset) / theta``.

    Over T steps ``mean_t y[t]`` approaches the clipped ReLU of ``mean_t x[t] + offset``. Takes and returns time folded
    into the batch, ``[T N, ...]``.

    Args:
        node: a neuron with threshold 1 and soft or hard reset, in step mode ``"m"``.
        threshold: ``theta``, a scalar or ``[C, 1, ...]``.
        initial: ``v`` at the start in units of the threshold; 1/2 rounds to the nearest rate.
    """

    threshold: Tensor
    offset: Tensor

    def __init__(self, node: MemoryModule, threshold: Tensor, initial: float = 0.5) -> None:
        super().__init__()
        self.node = node
        self.set_initial(initial)
        self.register_buffer("threshold", threshold.clone())
        self.register_buffer("offset", torch.zeros_like(threshold))

    @property
    def initial(self) -> float | Tensor:
        """``v`` after a reset, in units of the threshold."""
        return self._initial

    def set_initial(self, initial: float | Tensor) -> None:
        """Set ``v`` after a reset, in units of the threshold: a float, or ``[C, 1, ...]``."""
        self._initial = initial
        self.node.set_initial_memory("v", initial)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        current = torch.addcmul(self.offset / self.threshold, x, self.threshold.reciprocal()).unflatten(0, (steps, -1))
        spikes: Tensor = self.node(current)
        return (spikes * self.threshold).flatten(0, 1)


class CumulativeMaximum(MemoryModule):
    """Maximum of spikes over time: ``y[t] = max(S[t]) - max(S[t-1])`` with ``S[t] = sum_{k<=t} x[k]``.

    The sum of the output is the maximum of the summed input, for any window and for signed inputs; maxima of single
    steps are not.

    Args:
        maximum: the pooling, a function of ``[N, ...]``.
    """

    total: Tensor
    last: Tensor

    def __init__(self, maximum: nn.Module) -> None:
        super().__init__(step_mode="m")
        self.maximum = maximum
        self.register_memory("total", lambda x: torch.zeros_like(x, memory_format=torch.contiguous_format))
        self.register_memory("last", self._maximum_of_nothing)

    def _maximum_of_nothing(self, x: Tensor) -> Tensor:
        y: Tensor = self.maximum(torch.zeros_like(x))
        return y

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        total = x_seq.cumsum(0) + self.total
        y: Tensor = self.maximum(total.flatten(0, 1)).unflatten(0, (x_seq.shape[0], -1))
        before = torch.cat([self.last.unsqueeze(0), y[:-1]])
        self.total, self.last = total[-1], y[-1]
        return y - before

    def single_step_forward(self, x: Tensor) -> Tensor:
        return self.multi_step_forward(x.unsqueeze(0)).squeeze(0)


class FoldedMaximum(nn.Module):
    """A maximum pooling of spikes for time folded into the batch, ``[T N, ...]``.

    Args:
        pooling: takes ``[T, N, ...]``, such as `CumulativeMaximum`.
    """

    def __init__(self, pooling: MemoryModule) -> None:
        super().__init__()
        self.cumulative = pooling

    def forward(self, x: Tensor, steps: int) -> Tensor:
        y: Tensor = self.cumulative(x.unflatten(0, (steps, -1)))
        return y.flatten(0, 1)

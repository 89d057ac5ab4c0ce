"""Readouts: from sequences to one value per output; single steps give the value so far."""

import torch
from torch import Tensor

from snn_base import MemoryModule, StepModule
from snn_layers import _check
from snn_layers._clock import Clock, per_sample
from snn_layers._recurrence import accumulator_dtype


def _refuse_empty(owner: str, x_seq: Tensor) -> None:
    if x_seq.shape[0] == 0:
        raise ValueError(f"{owner}: x must have at least one step to be read out, got shape {tuple(x_seq.shape)}")


class RateDecoder(Clock):
    """Reads out the mean over the steps since the last reset: ``y = 1/T sum_t s[t]``.

    ``"s"``: ``[N, ...] -> [N, ...]``; ``"m"``: ``[T, N, ...] -> [N, ...]``. Both go on from earlier steps.

    Raises:
        ValueError: a sequence without steps.
    """

    total: Tensor

    def __init__(self, *, step_mode: str = "s") -> None:
        super().__init__(step_mode)
        self.register_memory("total", 0.0)

    def memory_dtype(self, x: Tensor) -> torch.dtype:
        return accumulator_dtype(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.total = self.total + x
        self.t = self.t + 1
        return (self.total / per_sample(self.t, self.total)).to(x.dtype)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        _refuse_empty("RateDecoder", x_seq)
        self.total = self.total + x_seq.sum(dim=0, dtype=self.total.dtype)
        self.t = self.t + x_seq.shape[0]
        return (self.total / per_sample(self.t, self.total)).to(x_seq.dtype)


class FirstSpikeDecoder(MemoryModule):
    """Reads out the time of the first spike since the last reset, in steps; the number of steps where none came.

    ``y = sum_t prod_{k<=t} (1 - s[k])``, which is that time for spikes in {0, 1} and has a gradient for all of them.
    ``"s"``: ``[N, ...] -> [N, ...]``; ``"m"``: ``[T, N, ...] -> [N, ...]``.

    Raises:
        ValueError: a sequence without steps.
    """

    silent: Tensor
    time: Tensor

    def __init__(self, *, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.register_memory("silent", 1.0)
        self.register_memory("time", 0.0)

    def memory_dtype(self, x: Tensor) -> torch.dtype:
        return accumulator_dtype(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.silent = self.silent * (1.0 - x)
        self.time = self.time + self.silent
        return self.time.to(x.dtype, copy=True)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        _refuse_empty("FirstSpikeDecoder", x_seq)
        silent = torch.cumprod(1.0 - x_seq.to(self.silent.dtype), dim=0) * self.silent
        self.silent = silent[-1].clone()
        self.time = self.time + silent.sum(dim=0)
        return self.time.to(x_seq.dtype, copy=True)


class MaxMembraneDecoder(MemoryModule):
    """Reads out the highest membrane potential since the last reset: ``y = max_t v[t]``.

    ``"s"``: ``[N, ...] -> [N, ...]``; ``"m"``: ``[T, N, ...] -> [N, ...]``. The input is the potential of a layer that
    does not spike.

    Raises:
        ValueError: a sequence without steps.
    """

    highest: Tensor

    def __init__(self, *, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.register_memory("highest", float("-inf"))

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.highest = torch.maximum(self.highest, x)
        return self.highest.clone()

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        _refuse_empty("MaxMembraneDecoder", x_seq)
        self.highest = torch.maximum(self.highest, x_seq.amax(dim=0))
        return self.highest.clone()


class VotingLayer(StepModule):
    """Averages groups of outputs: ``y[j] = mean(x[j v], ..., x[j v + v - 1])`` on the last dim, ``v = voter_num``.

    Args:
        voter_num: outputs per class.
        step_mode: ``"s"`` or ``"m"``; both treat all leading dims alike.

    Raises:
        ValueError: voter_num below 1, or it does not divide the last dim.
    """

    def __init__(self, voter_num: int = 10, *, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.voter_num = _check.positive_int("VotingLayer", "voter_num", voter_num)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 1 or x.shape[-1] % self.voter_num:
            raise ValueError(
                f"VotingLayer: the last dim of x must be a multiple of voter_num = {self.voter_num}, "
                f"got {tuple(x.shape)}"
            )
        return x.reshape(*x.shape[:-1], x.shape[-1] // self.voter_num, self.voter_num).mean(dim=-1)

    def extra_repr(self) -> str:
        return f"voter_num={self.voter_num}, {super().extra_repr()}"


class WTALayer(StepModule):
    """Keeps the k largest active units over a dim and silences the others.

    Units above 0 are active. In training ties are broken at random, in evaluation the lower index wins.

    Args:
        k: units kept, at least 1.
        dim: the dim of one step ``[N, ...]`` over which units compete.
        generator: source of the tie-breaks, on the device of the input.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: k below 1 or above the size of the dim; a dim that x does not have.
    """

    def __init__(
        self, k: int = 1, *, dim: int = 1, generator: torch.Generator | None = None, step_mode: str = "s"
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        self.k = _check.positive_int("WTALayer", "k", k)
        self.dim = dim
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        if self.step_mode == "m" and self.training and not torch.compiler.is_compiling() and x.shape[0] > 0:
            return torch.stack([self._keep(step) for step in x.unbind(0)])  # draws in the order of single steps
        return self._keep(x, offset=int(self.step_mode == "m"))

    def _keep(self, x: Tensor, offset: int = 0) -> Tensor:
        dim = self.dim + offset if self.dim >= 0 else self.dim
        if not -x.dim() <= dim < x.dim() or x.shape[dim] < self.k:
            raise ValueError(f"WTALayer: k = {self.k} needs as many units at dim {self.dim} of x, got {tuple(x.shape)}")
        with torch.no_grad():
            if self.training:
                shuffled = torch.rand(x.shape, generator=self.generator, device=x.device).argsort(dim=dim)
                order = x.gather(dim, shuffled).argsort(dim=dim, descending=True, stable=True)
                order = shuffled.gather(dim, order)
            else:
                order = x.argsort(dim=dim, descending=True, stable=True)
            winners = torch.zeros_like(x).scatter(dim, order.narrow(dim, 0, self.k), 1.0)
            winners = winners * (x > 0)
        return x * winners

    def extra_repr(self) -> str:
        return f"k={self.k}, dim={self.dim}, {super().extra_repr()}"


class PrintShape(StepModule):
    """Prints its label and the shape of its input, which it passes on; silent while being compiled."""

    def __init__(self, label: str = "", *, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            print(f"{self.label} {tuple(x.shape)}".strip())
        return x

    def extra_repr(self) -> str:
        return f"label={self.label!r}, {super().extra_repr()}"

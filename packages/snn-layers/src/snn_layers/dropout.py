"""Dropout whose mask is drawn once and kept over time."""

from typing import ClassVar

import torch
from torch import Tensor

from snn_base import MemoryModule
from snn_layers import _check


class _Dropout(MemoryModule):
    mask: Tensor
    _spatial: ClassVar[int | None] = None  # number of spatial dims, which share one draw per channel

    def __init__(self, p: float = 0.5, *, generator: torch.Generator | None = None, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.p = _check.probability(type(self).__name__, "p", p)
        self.generator = generator
        self.register_memory("mask", self._draw)

    def _draw(self, x: Tensor) -> Tensor:
        shape = x.shape if self._spatial is None else torch.Size([*x.shape[:2], *[1] * self._spatial])
        if not self.training:
            return x.new_ones(()).expand(shape)
        if self.p == 1.0:
            return x.new_zeros(()).expand(shape)
        keep = torch.rand(shape, generator=self.generator, device=x.device) >= self.p
        return keep.to(x.dtype) / (1.0 - self.p)

    def train(self, mode: bool = True) -> "_Dropout":
        """Set training or evaluation; a change of it begins with a new mask."""
        if mode != self.training:
            self.reset()
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self._spatial is not None:
            layout = "[N, C" + ", *" * self._spatial + "]"
            expected = self._spatial + 2 + (self.step_mode == "m")
            _check.dims(type(self).__name__, x, (expected,), layout if self.step_mode == "s" else "[T, " + layout[1:])
        return super().forward(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x.dtype) if self.training else x

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        return x_seq * self.mask.to(x_seq.dtype) if self.training else x_seq

    def extra_repr(self) -> str:
        return f"p={self.p}, {super().extra_repr()}"


class Dropout(_Dropout):
    """Zeroes entries with probability p by a mask that stays the same until `reset`.

    ``y[t] = m * x[t] / (1 - p)``, ``m ~ Bernoulli(1 - p)`` per entry of one step, drawn at the first step after a reset
    or a switch between `train` and `eval`. In evaluation ``y = x``.

    Args:
        p: probability of zeroing, in [0, 1].
        generator: source of the mask, on the device of the input; torch's own if ``None``.
        step_mode: ``"s"`` for ``[N, ...]``, ``"m"`` for ``[T, N, ...]``.

    Raises:
        ValueError: p outside [0, 1]; an input of other dims than the class states.
        MemoryShapeError: a changed batch without a reset.
    """


class Dropout1d(_Dropout):
    """`Dropout` of whole channels of ``[N, C, L]``."""

    _spatial = 1


class Dropout2d(_Dropout):
    """`Dropout` of whole channels of ``[N, C, H, W]``."""

    _spatial = 2


class Dropout3d(_Dropout):
    """`Dropout` of whole channels of ``[N, C, D, H, W]``."""

    _spatial = 3

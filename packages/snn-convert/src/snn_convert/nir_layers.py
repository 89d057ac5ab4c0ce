"""Layers that NIR has and ``torch.nn`` has not: delay, scale, threshold, sum pooling."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_base import MemoryModule, StepModule

Pair = int | tuple[int, int]


class Scale(StepModule):
    """``y = scale * x``, elementwise.

    Args:
        scale: a tensor that broadcasts over one sample's shape.
        step_mode: ``"s"`` or ``"m"``; both scale alike.
    """

    scale: Tensor

    def __init__(self, scale: Tensor, *, step_mode: Any = "s") -> None:
        super().__init__(step_mode)
        self.register_buffer("scale", scale.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.to(x.dtype)


class Threshold(StepModule):
    """``y = 1`` where ``x > threshold``, else 0; NIR's strict comparison, without a gradient.

    Args:
        threshold: a tensor that broadcasts over one sample's shape.
        step_mode: ``"s"`` or ``"m"``; both compare alike.
    """

    threshold: Tensor

    def __init__(self, threshold: Tensor, *, step_mode: Any = "s") -> None:
        super().__init__(step_mode)
        self.register_buffer("threshold", threshold.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return (x > self.threshold.to(x.dtype)).to(x.dtype)


class SumPool2d(StepModule):
    """Sum over windows of ``[N, C, H, W]`` or ``[T, N, C, H, W]``: the average times the window's size.

    Args:
        kernel_size, stride, padding: as for ``torch.nn.AvgPool2d``.
        step_mode: ``"s"`` or ``"m"``.
    """

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, *, step_mode: Any = "s"
    ) -> None:
        super().__init__(step_mode)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def single_step_forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, divisor_override=1)
        return y

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        y: Tensor = self.single_step_forward(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2])
        return y

    def extra_repr(self) -> str:
        sizes = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{sizes}, {super().extra_repr()}"


class Delay(MemoryModule):
    """``y[t] = x[t - steps]``, zeros before the first step; the memory ``past`` has the steps in between.

    Args:
        steps: whole steps, an int or an integer tensor that broadcasts over one sample's shape.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: a negative or fractional delay.
    """

    past: Tensor
    steps: Tensor

    def __init__(self, steps: int | Tensor, *, step_mode: Any = "s") -> None:
        super().__init__(step_mode)
        given = torch.as_tensor(steps)
        if given.is_floating_point() or bool((given < 0).any()):
            raise ValueError(f"Delay: steps must be whole and not negative, got {steps}")
        self.register_buffer("steps", given.long())
        self.depth = int(given.max())
        self.register_memory("past", partial(_empty_past, self.depth))

    def single_step_forward(self, x: Tensor) -> Tensor:
        return self.multi_step_forward(x.unsqueeze(0)).squeeze(0)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        known = torch.cat([self.past.transpose(0, 1), x_seq])
        self.past = known[x_seq.shape[0] :].transpose(0, 1)
        if self.steps.dim() == 0:
            return known[: x_seq.shape[0]]
        time = torch.arange(x_seq.shape[0], device=x_seq.device).view(-1, *[1] * (x_seq.dim() - 1))
        at = self.depth + time - self.steps
        return known.gather(0, at.expand(x_seq.shape))

    def extra_repr(self) -> str:
        return f"depth={self.depth}, {super().extra_repr()}"


def _empty_past(depth: int, x: Tensor) -> Tensor:
    # Batch first, so that reset(mask) finds the samples.
    return x.new_zeros(x.shape[0], depth, *x.shape[1:])


# What passes its input on outside training, and so has no node of its own.
PASSED_ON: tuple[type[nn.Module], ...] = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)

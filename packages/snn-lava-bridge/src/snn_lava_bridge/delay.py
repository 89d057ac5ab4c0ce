"""Delays in whole steps: the transport of a spike to the next layer, and learnable axonal delays."""

from typing import Any

import torch
from torch import Tensor, nn

from snn_base import MemoryModule

MAX_DELAY = 62


class _Shift(torch.autograd.Function):
    """Row k of the last-but-one steps: ``y[t, c] = padded[depth + t - d_c, c]``, with slayer's gradient for d."""

    @staticmethod
    def forward(padded: Tensor, delay: Tensor, steps: Tensor, depth: int) -> Tensor:
        return _gather(padded, steps, depth)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], inputs[2])
        ctx.depth = inputs[3]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        padded, steps = ctx.saved_tensors
        (grad,) = grads
        g_padded = g_delay = None
        if ctx.needs_input_grad[0]:
            g_padded = torch.zeros_like(padded)
            for value in steps.unique().tolist():
                at = steps == value
                start = ctx.depth - value
                g_padded[start : start + grad.shape[0], :, at] = grad[:, :, at]
        if ctx.needs_input_grad[1]:
            # y[t] moves toward y[t-1] as the delay grows: dy[t]/dd = y[t-1] - y[t].
            y = _gather(padded, steps, ctx.depth)
            before = torch.cat([torch.zeros_like(y[:1]), y[:-1]])
            g_delay = (grad * (before - y)).transpose(0, 2).flatten(1).sum(1)
        return g_padded, g_delay, None, None


def _gather(padded: Tensor, steps: Tensor, depth: int) -> Tensor:
    length = padded.shape[0] - depth
    out = padded.new_empty(length, *padded.shape[1:])
    for value in steps.unique().tolist():
        at = steps == value
        out[:, :, at] = padded[depth - value : depth - value + length, :, at]
    return out


class StepDelay(MemoryModule):
    """``y[t] = x[t - fixed - floor(d_c)]``, zeros before the first step; the past is kept between calls.

    Args:
        fixed: steps of all channels.
        delay: further steps per channel ``(C,)`` of ``[N, C, ...]``, 0 ... ``max_delay``; None for none. A parameter is
            learned with slayer's gradient ``sum g[t] (y[t-1] - y[t])``.
        max_delay: bound of ``delay``; the chip has 62 steps.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: a negative delay, one above ``max_delay``, or not one per channel.
    """

    delay: Tensor | None
    past: Tensor

    def __init__(
        self,
        fixed: int = 1,
        delay: Tensor | None = None,
        *,
        max_delay: int = MAX_DELAY,
        step_mode: Any = "s",
    ) -> None:
        super().__init__(step_mode)
        if fixed < 0 or not 0 <= max_delay <= MAX_DELAY:
            raise ValueError(f"fixed must not be negative, max_delay in 0 ... {MAX_DELAY}, got {fixed}, {max_delay}")
        if delay is not None and (delay.dim() != 1 or bool(((delay < 0) | (delay > max_delay)).any())):
            raise ValueError(f"delay must be (C,) within 0 ... {max_delay}, got {delay}")
        self.fixed = fixed
        self.max_delay = max_delay
        if isinstance(delay, nn.Parameter) or delay is None:
            self.delay = delay
        else:
            self.register_buffer("delay", delay.detach().clone().float())
        self.register_memory("past", self._empty)

    @property
    def depth(self) -> int:
        """Longest delay possible, the number of steps remembered."""
        return self.fixed + (self.max_delay if self.delay is not None else 0)

    @property
    def steps(self) -> Tensor | None:
        """Further steps per channel as the chip has them, int64 ``floor(delay)``."""
        if self.delay is None:
            return None
        return self.delay.detach().clamp(0, self.max_delay).floor().long()

    def _empty(self, x: Tensor) -> Tensor:
        # Batch first, so that reset(mask) finds the samples.
        return x.new_zeros(x.shape[0], self.depth, *x.shape[1:])

    def single_step_forward(self, x: Tensor) -> Tensor:
        return self.multi_step_forward(x.unsqueeze(0)).squeeze(0)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        if self.depth == 0:
            return x_seq
        padded = torch.cat([self.past.transpose(0, 1).to(x_seq.dtype), x_seq])
        self.past = padded[padded.shape[0] - self.depth :].transpose(0, 1)
        steps = self.steps
        if steps is None or self.delay is None:
            return padded[: x_seq.shape[0]]
        if isinstance(self.delay, nn.Parameter):
            with torch.no_grad():
                self.delay.clamp_(0, self.max_delay)
        if x_seq.dim() < 3 or x_seq.shape[2] != steps.numel():
            raise ValueError(f"delay has {steps.numel()} channels, the input {tuple(x_seq.shape)} differs")
        y: Tensor = _Shift.apply(padded, self.delay, self.fixed + steps, self.depth)
        return y

    def extra_repr(self) -> str:
        shape = None if self.delay is None else tuple(self.delay.shape)
        return f"{super().extra_repr()}, fixed={self.fixed}, delay={shape}"

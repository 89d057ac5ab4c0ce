"""Quantisation with straight-through gradients: the grid of weights that Loihi 2 stores."""

import math

import torch
from torch import Tensor


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, step: float) -> Tensor:
        return torch.round(x / step) * step

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, float], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Floor(_Round):
    @staticmethod
    def forward(x: Tensor, step: float) -> Tensor:
        return torch.floor(x / step) * step


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value!r}")


def step_quantize(x: Tensor, step: float = 1.0) -> Tensor:
    """Round to the nearest multiple of ``step``, ties to even: ``y = round(x / step) * step``, ``dy/dx = 1``.

    Raises:
        ValueError: ``step`` is not a positive number.
    """
    _check_positive("step", step)
    y: Tensor = _Round.apply(x, step)
    return y


def step_floor(x: Tensor, step: float = 1.0) -> Tensor:
    """Round down to a multiple of ``step``: ``y = floor(x / step) * step``, ``dy/dx = 1``.

    Raises:
        ValueError: ``step`` is not a positive number.
    """
    _check_positive("step", step)
    y: Tensor = _Floor.apply(x, step)
    return y


def quantize_8b(x: Tensor, scale: float = 64, descale: bool = False) -> Tensor:
    """Quantise weights to the signed 8-bit grid of the chip, ``2 k / scale`` with ``k = -128 ... 127``.

    ``y = clamp(step_quantize(x, 2 / scale), -256 / scale, 254 / scale)``. The gradient is 1 inside the range and 0
    where the clamp acts.

    Args:
        x: weights in units in which 1.0 is the integer weight ``scale``.
        scale: integer weight of 1.0.
        descale: return ``y * scale`` instead. Where ``scale`` is not a power of two these are integers only up to
            rounding errors; `integer_weights` returns true integers.

    Raises:
        ValueError: ``scale`` is not a positive number.
    """
    _check_positive("scale", scale)
    y = step_quantize(x, 2 / scale).clamp(-256 / scale, 254 / scale)
    return y * scale if descale else y


def quantize_hook(x: Tensor, scale: float = 64, num_bits: int = 8, descale: bool = False) -> Tensor:
    """Quantise to ``2 k / scale`` with ``-2**num_bits <= k <= 2**num_bits - 1``, one bit wider than `quantize_8b`.

    Raises:
        ValueError: ``scale`` or ``num_bits`` is not positive.
    """
    _check_positive("scale", scale)
    _check_positive("num_bits", num_bits)
    low, high = -2 * (1 << num_bits), 2 * ((1 << num_bits) - 1)
    y = step_quantize(x, 2 / scale).clamp(low / scale, high / scale)
    return y * scale if descale else y


def integer_weights(x: Tensor, scale: float = 64) -> Tensor:
    """The even integers -256 ... 254, as int64, that `quantize_8b` stands for; rounded, never truncated."""
    return torch.round(quantize_8b(x.detach(), scale).double() * scale).long()


def fraction_to_mantissa(decay: Tensor) -> Tensor:
    """Decay as the chip stores it: ``round(4096 decay)`` clamped to 0 ... 4096, gradient ``4096``.

    Shapes and dtype are those of ``decay``, a fraction per step.
    """
    return step_quantize(decay * 4096.0).clamp(0.0, 4096.0)


def threshold_mantissa(threshold: float, scale: float) -> int:
    """Integer threshold ``vThMant = int(threshold * scale)``; the effective threshold is ``vThMant / scale``."""
    return int(threshold * int(scale))

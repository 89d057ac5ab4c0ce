"""The integer arithmetic of the CUBA neuron, in floating point numbers that hold integers exactly.

A state ``y`` is an integer in units of ``1 / s_scale`` with ``s_scale = 64 * scale``; a decay is an integer ``d`` in
units of 1/4096. All functions are pointwise, so that they can become part of a fused kernel, and exact: in float64 for
``|y| < 2**41``, in float32 for ``|y| <= 2**24``, which covers the chip's 24-bit state.
"""

import torch
from torch import Tensor

P_SCALE = 4096
STATE_BITS = 24
STATE_LIMIT = 2 ** (STATE_BITS - 1)


def leak(y: Tensor, retain: Tensor) -> Tensor:
    """``sign(y) * (|y| * retain >> 12)``: the decayed state, rounded toward zero.

    Args:
        y: integers, float32 or float64.
        retain: integers ``4096 - d`` from 0 to 4096, broadcastable to ``y``.
    """
    if y.dtype == torch.float64:
        return torch.trunc(y * retain / P_SCALE)
    # y * retain needs up to 36 bits. Split y = 4096 high + low: every partial product then fits the 24 bits of float32.
    high = torch.trunc(y / P_SCALE)
    low = y - high * P_SCALE
    result: Tensor = high * retain + torch.trunc(low * retain / P_SCALE)
    return result


def wrap_24bit(y: Tensor) -> Tensor:
    """``y`` modulo 2**24 into -2**23 ... 2**23 - 1, as the chip's current register does."""
    wrapped: Tensor = y - torch.floor((y + STATE_LIMIT) / (2 * STATE_LIMIT)) * (2 * STATE_LIMIT)
    return wrapped


def saturate_24bit(y: Tensor) -> Tensor:
    """``y`` clamped to ±(2**23 - 1), as the chip's voltage register does."""
    return y.clamp(-(STATE_LIMIT - 1), STATE_LIMIT - 1)


def right_shift_to_zero(x: Tensor, bits: int) -> Tensor:
    """``sign(x) * (|x| >> bits)`` for int32 or int64 ``x``.

    Raises:
        TypeError: ``x`` is not an integer tensor.
    """
    if x.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"x must be int32 or int64, got {x.dtype}")
    return torch.sign(x) * (torch.abs(x) >> bits)

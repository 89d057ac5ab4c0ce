"""Integer operations of the neuron with stated derivatives, in a form that a fused kernel can take over."""

from typing import Any

import torch
from torch import Tensor

from snn_lava_bridge.arithmetic import P_SCALE, leak, saturate_24bit, wrap_24bit


class _Leak(torch.autograd.Function):
    @staticmethod
    def forward(y: Tensor, y_out: Tensor, decay: Tensor, slayer: bool) -> Tensor:
        return leak(y, P_SCALE - decay)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        y, y_out, decay, ctx.slayer = inputs
        ctx.save_for_backward(y_out if ctx.slayer else y, decay)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, decay = ctx.saved_tensors
        grad = grads[0]
        g_decay = None
        if ctx.needs_input_grad[2]:
            g_decay = grad * y if ctx.slayer else grad * y * (-1.0 / P_SCALE)
            g_decay = g_decay.sum_to_size(decay.shape)
        return grad * (1.0 - decay / P_SCALE), None, g_decay, None


class _Identity(torch.autograd.Function):
    """Some value forward, the identity backward, broadcast dims summed."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


class _Truncate(_Identity):
    @staticmethod
    def forward(x: Tensor, _: None) -> Tensor:
        return torch.trunc(x)


class _Drive(_Identity):
    @staticmethod
    def forward(x: Tensor, _: None) -> Tensor:
        return wrap_24bit(torch.round(x) * 64)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * 64, None


class _Wrap(_Identity):
    @staticmethod
    def forward(x: Tensor, _: None) -> Tensor:
        return wrap_24bit(x)


class _Saturate(_Identity):
    @staticmethod
    def forward(x: Tensor, _: None) -> Tensor:
        return saturate_24bit(x)


class _Erase(_Identity):
    @staticmethod
    def forward(x: Tensor, fired: Tensor) -> Tensor:
        return x * (1.0 - fired)


def leak_through(y: Tensor, y_out: Tensor, decay: Tensor, *, slayer: bool) -> Tensor:
    """`leak` of ``y``; ``dy'/dy = 1 - d / 4096``, ``dy'/dd = -y / 4096``, or ``y_out`` as slayer has it."""
    result: Tensor = _Leak.apply(y, y_out, decay, slayer)
    return result


def truncate(x: Tensor) -> Tensor:
    """``trunc(x)`` with derivative 1."""
    result: Tensor = _Truncate.apply(x, None)
    return result


def chip_drive(x: Tensor) -> Tensor:
    """``64 round(x)`` wrapped to 24 bits, with derivative 64."""
    result: Tensor = _Drive.apply(x, None)
    return result


def wrap(x: Tensor) -> Tensor:
    """`wrap_24bit` with derivative 1."""
    result: Tensor = _Wrap.apply(x, None)
    return result


def saturate(x: Tensor) -> Tensor:
    """`saturate_24bit` with derivative 1."""
    result: Tensor = _Saturate.apply(x, None)
    return result


def erase(x: Tensor, fired: Tensor) -> Tensor:
    """``x (1 - fired)`` with derivative 1 in ``x`` and none in ``fired``: the reset that slayer's gradient ignores."""
    result: Tensor = _Erase.apply(x, fired)
    return result

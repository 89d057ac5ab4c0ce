"""Any dense layout as T rows of M neurons: kernels see neurons in storage order and never copy for a layout."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Periodic(NamedTuple):
    """A parameter that varies over neurons: neuron ``m`` (in storage order) has ``values[(m // inner) % count]``."""

    values: Tensor
    inner: int

    def full(self, neurons: int) -> Tensor:
        """The value of every neuron, ``[M]``."""
        index = torch.arange(neurons, device=self.values.device) // self.inner % self.values.numel()
        return self.values[index]

    def reduce(self, full: Tensor) -> Tensor:
        """The sum of a per-neuron gradient ``[M]`` over the neurons that share a value, ``[count]``."""
        if self.inner == 1 and full.numel() == self.values.numel():
            return full
        return full.view(-1, self.values.numel(), self.inner).sum((0, 2))


Param = float | Tensor | Periodic


class Layout(NamedTuple):
    """The storage order of the neuron dims of ``[T, N, ...]``; ``order`` is ``None`` for the contiguous one."""

    shape: tuple[int, ...]
    order: tuple[int, ...] | None

    @property
    def stored(self) -> tuple[int, ...]:
        """The neuron shape in storage order."""
        return self.shape if self.order is None else tuple(self.shape[d] for d in self.order)

    @property
    def neurons(self) -> int:
        """Their number, ``M``."""
        return math.prod(self.shape)

    def dense_sequence(self, x: Tensor) -> Tensor:
        """``[T, N, ...]`` as ``[T, ...]`` with the neurons of a step next to one another, in storage order.

        ``x`` itself where it is contiguous, a copy only where it does not have this layout.
        """
        if self.order is None and x.is_contiguous():
            return x
        ordered = x if self.order is None else x.permute(0, *(d + 1 for d in self.order))
        flat = ordered.reshape(x.shape[0], math.prod(x.shape[1:]))
        # Neurons may still be apart in memory, as where time is the last dim in storage; kernels need them adjacent.
        return flat if flat.shape[1] <= 1 or flat.stride(1) == 1 else flat.contiguous()

    def dense_step(self, x: Tensor) -> Tensor:
        """``[N, ...]`` with its neurons next to one another, in storage order; ``x`` itself where it is contiguous."""
        if self.order is None and x.is_contiguous():
            return x
        return (x if self.order is None else x.permute(self.order)).reshape(-1).contiguous()

    def restore_sequence(self, dense: Tensor) -> Tensor:
        """The inverse of `dense_sequence`, a view."""
        if dense.dim() == 1 + len(self.shape):
            return dense
        if self.order is None:
            return dense.view(dense.shape[0], *self.shape)
        return dense.view(dense.shape[0], *self.stored).permute(0, *(d + 1 for d in self._inverse()))

    def restore_step(self, dense: Tensor) -> Tensor:
        """The inverse of `dense_step`, a view."""
        if dense.dim() == len(self.shape):
            return dense
        return dense.view(self.shape) if self.order is None else dense.view(self.stored).permute(self._inverse())

    def _inverse(self) -> tuple[int, ...]:
        assert self.order is not None
        return tuple(self.order.index(d) for d in range(len(self.order)))

    def param(self, value: Tensor, dtype: torch.dtype) -> Tensor | Periodic:
        """A parameter that broadcasts over the neuron shape, as kernels take it.

        Raises:
            ValueError: its shape does not broadcast over the neurons.
        """
        value = value.detach().to(dtype)
        if value.numel() == 1:
            return value.reshape(())
        sizes = self._aligned(value)
        order = range(len(sizes)) if self.order is None else self.order
        stored = [sizes[d] for d in order]
        varying = [i for i, s in enumerate(stored) if s != 1]
        first, last = varying[0], varying[-1]
        if all(stored[i] == self.stored[i] for i in range(first, last + 1)):
            flat = value.reshape(sizes).permute(tuple(order)).reshape(-1).contiguous()
            return Periodic(flat, math.prod(self.stored[last + 1 :]))
        return Periodic(self.dense_step(value.expand(self.shape)).reshape(-1), 1)

    def param_grad(self, grad: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of the flat values of `param`, in the shape of the parameter."""
        if grad.dim() == 0:
            return grad.reshape(shape)
        sizes = [1] * (len(self.shape) - len(shape)) + list(shape)
        if grad.numel() == math.prod(shape):
            order = self.order or tuple(range(len(self.shape)))
            stored = grad.view([sizes[d] for d in order])
            return stored.permute([order.index(d) for d in range(len(order))]).reshape(shape)
        return self.restore_step(grad).sum_to_size(sizes).reshape(shape)

    def _aligned(self, value: Tensor) -> list[int]:
        sizes = [1] * (len(self.shape) - value.dim()) + list(value.shape)
        fits = len(sizes) == len(self.shape) and all(a in (1, b) for a, b in zip(sizes, self.shape, strict=True))
        if not fits:
            raise ValueError(
                f"a parameter of shape {tuple(value.shape)} does not broadcast over neurons of shape {self.shape[1:]}; "
                "for one value per channel of [N, C, H, W] give it the shape [C, 1, 1]"
            )
        return sizes


def layout_of(x_seq: Tensor) -> Layout:
    """The layout of one step of ``x_seq [T, N, ...]``; the contiguous one where its steps are not dense."""
    shape = tuple(x_seq.shape[1:])
    if x_seq.is_contiguous() or len(shape) < 2:
        return Layout(shape, None)
    strides = x_seq.stride()[1:]
    order = sorted(range(len(shape)), key=lambda d: (-strides[d], d))
    expected = 1
    for d in reversed(order):
        if shape[d] != 1 and strides[d] != expected:
            return Layout(shape, None)
        expected *= shape[d]
    return Layout(shape, None if order == list(range(len(shape))) else tuple(order))

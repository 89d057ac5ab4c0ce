"""Sequences in pieces that stay in a processor's cache: memory traffic costs more than the arithmetic of a layer."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

BLOCK = 2**15  # entries


def by_steps(x_seq: Tensor) -> bool:
    """Whether single steps are worth an operation each: on a CPU, if they are not tiny."""
    return x_seq.device.type == "cpu" and not torch.compiler.is_compiling() and 8 * x_seq[0].numel() >= BLOCK


def gather(steps: Iterable[Tensor], count: int) -> Tensor:
    """Return ``torch.stack`` of ``count`` steps; without a graph to record, each is copied while it is in the cache."""
    if torch.is_grad_enabled():
        return torch.stack(list(steps))
    y_seq: Tensor | None = None
    for t, y in enumerate(steps):
        if y_seq is None:
            y_seq = y.new_empty((count, *y.shape))
        y_seq[t].copy_(y)
    assert y_seq is not None
    return y_seq


def in_blocks(function: Callable[[int, int], Tensor], x_seq: Tensor) -> Tensor:
    """Return ``function(0, T)``, put together from ``function(start, stop)`` for blocks of the steps of ``x_seq``.

    For results without a gradient.
    """
    steps = x_seq.shape[0]
    if torch.compiler.is_compiling() or x_seq.device.type != "cpu" or x_seq.numel() <= BLOCK:
        return function(0, steps)
    length = max(1, BLOCK // x_seq[0].numel())
    first = function(0, length)
    y_seq = first.new_empty((steps, *first.shape[1:]))
    y_seq[:length].copy_(first)
    for start in range(length, steps, length):
        y_seq[start : start + length].copy_(function(start, min(start + length, steps)))
    return y_seq

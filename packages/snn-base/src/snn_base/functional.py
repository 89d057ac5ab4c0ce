"""A stateful net as a pure function of its input and an explicit state."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from snn_base.net import MemoryState, load_memory_state, memory_modules, memory_state, reset_net


def functional_call(net: nn.Module, state: MemoryState | None, x: Any, **kwargs: Any) -> tuple[Any, MemoryState]:
    """Run ``net`` from the memories ``state``; return output and new memories: ``(y, state') = f(state, x)``.

    The net's own memories are left as they were, so the call is pure with regard to memories and composes with
    ``torch.func`` (``vmap``, ``grad``, ``jvp``) and with activation checkpointing.

    Args:
        net: any module.
        state: memories as `memory_state` returns them; ``None`` starts from a reset.
        x: the input, ``[N, ...]`` or ``[T, N, ...]`` after the net's step mode.
        **kwargs: passed on to ``net``.

    Raises:
        KeyError, TypeError: ``state`` does not belong to ``net``; see `load_memory_state`.
    """
    with _preserved(net):
        if state is None:
            reset_net(net)
        else:
            load_memory_state(net, state)
        for _, module in memory_modules(net):
            module._explicit_state = True
        y = net(x, **kwargs)
        return y, memory_state(net)


@contextmanager
def sequence(net: nn.Module) -> Iterator[nn.Module]:
    """Run a sequence of its own: memories are fresh inside and afterwards what they were before.

    Example:
        >>> import torch
        >>> from snn_base import MemoryModule, sequence
        >>> net = nn.Sequential(nn.Linear(2, 2))
        >>> with sequence(net):
        ...     y = net(torch.ones(1, 2))
    """
    with _preserved(net):
        reset_net(net)
        yield net


@contextmanager
def _preserved(net: nn.Module) -> Iterator[None]:
    kept = [(m, m.memories, m._checked_shape, m._explicit_state) for _, m in memory_modules(net)]
    try:
        yield
    finally:
        for module, memories, shape, explicit in kept:
            module.set_memories(memories)
            module._checked_shape = shape
            module._explicit_state = explicit

"""Outputs of several steps or chunks put together, be each one tensor or a tuple, list or dict of tensors."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map


def stack_steps(outputs: Sequence[Any]) -> Any:
    """Stack outputs of single steps ``[N, ...]`` to sequences ``[T, N, ...]``."""
    return _join(outputs, torch.stack)


def join_chunks(outputs: Sequence[Any]) -> Any:
    """Concatenate outputs of successive chunks ``[T_i, N, ...]`` to sequences ``[T, N, ...]``."""
    return _join(outputs, torch.cat)


def _join(outputs: Sequence[Any], how: Callable[[list[Tensor]], Tensor]) -> Any:
    if isinstance(outputs[0], Tensor):
        return how(list(outputs))
    return tree_map(lambda *parts: how(list(parts)), outputs[0], *outputs[1:])

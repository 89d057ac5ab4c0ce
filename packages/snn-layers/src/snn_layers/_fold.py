"""Time folded into the batch and back, for tensors and for tuples, lists and dicts of them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def fold(value: Any, owner: str) -> Any:
    """Merge the first two dims of every tensor in ``value``: ``[T, N, ...] -> [T * N, ...]``."""

    def merge(x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise ValueError(f"{owner} in step_mode='m': x must have shape [T, N, ...], got shape {tuple(x.shape)}")
        return x.flatten(0, 1)

    return map_tensors(merge, value)


def unfold(value: Any, steps: int, batch: int, owner: str) -> Any:
    """Split the first dim of every tensor in ``value``: ``[T * N, ...] -> [T, N, ...]``."""

    def split(y: Tensor) -> Tensor:
        if y.dim() < 1 or y.shape[0] != steps * batch:
            raise ValueError(
                f"{owner} in step_mode='m': the output of shape {tuple(y.shape)} does not keep the folded batch of "
                f"{steps} x {batch} as its first dim, so time cannot be restored; use MultiStep instead"
            )
        return y.reshape(steps, batch, *y.shape[1:])

    return map_tensors(split, value)


def folded_call(
    module: nn.Module, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], owner: str
) -> Any:
    """Return ``call(*args, **kwargs)`` with time folded into the batch before and unfolded after.

    Args:
        module: whose call it is; while there are no steps it is in eval mode, for nothing cannot be averaged.
        call: takes and returns tensors with the batch first.
        args, kwargs: tensors ``[T, N, ...]``, or tuples, lists and dicts of them; anything else passes as it is.
        owner: the name that errors give.
    """
    first = first_tensor((args, kwargs))
    if first is None or first.dim() < 2:
        shape = None if first is None else tuple(first.shape)
        raise ValueError(f"{owner} in step_mode='m': x must have shape [T, N, ...], got shape {shape}")
    steps, batch = first.shape[0], first.shape[1]
    training = [m for m in module.modules() if m.training] if steps == 0 else []
    for m in training:
        m.training = False
    try:
        y = call(*fold(args, owner), **fold(kwargs, owner))
    finally:
        for m in training:
            m.training = True
    return unfold(y, steps, batch, owner)


def first_tensor(value: Any) -> Tensor | None:
    """Return the first tensor in ``value``, or ``None``."""
    if isinstance(value, Tensor):
        return value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    for item in items:
        found = first_tensor(item)
        if found is not None:
            return found
    return None


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Apply ``function`` to every tensor in ``value`` and keep tuples, named tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [map_tensors(function, item) for item in value]
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return tuple(items) if isinstance(value, tuple) else items
    return value

"""Checks of arguments that several neurons take."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def check_at_least(owner: object, name: str, value: Any, low: float) -> None:
    """Refuse a number below ``low``; tensors pass, since a look at their values would wait for the device."""
    if not isinstance(value, Tensor) and not value >= low:
        raise ValueError(f"{type(owner).__name__}: {name} must be at least {low:g}, got {value!r}")


def check_decay(owner: object, name: str, value: Any) -> None:
    """Refuse a number outside ``[0, 1]``."""
    if not isinstance(value, Tensor) and not 0.0 <= value <= 1.0:
        raise ValueError(f"{type(owner).__name__}: {name} must lie in [0, 1], got {value!r}")


def check_spike_dtype(owner: object, options: Mapping[str, Any], *allowed: torch.dtype) -> None:
    """Refuse a ``spike_dtype`` that cannot hold what the neuron emits."""
    dtype = options.get("spike_dtype")
    if dtype is not None and dtype not in allowed:
        use = " or ".join(map(str, (None, *allowed)))
        raise ValueError(f"{type(owner).__name__}: spike_dtype={dtype} cannot hold its output; use {use}")

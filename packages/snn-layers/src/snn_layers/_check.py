"""Checks of arguments; each error names the argument, its value and what is expected."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def probability(owner: str, name: str, value: float, *, below_one: bool = False) -> float:
    """Return ``value`` if it lies in [0, 1], or in [0, 1) if ``below_one``."""
    if not 0.0 <= value <= 1.0 or (below_one and value == 1.0):
        raise ValueError(f"{owner}: {name} must be in [0, 1{')' if below_one else ']'}, got {value}")
    return float(value)


def positive_int(owner: str, name: str, value: int) -> int:
    """Return ``value`` if it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{owner}: {name} must be an integer of at least 1, got {value!r}")
    return value


def positive(owner: str, name: str, value: float) -> float:
    """Return ``value`` if it is above 0 and finite."""
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{owner}: {name} must be above 0 and finite, got {value}")
    return float(value)


def one_of(owner: str, name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """Return ``value`` if it is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{owner}: {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def dims(owner: str, x: Tensor, allowed: Sequence[int], layout: str) -> None:
    """Refuse an ``x`` whose number of dims is not among ``allowed``; ``layout`` tells the reader what is meant."""
    if x.dim() not in allowed:
        counts = " or ".join(map(str, allowed))
        raise ValueError(f"{owner}: x must have {counts} dims, {layout}, got shape {tuple(x.shape)}")


def size(owner: str, x: Tensor, dim: int, expected: int, meaning: str) -> None:
    """Refuse an ``x`` whose dim ``dim`` does not have ``expected`` entries."""
    if x.dim() < (dim + 1 if dim >= 0 else -dim) or x.shape[dim] != expected:
        raise ValueError(f"{owner}: x must have {meaning} = {expected} at dim {dim}, got shape {tuple(x.shape)}")

"""Between parameters per step and NIR's in seconds, without a rounding error left behind."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, np.dtype[np.float64]]


class NIRError(ValueError):
    """A network that NIR cannot express, or a graph that cannot be run here; says all that is in the way."""


def load_nir() -> Any:
    """The package nir.

    Raises:
        ImportError: it is missing.
    """
    try:
        import nir
    except ImportError as error:
        raise ImportError("NIR graphs need the package nir: pip install snn-convert[nir]") from error
    return nir


def spread(value: float | Tensor, shape: tuple[int, ...]) -> Array:
    """One float64 per neuron, as NIR's parameters are."""
    given = value.detach().cpu().double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    return np.array(given.expand(shape).numpy())


def gathered(value: Array) -> float | Tensor:
    """The shortest parameter with these values: a float, one per channel ``[C, 1, ...]``, or one per neuron."""
    flat = value.reshape(-1)
    if flat.size and bool((flat == flat[0]).all()):
        return float(flat[0])
    tensor = torch.from_numpy(np.array(value, dtype=np.float64)).to(torch.get_default_dtype())
    channels = tensor.flatten(1) if tensor.dim() > 1 else tensor.unsqueeze(1)
    if bool((channels == channels[:, :1]).all()):
        return channels[:, :1].reshape(-1, *[1] * (tensor.dim() - 1)).clone()
    return tensor


def undo(forward: Callable[[float], float], backward: Callable[[float], float], value: Array) -> Array:
    """The x with ``forward(x) == value``, near ``backward(value)``: short decimals and float32 first.

    ``backward`` alone is off by a unit in the last place, and 2.0 would come back as 1.9999999999999998.
    """

    def one(y: float) -> float:
        x = backward(y)
        near = (float(f"{x:.15g}"), float(np.float32(x)), x, float(np.nextafter(x, np.inf)), float(np.nextafter(x, 0)))
        return next((c for c in near if forward(c) == y), x)

    values, places = np.unique(value, return_inverse=True)
    return np.array([one(float(v)) for v in values])[places].reshape(value.shape)


def next_float32(value: Array, towards: float) -> Array:
    """The neighbour among float32 numbers: ``h >= t`` is ``h > next_float32(t, -inf)`` for float32 h."""
    return np.nextafter(value.astype(np.float32), np.float32(towards)).astype(np.float64)

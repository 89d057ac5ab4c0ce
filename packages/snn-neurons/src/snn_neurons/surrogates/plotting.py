"""Drawing a surrogate."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from snn_neurons.surrogates.base import Surrogate


def plot_surrogate(surrogate: "Surrogate", *, low: float, high: float, points: int, ax: "Axes | None") -> "Axes":
    """Draw ``surrogate`` and its derivative; see `Surrogate.plot`."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Surrogate.plot needs matplotlib; install it with the extra: pip install 'snn-neurons[plot]'"
        ) from error
    if not low < high or points < 2:
        raise ValueError(f"plot needs low < high and points >= 2, got low={low}, high={high}, points={points}")
    if ax is None:
        _, ax = plt.subplots()
    u = torch.linspace(low, high, points)
    with torch.no_grad():
        ax.plot(u.tolist(), surrogate(u).tolist(), label="forward")
        ax.plot(u.tolist(), surrogate.derivative(u).tolist(), label="derivative")
    ax.set(xlabel="u", title=repr(surrogate))
    ax.legend()
    return ax

"""Accuracy against the number of time steps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snn_base.progress import progress
from snn_convert.calibrate import device_of
from snn_convert.spiking_model import SpikingModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class AccuracyCurve:
    """What `accuracy_curve` found.

    Attributes:
        accuracy: share of right answers in [0, 1], by number of time steps.
        samples: how many samples there were.
    """

    accuracy: dict[int, float]
    samples: int

    def __str__(self) -> str:
        lines = [f"{steps:5d} steps  {100 * value:6.2f} %" for steps, value in self.accuracy.items()]
        return "\n".join([*lines, f"{self.samples} samples"])

    def plot(self, reference: float | None = None) -> "Figure":
        """Draw the curve; ``reference`` is the accuracy of the original network. Needs ``snn-convert[plot]``."""
        from snn_base.plot import accuracy_over_time

        return accuracy_over_time({"spiking": self.accuracy}, reference=reference)


class TargetNotReachedError(ValueError):
    """No number of time steps reaches the accuracy asked for; ``curve`` holds what was reached."""

    def __init__(self, target: float, curve: AccuracyCurve) -> None:
        best = max(curve.accuracy, key=lambda steps: (curve.accuracy[steps], -steps))
        super().__init__(
            f"no T up to {max(curve.accuracy)} reaches an accuracy of {target:.4f}; the best is "
            f"{curve.accuracy[best]:.4f} at T = {best}. Convert for more time steps, or with another recipe"
        )
        self.curve = curve


def accuracy_curve(
    snn: SpikingModel, loader: Iterable[Any], steps: Sequence[int] = (1, 2, 4, 8, 16, 32)
) -> AccuracyCurve:
    """Accuracy of a classifier at several numbers of time steps, in one pass over the data.

    The answer after T steps is ``argmax_c sum_{t <= T} y[t, c]``.

    Args:
        snn: a converted network with one output per class, ``[N, classes]``.
        loader: batches ``(x [N, ...], labels [N])``.
        steps: numbers of time steps T.

    Raises:
        ValueError: there are no steps, one is below 1, or there is no sample.
        TypeError: a batch is not a pair of tensors.
    """
    if not steps or min(steps) < 1:
        raise ValueError(f"accuracy_curve: steps must be numbers of at least 1, got {list(steps)}")
    wanted = sorted(set(steps))
    right, samples = torch.zeros(len(wanted), dtype=torch.long), 0
    device = device_of(snn)
    with torch.no_grad():
        for batch in progress(loader, desc="accuracy"):
            x, labels = _pair(batch)
            totals = snn.run(x.to(device), wanted[-1], per_step=True)
            if snn.readout != "potential":
                totals = totals.cumsum(0)
            answers = totals[[t - 1 for t in wanted]].argmax(-1)
            right += (answers == labels.to(device)).sum(1).cpu()
            samples += len(labels)
    if not samples:
        raise ValueError("accuracy_curve: the loader yields no sample")
    return AccuracyCurve({t: int(n) / samples for t, n in zip(wanted, right, strict=True)}, samples)


def search_timesteps(snn: SpikingModel, loader: Iterable[Any], target: float, *, limit: int = 64) -> int:
    """The smallest number of time steps up to ``limit`` whose accuracy is at least ``target``.

    Args:
        snn: a converted classifier.
        loader: batches ``(x, labels)``.
        target: accuracy in [0, 1].
        limit: largest T to try.

    Raises:
        TargetNotReachedError: none reaches it; the error says how far it went.
        ValueError: ``target`` is not in [0, 1].
    """
    if not 0.0 <= target <= 1.0:
        raise ValueError(f"search_timesteps: target must be in [0, 1], got {target}")
    curve = accuracy_curve(snn, loader, range(1, limit + 1))
    found = next((steps for steps, value in curve.accuracy.items() if value >= target), None)
    if found is None:
        raise TargetNotReachedError(target, curve)
    return found


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if not (isinstance(batch, tuple | list) and len(batch) >= 2 and all(isinstance(b, Tensor) for b in batch[:2])):
        raise TypeError(f"accuracy_curve: batches must be pairs (x, labels) of tensors, got {type(batch).__name__}")
    return batch[0], batch[1]

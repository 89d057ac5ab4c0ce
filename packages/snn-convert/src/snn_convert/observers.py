"""What calibration remembers of an activation, and the threshold it makes of it."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

_PER_OCTAVE = 64
_LOWEST = -24  # log2 of the smallest value told apart
_BINS = _PER_OCTAVE * 48


class Observer(ABC):
    """Statistics of one activation, and its threshold.

    Args:
        per_channel: one threshold for each channel (dim 1) instead of one for the layer.
    """

    def __init__(self, per_channel: bool = False) -> None:
        self.per_channel = per_channel

    def update(self, a: Tensor) -> None:
        """Take in the activations of one batch, ``[N, C, ...]`` or ``[N, C]``."""
        if a.dim() < 2:
            a = a.unsqueeze(-1)
        rows = a.detach().float().movedim(1, -1)
        self.observe(rows.reshape(-1, a.shape[1]) if self.per_channel else rows.reshape(-1, 1))

    @abstractmethod
    def observe(self, values: Tensor) -> None:
        """Take in ``values [samples, channels]``."""

    @abstractmethod
    def merge(self, other: "Observer") -> None:
        """Take in what another observer of the same kind has seen, in another process for example."""

    @abstractmethod
    def threshold(self, levels: int) -> Tensor:
        """Thresholds ``[channels]``.

        Args:
            levels: most spikes that a neuron can emit over the intended time steps.
        """


class MaxObserver(Observer):
    """The largest activation, times ``scale``: ``theta = scale max(a)`` (Diehl et al. 2015; Rueckauer et al. 2017)."""

    def __init__(self, per_channel: bool = False, scale: float = 1.0) -> None:
        super().__init__(per_channel)
        if not 0.0 < scale <= 1.0:
            raise ValueError(f"{type(self).__name__}: scale must be in (0, 1], got {scale}")
        self.scale = scale
        self.maximum: Tensor | None = None

    def observe(self, values: Tensor) -> None:
        top = values.amax(0)
        self.maximum = top if self.maximum is None else torch.maximum(self.maximum, top)

    def merge(self, other: Observer) -> None:
        _check_kind(self, other)
        assert isinstance(other, MaxObserver)
        if other.maximum is not None:
            self.observe(other.maximum.unsqueeze(0))

    def threshold(self, levels: int) -> Tensor:
        return _seen(self, self.maximum) * self.scale


class ScaledMaxObserver(MaxObserver):
    """`MaxObserver` with a scale below 1, which trades clipping for resolution."""

    def __init__(self, scale: float = 0.8, per_channel: bool = False) -> None:
        super().__init__(per_channel, scale)


class EMAObserver(Observer):
    """Moving average of the maxima of batches, ``m <- (1 - momentum) m + momentum max(a)``, from the first maximum.

    The one observer whose result depends on the order of the batches, and which therefore cannot be merged.
    """

    def __init__(self, momentum: float = 0.1, per_channel: bool = False) -> None:
        super().__init__(per_channel)
        if not 0.0 < momentum <= 1.0:
            raise ValueError(f"EMAObserver: momentum must be in (0, 1], got {momentum}")
        self.momentum = momentum
        self.average: Tensor | None = None

    def observe(self, values: Tensor) -> None:
        top = values.amax(0)
        self.average = top if self.average is None else torch.lerp(self.average, top, self.momentum)

    def merge(self, other: Observer) -> None:
        raise TypeError("EMAObserver depends on the order of batches and cannot be merged; use MaxObserver")

    def threshold(self, levels: int) -> Tensor:
        return _seen(self, self.average)


class _HistogramObserver(Observer):
    """Counts in bins whose width is about 1 % of the value, so that no range need be known beforehand."""

    def __init__(self, per_channel: bool = False) -> None:
        super().__init__(per_channel)
        self.counts: Tensor | None = None
        self.maximum: Tensor | None = None

    def observe(self, values: Tensor) -> None:
        channels = values.shape[1]
        bins = ((values.clamp(min=2.0**_LOWEST).log2() - _LOWEST) * _PER_OCTAVE).long().clamp(0, _BINS - 1)
        bins += torch.arange(channels, device=bins.device) * _BINS
        counts = torch.bincount(bins.flatten(), minlength=channels * _BINS).view(channels, _BINS)
        self._add(counts, values.amax(0))

    def merge(self, other: Observer) -> None:
        _check_kind(self, other)
        assert isinstance(other, _HistogramObserver)
        if other.counts is not None and other.maximum is not None:
            self._add(other.counts, other.maximum)

    def _add(self, counts: Tensor, maximum: Tensor) -> None:
        self.counts = counts if self.counts is None else self.counts + counts
        self.maximum = maximum if self.maximum is None else torch.maximum(self.maximum, maximum)

    def _centres(self, like: Tensor) -> Tensor:
        exponent = (torch.arange(_BINS, device=like.device, dtype=torch.float32) + 0.5) / _PER_OCTAVE + _LOWEST
        return exponent.exp2()


class PercentileObserver(_HistogramObserver):
    """The activation that a share ``p`` of all stays below (Rueckauer et al. 2017), to about 1 %.

    Args:
        p: share in (0, 1]; 1 is the maximum.
        per_channel: see `Observer`; channel-wise after Kim et al., arXiv:1903.06530.
    """

    def __init__(self, p: float = 0.999, per_channel: bool = False) -> None:
        super().__init__(per_channel)
        if not 0.0 < p <= 1.0:
            raise ValueError(f"PercentileObserver: p must be in (0, 1], got {p}")
        self.p = p

    def threshold(self, levels: int) -> Tensor:
        counts, maximum = _seen(self, self.counts), _seen(self, self.maximum)
        share = counts.cumsum(1).double() / counts.sum(1, keepdim=True)
        index = (share >= self.p - 1e-12).long().argmax(1)
        value = torch.minimum(self._centres(maximum)[index], maximum)
        return maximum if self.p == 1.0 else value


class MSEObserver(_HistogramObserver):
    """The threshold that minimises the error of the rate code at the intended number of steps.

    ``theta = argmin E[(clip(floor(a L / theta + 1/2), 0, L) theta / L - a)^2]`` with ``L`` levels, searched on a grid
    of shares of the maximum.
    """

    candidates = 96

    def threshold(self, levels: int) -> Tensor:
        counts, maximum = _seen(self, self.counts).float(), _seen(self, self.maximum)
        # Bins above the one of the overall maximum are empty.
        top = max(float(maximum.max()), 2.0**_LOWEST)
        used = min(_BINS, int((math.log2(top) - _LOWEST) * _PER_OCTAVE) + 2)
        counts, a = counts[:, :used], self._centres(maximum)[:used]
        best = torch.full_like(maximum, torch.inf)
        theta = maximum.clone()
        for share in torch.logspace(math.log10(0.02), 0.0, self.candidates).tolist():
            step = (maximum * share / levels).clamp(min=1e-30).unsqueeze(1)
            rounded = (a / step + 0.5).floor().clamp(0, levels) * step
            error = ((rounded - a).square() * counts).sum(1)
            better = error < best
            best, theta = torch.where(better, error, best), torch.where(better, maximum * share, theta)
        return theta


def _seen(observer: Observer, value: Tensor | None) -> Tensor:
    if value is None:
        raise RuntimeError(f"{type(observer).__name__} has seen no data; the calibration data were empty")
    return value


def _check_kind(one: Observer, other: Observer) -> None:
    if type(one) is not type(other) or one.per_channel != other.per_channel:
        raise TypeError(f"{type(one).__name__} cannot be merged with {type(other).__name__} of other settings")

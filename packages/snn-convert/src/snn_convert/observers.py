"""What calibration remembers of an activation, and the threshold it makes of it."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

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

    def pass_on(self, a: Tensor) -> Tensor:
        """What the layers after the activation are to see of it during calibration; by default all of it."""
        return a

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
        _check_share(self, "scale", scale)
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


class BatchPercentileObserver(MaxObserver):
    """The largest, over batches, of the activation that a share ``p`` of the batch does not exceed; no histogram.

    ``theta = max_b a_b[k]``, ``a_b`` the ``n`` sorted activations of batch b, ``k = floor(p n)`` counted from 1, or
    ``floor(p (n - 1)) + 1`` for channels. Independent of the order of batches, though not of how they are cut.
    """

    def __init__(self, p: float = 0.9995, per_channel: bool = False) -> None:
        super().__init__(per_channel)
        _check_share(self, "p", p)
        self.p = p

    def observe(self, values: Tensor) -> None:
        n = len(values)
        rank = int(self.p * (n - 1)) + 1 if self.per_channel else max(int(self.p * n), 1)
        super().observe(values.kthvalue(rank, 0).values.unsqueeze(0))


class EMAObserver(Observer):
    """Average over batches of the largest activation of each, or of one of its percentiles.

    With ``momentum = m`` it is the moving average ``theta <- (1 - m) theta + m s_b``, from the first batch's ``s_b``,
    the one statistic here that depends on the order of batches and that cannot be merged. Without, it is the plain mean
    of ``s_b``, which is what the moving average is on average over all orders.

    Args:
        momentum: m in (0, 1], or ``None`` for the mean.
        per_channel: see `Observer`.
        p: ``s_b`` is the activation that a share p of the batch stays below, interpolated between neighbours; 1 is the
            largest.
        scale: factor of ``s_b`` in (0, 1].
    """

    def __init__(
        self, momentum: float | None = None, per_channel: bool = False, *, p: float = 1.0, scale: float = 1.0
    ) -> None:
        super().__init__(per_channel)
        for name, value in (("momentum", 1.0 if momentum is None else momentum), ("p", p), ("scale", scale)):
            _check_share(self, name, value)
        self.momentum, self.p, self.scale = momentum, p, scale
        self.average: Tensor | None = None
        self.batches = 0

    def observe(self, values: Tensor) -> None:
        self._add(_quantile(values, self.p) * self.scale, 1)

    def _add(self, statistic: Tensor, batches: int) -> None:
        self.batches += batches
        weight = batches / self.batches if self.momentum is None else self.momentum
        self.average = statistic if self.average is None else torch.lerp(self.average, statistic, weight)

    def merge(self, other: Observer) -> None:
        _check_kind(self, other)
        assert isinstance(other, EMAObserver)
        if self.momentum is not None or other.momentum is not None:
            raise TypeError(
                "EMAObserver with a momentum depends on the order of batches and cannot be merged; leave it out"
            )
        if other.average is not None:
            self._add(other.average, other.batches)

    def threshold(self, levels: int) -> Tensor:
        return _seen(self, self.average)


class BalancingObserver(Observer):
    """Threshold that rises by how much of the activation it cuts off, batch after batch (local threshold balancing).

    ``theta <- theta + 2 rate E[max(a - theta, 0)]`` for each channel, from 0, which is a descent on
    ``E[max(a - theta, 0)^2]``; the layers after it see ``min(a, theta)``. It stops where the data do, so it depends on
    the number of batches and on their order, and cannot be merged.

    Bu et al., "Inference-Scale Complexity in ANN-SNN Conversion for High-Performance and Low-Power Applications", CVPR
    2025, arXiv:2409.03368.
    """

    def __init__(self, rate: float = 1.0, per_channel: bool = True) -> None:
        super().__init__(per_channel)
        if not rate > 0.0:
            raise ValueError(f"BalancingObserver: rate must be positive, got {rate}")
        self.rate = rate
        self.theta: Tensor | None = None

    def observe(self, values: Tensor) -> None:
        theta = torch.zeros_like(values[0]) if self.theta is None else self.theta
        self.theta = theta + 2 * self.rate * (values - theta).clamp(min=0).mean(0)

    def pass_on(self, a: Tensor) -> Tensor:
        theta = _seen(self, self.theta).to(a.dtype)
        return torch.minimum(a, theta.view(-1, *([1] * (a.dim() - 2))) if self.per_channel else theta)

    def merge(self, other: Observer) -> None:
        raise TypeError("BalancingObserver depends on the order of batches and cannot be merged")

    def threshold(self, levels: int) -> Tensor:
        return _seen(self, self.theta)


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
        _check_share(self, "p", p)
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
        counts, maximum = _seen(self, self.counts).double(), _seen(self, self.maximum)
        # Bins above the one of the overall maximum are empty.
        top = max(float(maximum.max()), 2.0**_LOWEST)
        used = min(_BINS, int((math.log2(top) - _LOWEST) * _PER_OCTAVE) + 2)
        counts, a = counts[:, :used], self._centres(maximum)[:used].double()
        # Values between two boundaries share a rate, so sums of 1, a and a^2 below the boundaries give the error.
        below = [_from_zero((counts * a**power).cumsum(1)) for power in range(3)]
        rates = torch.arange(levels + 1, device=a.device)
        best = torch.full_like(maximum, torch.inf, dtype=torch.float64)
        theta = maximum.clone()
        for share in torch.logspace(math.log10(0.02), 0.0, self.candidates).tolist():
            step = (maximum * share / levels).clamp(min=1e-30).unsqueeze(1).double()
            places = torch.searchsorted(a, (rates[1:] - 0.5) * step)
            ends = nn.functional.pad(places, (1, 1)).index_fill_(1, rates[-1:] + 1, used)
            ones, first, second = (total.gather(1, ends).diff(dim=1) for total in below)
            value = rates * step
            error = (value.square() * ones - 2 * value * first + second).sum(1)
            better = error < best
            best, theta = torch.where(better, error, best), torch.where(better, maximum * share, theta)
        return theta


def _from_zero(sums: Tensor) -> Tensor:
    return nn.functional.pad(sums, (1, 0))


def _quantile(values: Tensor, p: float) -> Tensor:
    """Quantile of each column, interpolated between neighbours, for any number of rows."""
    if p == 1.0:
        return values.amax(0)
    place = p * (len(values) - 1)
    below = int(place)
    low = values.kthvalue(below + 1, 0).values
    high = values.kthvalue(min(below + 2, len(values)), 0).values
    return torch.lerp(low, high, place - below)


def _check_share(observer: Observer, name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{type(observer).__name__}: {name} must be in (0, 1], got {value}")


def _seen(observer: Observer, value: Tensor | None) -> Tensor:
    if value is None:
        raise RuntimeError(f"{type(observer).__name__} has seen no data; the calibration data were empty")
    return value


def _check_kind(one: Observer, other: Observer) -> None:
    settings = ("per_channel", "p", "scale", "momentum")
    if type(one) is not type(other) or any(getattr(one, k, None) != getattr(other, k, None) for k in settings):
        raise TypeError(f"{type(one).__name__} cannot be merged with {type(other).__name__} of other settings")

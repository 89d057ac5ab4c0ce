"""Maximum pooling for spikes, by accumulated counts, and pooling over channels."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_base import MemoryModule, StepModule
from snn_layers import _check
from snn_layers._blocks import by_steps, gather
from snn_layers._recurrence import accumulator_dtype

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
Size = int | tuple[int, ...]


class _MaxPool(MemoryModule):
    counts: Tensor

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, *, step_mode: str = "s"
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        owner = type(self).__name__
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        lengths = {len(v) for v in (self.kernel_size, self.stride, self.padding) if isinstance(v, tuple)}
        if len(lengths) > 1 or not lengths <= {1, 2, 3}:
            raise ValueError(
                f"{owner}: kernel_size, stride and padding must be integers or tuples of one length in 1..3, got "
                f"{self.kernel_size}, {self.stride}, {self.padding}"
            )
        n = self._dims = lengths.pop() if lengths else None
        for k, s, p in zip(*(_each(v, n or 1) for v in (self.kernel_size, self.stride, self.padding)), strict=True):
            _check.positive_int(owner, "kernel_size", k)
            _check.positive_int(owner, "stride", s)
            if not isinstance(p, int) or not 0 <= p <= k // 2:
                raise ValueError(f"{owner}: padding must be in 0..kernel_size // 2 = {k // 2}, got {p}")
        self.register_memory("counts", 0.0)

    def memory_dtype(self, x: Tensor) -> torch.dtype:
        return accumulator_dtype(x)

    def forward(self, x: Tensor) -> Tensor:
        extra = 3 if self.step_mode == "m" else 2
        spatial = (1, 2, 3) if self._dims is None else (self._dims,)
        time = "T, " if self.step_mode == "m" else ""
        _check.dims(type(self).__name__, x, [n + extra for n in spatial], f"[{time}N, C, spatial]")
        size = tuple(x.shape[extra:])
        kernel, _, padding = self._sizes(len(size))
        if any(s + 2 * p < k for s, k, p in zip(size, kernel, padding, strict=True)):
            raise ValueError(
                f"{type(self).__name__}: x must hold a window of kernel_size = {self.kernel_size}, got shape "
                f"{tuple(x.shape)}"
            )
        return super().forward(x)

    def _sizes(self, n: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return _each(self.kernel_size, n), _each(self.stride, n), _each(self.padding, n)

    def _pool(self, x: Tensor) -> Tensor:
        pooled: Tensor = _MAX_POOL[x.dim() - 2](_pooling_layout(x), *self._sizes(x.dim() - 2))
        return pooled.contiguous()

    def extra_repr(self) -> str:
        sizes = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{sizes}, {super().extra_repr()}"


def _each(value: Size, n: int) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,) * n


def _pooling_layout(x: Tensor) -> Tensor:
    """``x``, on a CPU in the layout in which torch pools many channels at once."""
    many = x.device.type == "cpu" and x.dim() == 4 and x.shape[1] >= 16
    return x.contiguous(memory_format=torch.channels_last) if many else x


class LIPool(_MaxPool):
    """Lateral inhibition pooling: the summed output is the maximum of the summed input.

    ``S = S + x``, ``y = maxpool(S)``, ``S = S - y`` for every input of the window of y, so
    ``sum_t y = maxpool(sum_t x)``. Input ``[N, C, L]``, ``[N, C, H, W]`` or ``[N, C, D, H, W]``. Sums are
    kept in float32 for half precision.

    Args:
        kernel_size, stride, padding: as for ``torch.nn.MaxPool2d``; windows must not overlap.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: windows overlap (stride below kernel_size), padding above half a window, wrong dims, an input
            smaller than a window.

    Li et al., Efficient and accurate conversion of spiking neural network with burst spikes (arXiv:2204.13271).
    """

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, *, step_mode: str = "s"
    ) -> None:
        super().__init__(kernel_size, stride, padding, step_mode=step_mode)
        n = self._dims or 1
        if any(s < k for k, s in zip(_each(self.kernel_size, n), _each(self.stride, n), strict=True)):
            raise ValueError(
                f"LIPool: stride must be at least kernel_size = {self.kernel_size}, or windows overlap and no input "
                f"can pay for two outputs, got {self.stride}"
            )

    def _route(self, y: Tensor, like: Tensor) -> Tensor:
        """Copy each output to every input of its window; inputs outside all windows get 0."""
        n = like.dim() - 2
        for dim, (k, s, p) in enumerate(zip(*self._sizes(n), strict=True), start=2):
            place = torch.arange(like.shape[dim], device=y.device) + p
            window = place // s
            inside = (place % s < k) & (window < y.shape[dim])
            y = y.index_select(dim, window.clamp(max=y.shape[dim] - 1))
            y = y * inside.to(y.dtype).view(-1, *[1] * (y.dim() - 1 - dim))
        return y

    def single_step_forward(self, x: Tensor) -> Tensor:
        total = self.counts + x
        y = self._pool(total)
        self.counts = total - self._route(y, total)
        return y.to(x.dtype)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        if x_seq.shape[0] == 0:
            return super().multi_step_forward(x_seq)
        # Windows keep a maximum of 0 between steps, so the outputs are the increments of the pooled running sum.
        if by_steps(x_seq):
            return gather(self._increments(x_seq), x_seq.shape[0])
        total = torch.cumsum(x_seq, dim=0, dtype=self.counts.dtype) + self.counts
        pooled = self._pool(total.flatten(0, 1)).unflatten(0, x_seq.shape[:2])
        self.counts = total[-1] - self._route(pooled[-1], total[-1])
        return torch.cat([pooled[:1], pooled[1:] - pooled[:-1]]).to(x_seq.dtype)

    def _increments(self, x_seq: Tensor) -> Iterator[Tensor]:
        total, before = self.counts, torch.zeros((), dtype=self.counts.dtype, device=x_seq.device)
        for x in x_seq.unbind(0):
            total = total + x
            pooled = self._pool(total)
            yield (pooled - before).to(x.dtype)
            before = pooled
        self.counts = total - self._route(before, total)


class SpikeMaxPool(_MaxPool):
    """Maximum pooling that lets through the spike of the neuron with the most spikes so far.

    ``y[t] = x[t, argmax(S)]`` per window with ``S = sum_{k<t} x[k]``; among equals one that spikes now goes first. Then
    ``sum_t y = maxpool(sum_t x)`` for spikes in {0, 1}, overlapping windows too. The gradient goes to the spike let
    through. Counts are float32 for half precision, so exact up to 2**23 spikes.

    Args:
        kernel_size, stride, padding: as for ``torch.nn.MaxPool2d``.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: sizes below 1, padding above half a window, wrong dims, an input smaller than a window.

    Rueckauer et al., Theory and tools for the conversion of analog to spiking CNNs (arXiv:1612.04052).
    """

    def _gate(self, x: Tensor, before: Tensor) -> Tensor:
        with torch.no_grad():
            # Half a spike decides among equal counts and never beats a higher one.
            key = torch.add(before, x.to(before.dtype), alpha=0.5)
            n = x.dim() - 2
            index = _MAX_POOL[n](_pooling_layout(key), *self._sizes(n), return_indices=True)[1].contiguous()
        return x.flatten(2).gather(2, index.flatten(2)).view(index.shape)

    def single_step_forward(self, x: Tensor) -> Tensor:
        before = self.counts
        self.counts = before + x.detach()
        return self._gate(x, before)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        if x_seq.shape[0] == 0:
            return super().multi_step_forward(x_seq)
        if by_steps(x_seq):
            return gather(self._gates(x_seq), x_seq.shape[0])
        total = torch.cumsum(x_seq.detach(), dim=0, dtype=self.counts.dtype) + self.counts
        before = torch.cat([self.counts.unsqueeze(0), total[:-1]])
        self.counts = total[-1].clone()
        y = self._gate(x_seq.flatten(0, 1), before.flatten(0, 1))
        return y.view(*x_seq.shape[:2], *y.shape[1:])

    def _gates(self, x_seq: Tensor) -> Iterator[Tensor]:
        counts = self.counts.clone()
        for x in x_seq.unbind(0):
            yield self._gate(x, counts)
            counts.add_(x.detach())
        self.counts = counts


class ChannelPool(StepModule):
    """Pools over the channels: ``[N, C, ...] -> [N, C', ...]`` with any number of spatial dims.

    Args:
        pool: an ``nn.MaxPool1d`` or ``nn.AvgPool1d`` that states kernel, stride, padding and so on.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: another pool, a pool that returns indices, an input without a channel dim or with fewer channels
            than a window.
    """

    def __init__(self, pool: nn.MaxPool1d | nn.AvgPool1d, *, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        if not isinstance(pool, nn.MaxPool1d | nn.AvgPool1d) or getattr(pool, "return_indices", False):
            raise ValueError(f"ChannelPool: pool must be an nn.MaxPool1d or nn.AvgPool1d without indices, got {pool!r}")
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        channel = 1 if self.step_mode == "s" else 2
        if x.dim() <= channel:
            layout = "[N, C, ...]" if channel == 1 else "[T, N, C, ...]"
            raise ValueError(f"ChannelPool: x must have shape {layout}, got shape {tuple(x.shape)}")
        # The channels become the height of a plane whose width is all the rest, so nothing need be transposed.
        plane = x.flatten(0, channel - 1).unsqueeze(-1).flatten(2).unsqueeze(1)
        pool = self.pool
        k, s, p = (_first(v) for v in (pool.kernel_size, pool.stride, pool.padding))
        span = (_first(pool.dilation) if isinstance(pool, nn.MaxPool1d) else 1) * (k - 1) + 1
        if x.shape[channel] + 2 * p < span:
            raise ValueError(
                f"ChannelPool: x must have at least {span - 2 * p} channels for one window, got {tuple(x.shape)}"
            )
        if isinstance(pool, nn.MaxPool1d):
            y = F.max_pool2d(plane, (k, 1), (s, 1), (p, 0), (_first(pool.dilation), 1), pool.ceil_mode)
        else:
            y = F.avg_pool2d(plane, (k, 1), (s, 1), (p, 0), pool.ceil_mode, pool.count_include_pad)
        return y.reshape(*x.shape[:channel], y.shape[2], *x.shape[channel + 1 :])


def _first(value: Size) -> int:
    return value[0] if isinstance(value, tuple) else value

"""Encoders: from values to spikes.

All follow one rule: ``"s"`` takes one step ``[N, ...]``, ``"m"`` a sequence ``[T, N, ...]``. A still input becomes a
sequence by `RepeatEncoder`, which goes first: ``nn.Sequential(RepeatEncoder(T), PoissonEncoder(), ...)``.
"""

import math

import torch
from torch import Tensor

from snn_base import MemoryModule, StepModule
from snn_layers import _check
from snn_layers._blocks import in_blocks
from snn_layers._clock import Clock, per_sample


class RepeatEncoder(StepModule):
    """Repeats a still input at every step, as a view: ``y[t] = x``.

    Args:
        T: number of steps.
        step_mode: ``"m"`` turns ``[N, ...]`` into ``[T, N, ...]``; ``"s"`` passes x on.

    Raises:
        ValueError: T below 1.
    """

    def __init__(self, T: int, *, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.T = _check.positive_int("RepeatEncoder", "T", T)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.step_mode == "s" else x.expand(self.T, *x.shape)

    def extra_repr(self) -> str:
        return f"T={self.T}, {super().extra_repr()}"


class PoissonEncoder(StepModule):
    """Spikes at random with the input as probability: ``s[t] ~ Bernoulli(x[t])``, x in [0, 1].

    Args:
        generator: source of the draws, on the device of the input; torch's own if ``None``.
        step_mode: ``"s"`` or ``"m"``. Both draw in the same order, so a seed gives the same spikes.
    """

    def __init__(self, *, generator: torch.Generator | None = None, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        # One draw per step, so that steps, chunks and whole sequences see the same numbers.
        if self.step_mode == "s" or torch.compiler.is_compiling() or x.shape[0] == 0:
            return self._draw(x)
        return torch.stack([self._draw(step) for step in x.unbind(0)])

    def _draw(self, x: Tensor) -> Tensor:
        # Half precision numbers would be too coarse for small probabilities.
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        return (torch.rand(x.shape, generator=self.generator, device=x.device, dtype=dtype) < x).to(x.dtype)


class LatencyEncoder(Clock):
    """Spikes once, the sooner the larger the input: ``s[t] = 1`` where t is the latency of x.

    ``"linear"``: ``t_f = round((T - 1)(1 - x))``; ``"log"``: ``t_f = round(T - 1 - ln(a x + 1))`` with
    ``a = exp(T - 1) - 1``; x in [0, 1], t in steps since the last reset.

    Args:
        T: number of steps; 0 spikes at the last one.
        function: ``"linear"`` or ``"log"``.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: T below 1, an unknown function, T above 700 with ``"log"``, where a overflows.
    """

    def __init__(self, T: int, *, function: str = "linear", step_mode: str = "s") -> None:
        super().__init__(step_mode)
        self.T = _check.positive_int("LatencyEncoder", "T", T)
        self.function: str = _check.one_of("LatencyEncoder", "function", function, ("linear", "log"))
        if function == "log" and T > 700:
            raise ValueError(f"LatencyEncoder: T must be at most 700 with function='log', got {T}")

    @torch.no_grad()
    def _latency(self, x: Tensor) -> Tensor:
        wide = x.to(torch.float64, copy=True).clamp_(0.0, 1.0)
        last = self.T - 1
        if self.function == "linear":
            return wide.sub_(1.0).mul_(-last).round_()
        return wide.mul_(math.expm1(last)).log1p_().neg_().add_(last).round_()

    def single_step_forward(self, x: Tensor) -> Tensor:
        s = (self._latency(x) == per_sample(self.t.double(), x)).to(x.dtype)
        self.t = self.t + 1
        return s

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        times = per_sample(self.clock(x_seq).double(), x_seq)
        # A still input, which RepeatEncoder makes, has one latency at all steps.
        still = self._latency(x_seq[:1]) if x_seq.stride(0) == 0 and x_seq.shape[0] > 1 else None

        def block(start: int, stop: int) -> Tensor:
            latency = self._latency(x_seq[start:stop]) if still is None else still
            return (latency == times[start:stop]).to(x_seq.dtype)

        s_seq = in_blocks(block, x_seq)
        self.t = self.t + x_seq.shape[0]
        return s_seq

    def extra_repr(self) -> str:
        return f"T={self.T}, function={self.function!r}, {super().extra_repr()}"


class WeightedPhaseEncoder(Clock):
    """Spikes the binary digits of the input, the highest first and with period K.

    ``s[t] = floor(x 2**(k+1)) mod 2`` with the phase ``k = t mod K``, so that ``x = sum_k s[k] 2**-(k+1)`` to K digits;
    x in [0, 1 - 2**-K], and values outside are taken as the nearest end.

    Args:
        K: number of phases, at most 24.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: K outside 1..24.

    Kim et al., Deep neural networks with weighted spikes, Neurocomputing 2018.
    """

    def __init__(self, K: int, *, step_mode: str = "s") -> None:
        super().__init__(step_mode)
        self.K = _check.positive_int("WeightedPhaseEncoder", "K", K)
        if K > 24:
            raise ValueError(f"WeightedPhaseEncoder: K must be at most 24, the digits of float32, got {K}")

    @torch.no_grad()
    def _digit(self, x: Tensor, t: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        scale = per_sample(torch.exp2((t % self.K).to(wide.dtype)), x)
        # What the higher digits leave is at least 1/2 where this digit is 1.
        return wide.clamp(0.0, 1.0 - 2.0**-self.K).mul_(scale).frac_().ge_(0.5).to(x.dtype)

    def single_step_forward(self, x: Tensor) -> Tensor:
        s = self._digit(x, self.t)
        self.t = self.t + 1
        return s

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        times = self.clock(x_seq)
        s_seq = in_blocks(lambda start, stop: self._digit(x_seq[start:stop], times[start:stop]), x_seq)
        self.t = self.t + x_seq.shape[0]
        return s_seq

    def extra_repr(self) -> str:
        return f"K={self.K}, {super().extra_repr()}"


class DeltaEncoder(MemoryModule):
    """Spikes where the input changes: ``s[t] = 1`` if ``x[t] - r[t-1] >= threshold``, -1 if ``<= -threshold``.

    The reference r starts at 0. It is the input of the step before, ``r[t] = x[t]``, or with ``track`` what a receiver
    would rebuild from the spikes, ``r[t] = r[t-1] + threshold s[t]``, which follows slow changes too.

    Args:
        threshold: smallest change that spikes, above 0.
        off_spikes: whether falls spike with -1.
        track: the kind of reference.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: threshold not above 0.
    """

    reference: Tensor

    def __init__(
        self, threshold: float = 0.1, *, off_spikes: bool = True, track: bool = False, step_mode: str = "s"
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        self.threshold = _check.positive("DeltaEncoder", "threshold", threshold)
        self.off_spikes = off_spikes
        self.track = track
        self.register_memory("reference", 0.0)

    def _spikes(self, change: Tensor) -> Tensor:
        rise = change >= self.threshold
        if not self.off_spikes:
            return rise.to(change.dtype)
        # Bytes are a quarter of the memory traffic of floats.
        return (rise.to(torch.int8) - (change <= -self.threshold).to(torch.int8)).to(change.dtype)

    def single_step_forward(self, x: Tensor) -> Tensor:
        s = self._spikes(x - self.reference)
        self.reference = self.reference + self.threshold * s if self.track else x.clone()
        return s

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        if self.track or x_seq.shape[0] == 0:
            return super().multi_step_forward(x_seq)
        reference = self.reference.unsqueeze(0)

        def block(start: int, stop: int) -> Tensor:
            before = x_seq[start - 1 : stop - 1] if start else torch.cat([reference, x_seq[: stop - 1]])
            return self._spikes(x_seq[start:stop] - before)

        with torch.no_grad():
            s_seq = in_blocks(block, x_seq)
        self.reference = x_seq[-1].clone()
        return s_seq

    def extra_repr(self) -> str:
        options = f"off_spikes={self.off_spikes}, track={self.track}"
        return f"threshold={self.threshold:g}, {options}, {super().extra_repr()}"

"""Synaptic current as a low-pass filter of spikes."""

import math

import torch
from torch import Tensor, nn

from snn_base import MemoryModule
from snn_layers import _check
from snn_layers._recurrence import accumulator_dtype, first_order


class SynapseFilter(MemoryModule):
    """Low-pass filters spikes into a current.

    ``kind="saturating"``: ``i[t] = i[t-1] - (1 - s[t]) i[t-1] / tau + s[t]``, which does not decay at a spike;
    ``kind="linear"``: ``i[t] = (1 - 1/tau) i[t-1] + s[t]``. Input and output ``[N, ...]`` or ``[T, N, ...]``; the
    current is kept in float32 for half precision inputs.

    Args:
        tau: time constant in steps, at least 1; above 1 if learnable.
        kind: ``"saturating"`` or ``"linear"``.
        learnable: whether tau is learnt, as ``1/tau = sigmoid(w)``.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: tau below 1, an unknown kind.
    """

    i: Tensor
    w: Tensor | None

    def __init__(
        self, tau: float = 100.0, *, kind: str = "saturating", learnable: bool = False, step_mode: str = "s"
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        if not 1.0 <= tau < math.inf or (learnable and tau == 1.0):
            raise ValueError(f"SynapseFilter: tau must be {'above' if learnable else 'at least'} 1 step, got {tau}")
        self.kind: str = _check.one_of("SynapseFilter", "kind", kind, ("saturating", "linear"))
        self._tau = float(tau)
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1.0))) if learnable else None
        self.register_memory("i", 0.0)

    @property
    def tau(self) -> float:
        """The time constant in steps as it is now."""
        return self._tau if self.w is None else 1.0 / self.w.detach().sigmoid().item()

    def _rate(self) -> Tensor | float:
        return 1.0 / self._tau if self.w is None else self.w.sigmoid()

    def memory_dtype(self, x: Tensor) -> torch.dtype:
        return accumulator_dtype(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        s = x.to(self.i.dtype)
        decay = 1.0 - self._rate() if self.kind == "linear" else 1.0 - (1.0 - s) * self._rate()
        self.i = self.i * decay + s
        return self.i.to(x.dtype)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        if x_seq.shape[0] == 0 or (self.kind == "saturating" and torch.compiler.is_compiling()):
            return super().multi_step_forward(x_seq)
        s_seq = x_seq.to(self.i.dtype)
        if self.kind == "linear":
            i_seq = first_order(s_seq, 1.0 - self._rate(), self.i)
        else:
            # The decays of all steps at once leave one operation per step.
            decay_seq = 1.0 - (1.0 - s_seq) * self._rate()
            steps = [self.i]
            for s, decay in zip(s_seq.unbind(0), decay_seq.unbind(0), strict=True):
                steps.append(torch.addcmul(s, decay, steps[-1]))
            i_seq = torch.stack(steps[1:])
        self.i = i_seq[-1].clone()
        return i_seq.to(x_seq.dtype)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, kind={self.kind!r}, learnable={self.w is not None}, {super().extra_repr()}"

"""Synaptic current as a low-pass filter of spikes."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from snn_base import MemoryModule
from snn_layers import _check
from snn_layers._blocks import by_steps, gather
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
        if self.kind == "linear" and not by_steps(x_seq):
            i_seq = first_order(x_seq.to(self.i.dtype), 1.0 - self._rate(), self.i)
            self.i = i_seq[-1].clone()
            return i_seq.to(x_seq.dtype)
        return gather(self._currents(x_seq), x_seq.shape[0])

    def _currents(self, x_seq: Tensor) -> Iterator[Tensor]:
        rate = torch.as_tensor(self._rate(), dtype=self.i.dtype, device=x_seq.device)
        i, kept = self.i, 1.0 - rate
        for x in x_seq.unbind(0):
            s = x.to(i.dtype)
            if self.kind == "linear":
                i = torch.addcmul(s, i, kept)
            else:
                i = torch.addcmul(i + s, i * rate, 1.0 - s, value=-1)
            yield i.to(x.dtype)
        self.i = i.clone() if i.dtype == x_seq.dtype and torch.is_grad_enabled() else i

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, kind={self.kind!r}, learnable={self.w is not None}, {super().extra_repr()}"

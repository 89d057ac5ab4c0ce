"""Neuron normalisation: spikes less a weighted trace of their channel's sum."""

import math

import torch
from torch import Tensor, nn

from snn_base import MemoryModule
from snn_layers import _check
from snn_layers._recurrence import accumulator_dtype, first_order


class NeuNorm(MemoryModule):
    """Subtracts from spikes a weighted trace of the activity of all channels at their position.

    ``x[t] = k x[t-1] + a sum_c s[t]``, ``y[t] = s[t] - w x[t]``. ``scale="paper"`` takes ``k + v F = 1`` literally,
    ``a = (1 - k) / C**2``; ``scale="mean"`` makes x a moving average over channels, ``a = (1 - k) / C``.

    Args:
        in_channels, height, width: C, H and W of the input ``[N, C, H, W]``.
        k: decay of the trace per step, in [0, 1].
        shared_across_channels: one weight per position instead of one per channel and position.
        scale: ``"paper"`` or ``"mean"``.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: sizes below 1, k outside [0, 1], an input of another shape.

    Wu et al., Direct training for spiking neural networks: faster, larger, better (arXiv:1809.05793).
    """

    x: Tensor

    def __init__(
        self,
        in_channels: int,
        height: int,
        width: int,
        k: float = 0.9,
        shared_across_channels: bool = False,
        *,
        scale: str = "paper",
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        for name, value in (("in_channels", in_channels), ("height", height), ("width", width)):
            _check.positive_int("NeuNorm", name, value)
        self.k = _check.probability("NeuNorm", "k", k)
        self.scale: str = _check.one_of("NeuNorm", "scale", scale, ("paper", "mean"))
        self.a = (1.0 - k) / (in_channels**2 if scale == "paper" else in_channels)
        self.in_shape = (in_channels, height, width)
        self.w = nn.Parameter(torch.empty(1 if shared_across_channels else in_channels, height, width))
        nn.init.kaiming_uniform_(self.w, a=math.sqrt(5))
        self.register_memory("x", self._zeros)

    def _zeros(self, s: Tensor) -> Tensor:
        return torch.zeros(s.shape[0], 1, *s.shape[2:], dtype=accumulator_dtype(s), device=s.device)

    def forward(self, x: Tensor) -> Tensor:
        expected = 4 if self.step_mode == "s" else 5
        if x.dim() != expected or tuple(x.shape[-3:]) != self.in_shape:
            raise ValueError(
                f"NeuNorm in step_mode={self.step_mode!r}: x must have {expected} dims and end in "
                f"(in_channels, height, width) = {self.in_shape}, got shape {tuple(x.shape)}"
            )
        return super().forward(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.x = self.k * self.x + self.a * x.sum(dim=1, keepdim=True, dtype=self.x.dtype)
        return x - (self.w * self.x).to(x.dtype)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        if x_seq.shape[0] == 0:
            return super().multi_step_forward(x_seq)
        u_seq = self.a * x_seq.sum(dim=2, keepdim=True, dtype=self.x.dtype)
        trace = first_order(u_seq, self.k, self.x)
        self.x = trace[-1].clone()
        if x_seq.dtype == trace.dtype:
            return torch.addcmul(x_seq, self.w, trace, value=-1)
        return x_seq - (self.w * trace).to(x_seq.dtype)

    def extra_repr(self) -> str:
        shared = self.w.shape[0] != self.in_shape[0]
        sizes = ", ".join(map(str, self.in_shape))
        return f"{sizes}, k={self.k:g}, shared_across_channels={shared}, scale={self.scale!r}, {super().extra_repr()}"

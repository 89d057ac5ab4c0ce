"""Batch norm through time: every step has its own statistics."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_layers import _check
from snn_layers._clock import Clock, per_sample


class _BNTT(Clock):
    _dims: ClassVar[tuple[int, ...]]
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, num_features: int, T: int, *, eps: float = 1e-4, momentum: float = 0.1, step_mode: str = "s"
    ) -> None:
        super().__init__(step_mode)
        owner = type(self).__name__
        self.num_features = _check.positive_int(owner, "num_features", num_features)
        self.T = _check.positive_int(owner, "T", T)
        self.eps = _check.positive(owner, "eps", eps)
        self.momentum = _check.probability(owner, "momentum", momentum)
        self.weight = nn.Parameter(torch.ones(T, num_features))
        self.register_buffer("running_mean", torch.zeros(T, num_features))
        self.register_buffer("running_var", torch.ones(T, num_features))

    def forward(self, x: Tensor) -> Tensor:
        many = self.step_mode == "m"
        layout = "[T, N, C, spatial]" if many else "[N, C, spatial]"
        _check.dims(type(self).__name__, x, [n + many for n in self._dims], layout)
        _check.size(type(self).__name__, x, 1 + many, self.num_features, "num_features")
        return super().forward(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        return self.multi_step_forward(x.unsqueeze(0)).squeeze(0)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        steps, batch = x_seq.shape[:2]
        self.refuse_late(steps, self.T)
        times = self.clock(x_seq)
        self.t = self.t + steps
        if not self.training:
            scale = self.weight * torch.rsqrt(self.running_var + self.eps)
            shift = -self.running_mean * scale
            scale, shift = (per_sample(v[times], x_seq).to(x_seq.dtype) for v in (scale, shift))
            return torch.addcmul(shift, x_seq, scale)
        if steps * batch == 0:
            return x_seq
        if not torch.compiler.is_compiling() and not bool((times[0] == times[0, 0]).all()):
            raise ValueError(
                f"{type(self).__name__}: samples are at different steps, t = {times[0].tolist()}, and share no "
                "statistics in training; reset all of them at once"
            )
        rows = times[:, 0]
        # The steps become channels, so one batch norm keeps the statistics of all of them apart.
        x = x_seq.transpose(0, 1).flatten(1, 2)
        mean, var = self.running_mean[rows].flatten(), self.running_var[rows].flatten()
        y = F.batch_norm(x, mean, var, self.weight[rows].flatten(), None, True, self.momentum, self.eps)
        with torch.no_grad():
            self.running_mean.index_copy_(0, rows, mean.view(steps, -1))
            self.running_var.index_copy_(0, rows, var.view(steps, -1))
        return y.view(batch, steps, *x_seq.shape[2:]).transpose(0, 1)

    def extra_repr(self) -> str:
        return f"{self.num_features}, T={self.T}, eps={self.eps:g}, momentum={self.momentum:g}, {super().extra_repr()}"


_DOC = """Batch norm with statistics and scale of its own at every step: ``y[t] = gamma[t] x_hat[t]``.

    ``x_hat[t]`` is x[t] normalised per channel over N and space by the statistics of step t, counted from the last
    reset; there is no shift. Input ``{layout}``, or with T in front in ``step_mode="m"``.

    Args:
        num_features: C.
        T: the most steps between resets.
        eps, momentum: as for ``torch.nn.BatchNorm2d``.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: sizes below 1, eps not above 0, wrong dims, more than T steps without a reset, or in training
            samples at different steps.

    Kim and Panda, Revisiting batch normalization for training low-latency deep spiking neural networks from scratch,
    Frontiers in Neuroscience 2021.
    """


class BNTT1d(_BNTT):
    __doc__ = _DOC.format(layout="[N, C] or [N, C, L]")
    _dims = (2, 3)


class BNTT2d(_BNTT):
    __doc__ = _DOC.format(layout="[N, C, H, W]")
    _dims = (4,)


class BNTT3d(_BNTT):
    __doc__ = _DOC.format(layout="[N, C, D, H, W]")
    _dims = (5,)

"""Normalisation for spikes: threshold-dependent and temporal batch norms, and a layer norm for both layouts."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_base import StepModule, set_step_mode
from snn_layers import _check
from snn_layers._clock import Clock, per_sample
from snn_layers.stepwise import stepwise


class _ThresholdDependent(StepModule):
    _norm: ClassVar[Any]
    num_features: int
    weight: Tensor | None
    bias: Tensor | None
    _check_dims: Callable[[tuple[Any, ...], int], None]

    def __init__(
        self, num_features: int, *, alpha: float = 1.0, v_threshold: float = 1.0, step_mode: str = "s", **options: Any
    ) -> None:
        self._norm.__init__(self, num_features, step_mode=step_mode, **options)
        self.alpha = _check.positive(type(self).__name__, "alpha", alpha)
        self.v_threshold = _check.positive(type(self).__name__, "v_threshold", v_threshold)

    def _step(self, x: Tensor) -> Tensor:
        return self._scaled(x)

    def forward(self, x: Tensor) -> Tensor:
        many = self.step_mode == "m"
        self._check_dims((x,), int(many))
        _check.size(type(self).__name__, x, 1 + many, self.num_features, "num_features")
        if not many:
            return self._scaled(x)
        result: Tensor = self._norm.forward(self, x)
        return result

    def _scaled(self, x: Tensor) -> Tensor:
        scale = self.alpha * self.v_threshold
        weight = x.new_full((self.num_features,), scale) if self.weight is None else self.weight * scale
        return batch_norm(self, x, weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self._norm.extra_repr(self)}, alpha={self.alpha:g}, v_threshold={self.v_threshold:g}"


def batch_norm(norm: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Run the statistics of the batch norm ``norm`` on ``x`` but with this weight and bias."""
    momentum = norm.momentum
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = (1.0 / norm.num_batches_tracked).item()
    from_batch = norm.training or norm.running_mean is None
    tracked = not norm.training or norm.track_running_stats
    mean, var = (norm.running_mean, norm.running_var) if tracked else (None, None)
    return F.batch_norm(x, mean, var, weight, bias, from_batch, 0.0 if momentum is None else momentum, norm.eps)


_TDBN = """Batch norm that scales to the threshold: ``y = alpha V_th gamma x_hat + beta``.

    ``x_hat`` is x normalised per channel over T, N and space, ``gamma`` starts at 1. Input ``{layout}``, or with T in
    front in ``step_mode="m"``; in ``"s"`` statistics are those of one step.

    Args:
        num_features: C.
        alpha, v_threshold: factors of the scale, above 0; not learnt.
        eps, momentum, affine, track_running_stats, device, dtype: as for ``torch.nn.{torch}``.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: alpha or v_threshold not above 0; wrong dims.

    Zheng et al., Going deeper with directly-trained larger spiking neural networks, AAAI 2021.
    """


class ThresholdDependentBatchNorm1d(_ThresholdDependent, stepwise(nn.BatchNorm1d)):  # type: ignore[misc]
    __doc__ = _TDBN.format(layout="[N, C] or [N, C, L]", torch="BatchNorm1d")
    _norm = stepwise(nn.BatchNorm1d)


class ThresholdDependentBatchNorm2d(_ThresholdDependent, stepwise(nn.BatchNorm2d)):  # type: ignore[misc]
    __doc__ = _TDBN.format(layout="[N, C, H, W]", torch="BatchNorm2d")
    _norm = stepwise(nn.BatchNorm2d)


class ThresholdDependentBatchNorm3d(_ThresholdDependent, stepwise(nn.BatchNorm3d)):  # type: ignore[misc]
    __doc__ = _TDBN.format(layout="[N, C, D, H, W]", torch="BatchNorm3d")
    _norm = stepwise(nn.BatchNorm3d)


class StepScale(Clock):
    """Multiplies each step by its own factor: ``y[t] = p[t] x[t]``, t counted from the last reset.

    Args:
        p: ``[T]``, copied into a parameter.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: p is not one-dimensional; more than T steps without a reset.
    """

    def __init__(self, p: Tensor, *, step_mode: str = "s") -> None:
        super().__init__(step_mode)
        if p.dim() != 1 or p.shape[0] < 1:
            raise ValueError(f"StepScale: p must have shape [T] with T of at least 1, got {tuple(p.shape)}")
        self.p = nn.Parameter(p.detach().clone())

    def single_step_forward(self, x: Tensor) -> Tensor:
        self.refuse_late(1, self.p.shape[0])
        y = per_sample(self.p[self.t], x).to(x.dtype) * x
        self.t = self.t + 1
        return y

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        self.refuse_late(x_seq.shape[0], self.p.shape[0])
        y_seq = per_sample(self.p[self.clock(x_seq)], x_seq).to(x_seq.dtype) * x_seq
        self.t = self.t + x_seq.shape[0]
        return y_seq

    def extra_repr(self) -> str:
        return f"T={self.p.shape[0]}, {super().extra_repr()}"


class _TemporalEffective(StepModule):
    _norm: ClassVar[Any]

    def __init__(self, num_features: int, T: int, *, step_mode: str = "s", **options: Any) -> None:
        super().__init__()
        self.T = _check.positive_int(type(self).__name__, "T", T)
        self.bn = self._norm(num_features, **options)
        self.scale = StepScale(torch.ones(T))
        self.step_mode = step_mode
        for child in self.children():
            set_step_mode(child, self.step_mode)

    def forward(self, x: Tensor) -> Tensor:
        many = self.step_mode == "m"
        self.bn._check_dims((x,), int(many))
        _check.size(type(self).__name__, x, 1 + many, self.bn.num_features, "num_features")
        y: Tensor = self.scale(self.bn(x))
        return y

    def extra_repr(self) -> str:
        return f"T={self.T}, {super().extra_repr()}"


_TEBN = """Batch norm whose result every step scales by a learnt factor: ``y[t] = p[t] BN(x)[t]``.

    Statistics are over T, N and space; ``p`` (the parameter ``scale.p``, ``[T]``) starts at 1. Input ``{layout}``, or
    with T in front in ``step_mode="m"``; in ``"s"`` statistics in training are those of one step.

    Args:
        num_features: C.
        T: the most steps between resets.
        eps, momentum, affine, track_running_stats, device, dtype: as for ``torch.nn.{torch}``.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: T below 1; more than T steps without a reset; wrong dims.

    Duan et al., Temporal effective batch normalization in spiking neural networks, NeurIPS 2022.
    """


class TemporalEffectiveBatchNorm1d(_TemporalEffective):
    __doc__ = _TEBN.format(layout="[N, C] or [N, C, L]", torch="BatchNorm1d")
    _norm = stepwise(nn.BatchNorm1d)


class TemporalEffectiveBatchNorm2d(_TemporalEffective):
    __doc__ = _TEBN.format(layout="[N, C, H, W]", torch="BatchNorm2d")
    _norm = stepwise(nn.BatchNorm2d)


class TemporalEffectiveBatchNorm3d(_TemporalEffective):
    __doc__ = _TEBN.format(layout="[N, C, D, H, W]", torch="BatchNorm3d")
    _norm = stepwise(nn.BatchNorm3d)


class LayerNorm(nn.LayerNorm, StepModule):
    """Layer norm over the last dims, or over the channels of ``[N, C, ...]``.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``; the keys are those of ``torch.nn.LayerNorm``.

    Args:
        normalized_shape, eps, elementwise_affine, bias, device, dtype: as for ``torch.nn.LayerNorm``.
        data_format: ``"channels_last"`` normalises the last dims as torch does; ``"channels_first"`` normalises dim C
            of ``[N, C, ...]`` with any number of spatial dims.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: an unknown data_format, several normalised dims with ``"channels_first"``, another number of
            channels.
    """

    def __init__(
        self,
        normalized_shape: int | list[int] | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        data_format: str = "channels_last",
        step_mode: str = "s",
    ) -> None:
        nn.LayerNorm.__init__(self, normalized_shape, eps, elementwise_affine, bias, device, dtype)
        self.step_mode = step_mode
        self.data_format: str = _check.one_of(
            "LayerNorm", "data_format", data_format, ("channels_last", "channels_first")
        )
        if data_format == "channels_first" and len(self.normalized_shape) != 1:
            raise ValueError(
                f"LayerNorm: normalized_shape must be the number of channels for 'channels_first', "
                f"got {normalized_shape}"
            )

    def forward(self, input: Tensor) -> Tensor:
        if self.data_format == "channels_last":
            shape = tuple(self.normalized_shape)
            if tuple(input.shape[-len(shape) :]) != shape:
                raise ValueError(f"LayerNorm: x must end in normalized_shape = {shape}, got {tuple(input.shape)}")
            return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)
        channel = 1 if self.step_mode == "s" else 2
        _check.size("LayerNorm", input, channel, self.normalized_shape[0], "normalized_shape")
        x = input.movedim(channel, -1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).movedim(-1, channel)

    def extra_repr(self) -> str:
        return f"{nn.LayerNorm.extra_repr(self)}, data_format={self.data_format!r}, step_mode={self.step_mode!r}"

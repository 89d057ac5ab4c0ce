"""Normalisation of the integrated current in forms that the chip can hold: a bias, and a power of two."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn


def _identity(x: Tensor) -> Tensor:
    return x


def _over_channels(x: Tensor, value: Tensor) -> Tensor:
    return value.view(1, -1, *([1] * (x.dim() - 2)))


class MeanOnlyBatchNorm(nn.Module):
    """Subtract the mean of each channel, ``y = x - hook(mean)``: a bias of the neuron, ``-hook(mean)`` each step.

    Args:
        num_features: channels C of ``[N, C, ...]``.
        momentum: weight of the newest batch in ``running_mean``.
        pre_hook_fx: quantiser of the mean, for example ``quantize_8b``.
    """

    running_mean: Tensor

    def __init__(
        self, num_features: int, momentum: float = 0.1, pre_hook_fx: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.momentum = momentum
        self.pre_hook_fx = pre_hook_fx or _identity
        self.register_buffer("running_mean", torch.zeros(num_features))

    @property
    def bias(self) -> Tensor:
        """Equivalent bias per channel ``(C,)`` in weight units."""
        return -self.pre_hook_fx(self.running_mean)

    @property
    def exponent(self) -> int:
        """``log2`` of what the current is divided by: 0."""
        return 0

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, ...] -> [N, C, ...]``.

        Raises:
            ValueError: the channels of ``x`` are not ``num_features``.
        """
        self._check(x)
        mean = self.running_mean
        if self.training:
            mean = x.transpose(0, 1).flatten(1).mean(1)
            self._track(self.running_mean, mean)
        return x - self.pre_hook_fx(_over_channels(x, mean))

    def _check(self, x: Tensor) -> None:
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}(num_features={self.num_features}) got an input of shape {tuple(x.shape)}"
            )

    def _track(self, running: Tensor, now: Tensor) -> None:
        with torch.no_grad():
            running.lerp_(now.detach().to(running), self.momentum)


class BatchNorm2d(MeanOnlyBatchNorm):
    """Batch normalisation with one deviation per layer, rounded up to a power of two: ``y = (x - hook(mean)) / 2**k``.

    ``k = clamp(ceil(log2(sqrt(var + eps))), ±weight_exp_bits)``. On the chip the mean is a bias and ``2**k`` multiplies
    the threshold, which costs no precision of the weights.

    Args:
        num_features: channels C of ``[N, C, H, W]``.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.
        track_running_stats: False normalises by the batch always.
        weight_exp_bits: bound of ``|k|``.
        pre_hook_fx: quantiser of the mean.
    """

    running_var: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        track_running_stats: bool = True,
        weight_exp_bits: int = 3,
        pre_hook_fx: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(num_features, momentum, pre_hook_fx)
        self.eps = eps
        self.track_running_stats = track_running_stats
        self.weight_exp_bits = weight_exp_bits
        self.register_buffer("running_var", torch.ones(1))

    @property
    def exponent(self) -> int:
        """``k`` of the running statistics."""
        return int(self._exponent(self.running_var))

    def _exponent(self, var: Tensor) -> Tensor:
        return torch.ceil(torch.log2(torch.sqrt(var + self.eps))).clamp(-self.weight_exp_bits, self.weight_exp_bits)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        mean, var = self.running_mean, self.running_var
        if self.training or not self.track_running_stats:
            mean, var = x.transpose(0, 1).flatten(1).mean(1), x.var(unbiased=False)
            if self.training and self.track_running_stats:
                count = x.numel() / self.num_features
                self._track(self.running_mean, mean)
                self._track(self.running_var, (var * count / (count + 1)).reshape(1))
        # A power of two has no useful derivative; the mean has.
        return (x - self.pre_hook_fx(_over_channels(x, mean))) / torch.exp2(self._exponent(var.detach()))


def fold_batch_norm(weight: Tensor, bias: Tensor | None, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weights and bias of a linear or convolution layer that has swallowed the torch batch norm behind it.

    ``W' = W g``, ``b' = (b - mean) g + beta`` with ``g = gamma / sqrt(var + eps)`` per output channel.

    Raises:
        TypeError: ``norm`` is no BatchNorm of torch.
        ValueError: it keeps no running statistics, so that its scale depends on the batch.
    """
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        raise TypeError(f"norm must be torch's BatchNorm1d or BatchNorm2d, got {type(norm).__name__}")
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("norm has track_running_stats=False: its scale depends on the batch and cannot be folded")
    gamma = torch.ones_like(norm.running_mean) if norm.weight is None else cast(Tensor, norm.weight)
    beta = torch.zeros_like(norm.running_mean) if norm.bias is None else cast(Tensor, norm.bias)
    gain = gamma / torch.sqrt(norm.running_var + norm.eps)
    offset = -norm.running_mean if bias is None else bias - norm.running_mean
    return weight * gain.view(-1, *([1] * (weight.dim() - 1))), offset * gain + beta

"""Batch norm and the neuron behind it in one pass each way."""

from typing import Any

import torch
from torch import Tensor, nn

from snn_neurons.step_node import StepNode


class _Statistics(torch.autograd.Function):
    """``x``, and its mean and biased variance over ``dims``; the gradient of all three is one pass over ``x``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        var, mean = torch.var_mean(x.to(dtype), dims, correction=0)
        ctx.dims = dims
        ctx.save_for_backward(x, mean)
        return x.view_as(x), mean, var

    @staticmethod
    def backward(ctx: Any, g_x: Tensor, g_mean: Tensor, g_var: Tensor) -> tuple[Tensor, None, None]:
        x, mean = ctx.saved_tensors
        shape = [1 if d in ctx.dims else s for d, s in enumerate(x.shape)]
        count = x.numel() // max(1, mean.numel())
        slope = g_var * (2 / count)
        level = g_mean / count - slope * mean
        pull = torch.addcmul(level.view(shape), x.to(mean.dtype), slope.view(shape))
        return (g_x + pull).to(x.dtype), None, None


class BatchNormNode(nn.Module):
    """Batch norm over time, samples and space, followed by ``node``, fused: the normalised input is never stored.

    ``node((x - mean) / sqrt(var + eps) * weight + bias)`` per channel, dim 1 of a step ``[N, C, ...]``. In training
    ``mean`` and ``var`` are those of the input over all its other dims (with ``T`` in ``step_mode="m"``), as of
    ``nn.BatchNorm2d`` on ``[T * N, C, ...]``; in evaluation the running ones, whose names and update are those of
    ``nn.BatchNorm2d``, so that its ``state_dict`` loads.

    Args:
        num_features: number of channels ``C``.
        node: the neuron; its ``step_mode`` is that of the pair.
        eps, momentum, affine, track_running_stats: see ``nn.BatchNorm2d``.

    Raises:
        TypeError: ``node`` is not defined by one step.
        ValueError: ``num_features`` is not positive, the input has another number of channels, or in training one
            value per channel.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        node: StepNode,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(node, StepNode):
            raise TypeError(f"node must be a neuron with a step (StepNode), got {type(node).__name__}")
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.register_parameter("weight", nn.Parameter(torch.ones(num_features)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", torch.ones(num_features) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", torch.tensor(0) if track_running_stats else None)
        self.node = node

    def forward(self, x: Tensor) -> Any:
        channels = 2 if self.node.step_mode == "m" else 1
        if x.dim() <= channels or x.shape[channels] != self.num_features:
            raise ValueError(
                f"BatchNormNode({self.num_features}) with step_mode={self.node.step_mode!r} needs "
                f"{self.num_features} channels in dim {channels}, got x of shape {tuple(x.shape)}"
            )
        x, mean, var = self._statistics(x, channels)
        scale = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        shape = (self.num_features, *[1] * (x.dim() - channels - 1))
        return self.node(x, scale.view(shape), shift.view(shape))

    def _statistics(self, x: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
        if not self.training and self.running_mean is not None and self.running_var is not None:
            return x, self.running_mean, self.running_var
        count = x.numel() // self.num_features
        if count == 0 or (self.training and count == 1):
            raise ValueError(f"BatchNormNode needs more than one value per channel in training, got {tuple(x.shape)}")
        dims = tuple(d for d in range(x.dim()) if d != channels)
        dtype = self.node.memory_dtype(x)
        if torch.compiler.is_compiling():  # the compiler fuses these by itself
            var, mean = torch.var_mean(x.to(dtype), dims, correction=0)
        else:
            x, mean, var = _Statistics.apply(x, dims, dtype)
        if self.training:
            self._track(mean.detach(), var.detach(), count)
        return x, mean, var

    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the average of all batches so far
                weight = 1 / self.num_batches_tracked.to(self.running_mean.dtype)
            else:
                weight = torch.tensor(self.momentum, dtype=self.running_mean.dtype, device=mean.device)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), weight)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"

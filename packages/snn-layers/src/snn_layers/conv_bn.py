"""A convolution with batch norm whose fused weight and bias can be read and set."""

from typing import Any

import torch
from torch import Tensor, nn

from snn_base import StepModule
from snn_layers._fold import folded_call
from snn_layers.fusion import fuse_pair

Factor = Tensor | float


class ConvBatchNorm2d(StepModule):
    """``BN(conv(x))`` on ``[N, C, H, W]``; the convolution has no bias of its own.

    Per output channel the running statistics make it one convolution with
    ``W_fused = W gamma / sigma`` and ``b_fused = beta - mean gamma / sigma``, ``sigma = sqrt(var + eps)``.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode: as for ``nn.Conv2d``.
        eps, momentum, affine: as for ``nn.BatchNorm2d``.
        step_mode: ``"s"`` or ``"m"``; ``"m"`` takes statistics over time too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, False, padding_mode
        )
        self.bn = nn.BatchNorm2d(out_channels, eps, momentum, affine)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != (4 if self.step_mode == "s" else 5):
            layout = "[N, C, H, W]" if self.step_mode == "s" else "[T, N, C, H, W]"
            raise ValueError(
                f"ConvBatchNorm2d in step_mode={self.step_mode!r}: x must be {layout}, got {tuple(x.shape)}"
            )
        if self.step_mode == "s":
            return self._both(x)
        y: Tensor = folded_call(self, self._both, (x,), {}, "ConvBatchNorm2d")
        return y

    def _both(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return y

    def _sigma(self) -> Tensor:
        return torch.sqrt(self._stat("running_var") + self.bn.eps)

    def _stat(self, name: str) -> Tensor:
        value = getattr(self.bn, name)
        assert isinstance(value, Tensor)
        return value

    def get_fused_weight(self) -> Tensor:
        """Return ``W_fused``, with its graph."""
        scale = 1.0 / self._sigma() if not self.bn.affine else self.bn.weight / self._sigma()
        return self.conv.weight * scale.view(-1, 1, 1, 1)

    def get_fused_bias(self) -> Tensor:
        """Return ``b_fused``, with its graph."""
        if not self.bn.affine:
            return -self._stat("running_mean") / self._sigma()
        return self.bn.bias - self._stat("running_mean") * self.bn.weight / self._sigma()

    @torch.no_grad()
    def scale_fused_weight(self, k: Factor = 1.0, b: Factor = 0.0) -> None:
        """Make the fused weight ``k W_fused + b`` by changing parameters; the fused bias stays.

        Args:
            k, b: numbers, or tensors that broadcast to the weight.
        """
        target = self.get_fused_weight() * k + b
        bias = self.get_fused_bias()
        sigma = self._sigma()
        self.conv.weight.copy_(target * sigma.view(-1, 1, 1, 1) if not self.bn.affine else target)
        if self.bn.affine:
            self.bn.weight.copy_(sigma)  # gamma / sigma = 1: no division by a gamma of zero
            self.bn.bias.copy_(bias + self._stat("running_mean"))

    @torch.no_grad()
    def scale_fused_bias(self, k: Factor = 1.0, b: Factor = 0.0) -> None:
        """Make the fused bias ``k b_fused + b`` through beta, or the running mean where there is none; the weight stays.

        Args:
            k, b: numbers, or tensors ``[out_channels]``.
        """
        target = self.get_fused_bias() * k + b
        if self.bn.affine:
            self.bn.bias.copy_(target + self._stat("running_mean") * self.bn.weight / self._sigma())
        else:
            self._stat("running_mean").copy_(-target * self._sigma())

    def get_fused_conv(self) -> nn.Conv2d:
        """Return a new convolution that computes what this layer computes in evaluation."""
        fused: Any = fuse_pair(self.conv, self.bn)
        assert isinstance(fused, nn.Conv2d)
        return fused

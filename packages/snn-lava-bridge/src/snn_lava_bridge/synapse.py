"""Synapses of one layer: float weights that are trained, integer weights that the chip holds."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lava_bridge.pool import pair
from snn_lava_bridge.quantize import quantize_8b


class Synapse(nn.Module):
    """A linear map of spikes without bias; ``forward(x, weight)`` takes ``[N, ...]`` and the weight to use."""

    weight: Tensor

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, weight)")

    def quantized(self, scale: int) -> Tensor:
        """The weight on the 8-bit grid of ``scale``, in weight units, with straight-through gradients."""
        return quantize_8b(self.weight, scale)


class DenseSynapse(Synapse):
    """``[N, in] -> [N, out]`` with a weight ``(out, in)``.

    Raises:
        ValueError: the weight is not 2-D.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        if weight.dim() != 2:
            raise ValueError(f"weight must be (out, in), got shape {tuple(weight.shape)}")
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def extra_repr(self) -> str:
        return f"in={self.weight.shape[1]}, out={self.weight.shape[0]}"


class ConvSynapse(Synapse):
    """``[N, C, H, W] -> [N, C', H', W']`` with a weight ``(C', C / groups, kH, kW)`` and zero padding.

    Raises:
        ValueError: the weight is not 4-D or a size is out of range.
    """

    def __init__(
        self,
        weight: Tensor,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        if weight.dim() != 4:
            raise ValueError(f"weight must be (C_out, C_in / groups, kH, kW), got shape {tuple(weight.shape)}")
        self.weight = nn.Parameter(weight.detach().clone())
        self.stride = pair(stride, "stride", 1)
        self.padding = pair(padding, "padding", 0)
        self.dilation = pair(dilation, "dilation", 1)
        self.groups = groups

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return (
            f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}"
        )


class PoolSynapse(Synapse):
    """Sum over windows times a fixed weight: a depth-wise convolution, ``[N, C, H, W] -> [N, C, H', W']``.

    Args:
        weight: value of each entry of a window; 1 for a sum, ``1 / (kH kW)`` for an average.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else pair(stride, "stride", 1)
        self.padding = pair(padding, "padding", 0)
        self.dilation = pair(dilation, "dilation", 1)
        self.register_buffer("weight", torch.full((1, 1, *self.kernel_size), float(weight)))

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = weight.expand(channels, 1, *self.kernel_size)
        return F.conv2d(x, kernel, None, self.stride, self.padding, self.dilation, channels)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, weight={float(self.weight.flatten()[0]):.4g}"

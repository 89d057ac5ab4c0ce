"""Sum pooling: what a pool of spikes is on the chip."""

from torch import Tensor, nn
from torch.nn import functional as F


def pair(value: int | tuple[int, ...], name: str, least: int) -> tuple[int, int]:
    """``value`` as ``(H, W)``.

    Raises:
        ValueError: it is not one or two integers of at least ``least``.
    """
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or any(not isinstance(v, int) or v < least for v in both):
        raise ValueError(f"{name} must be an integer or a pair of integers of at least {least}, got {value!r}")
    return both[0], both[1]


class SumPool2d(nn.Module):
    """Sum over windows, ``y = k_H k_W avg_pool(x)``, ``[N, C, H, W] -> [N, C, H', W']``.

    Args:
        kernel_size: window ``(H, W)``.
        stride: step of the window; ``None`` means ``kernel_size``.
        padding: zeros around the input.
        dilation: distance between the entries of a window.

    Raises:
        ValueError: a size is out of range, or the input is not ``[N, C, H, W]``.
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
    ) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else pair(stride, "stride", 1)
        self.padding = pair(padding, "padding", 0)
        self.dilation = pair(dilation, "dilation", 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise ValueError(f"SumPool2d needs [N, C, H, W], got shape {tuple(x.shape)}")
        channels = x.shape[1]
        kernel = x.new_ones(channels, 1, *self.kernel_size)
        return F.conv2d(x, kernel, None, self.stride, self.padding, self.dilation, channels)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"


def check_lava_pool(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    """Refuse the pool geometries in which lava's own pool mixes channels or raises.

    Raises:
        ValueError: windows overlap, leave gaps, are padded or dilated, or do not tile ``size``.
    """
    if stride != kernel or padding != (0, 0) or dilation != (1, 1):
        raise ValueError(
            f"lava's pool mixes channels unless stride == kernel_size, padding == 0 and dilation == 1; got "
            f"kernel_size={kernel}, stride={stride}, padding={padding}, dilation={dilation}. "
            "export_netx writes such a pool as a depth-wise convolution instead"
        )
    if size[0] % kernel[0] or size[1] % kernel[1]:
        raise ValueError(
            f"lava's pool pads an input of {size} up to multiples of kernel_size={kernel} where torch drops the rest; "
            "crop or pad the input, or use export_netx"
        )

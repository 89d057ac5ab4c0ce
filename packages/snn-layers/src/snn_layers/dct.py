"""The discrete cosine transform of image blocks."""

import math

import torch
from torch import Tensor

from snn_base import StepModule
from snn_layers import _check


class DCT2d(StepModule):
    """Transforms each ``n x n`` block of the last two dims: ``Y = K X K^T``.

    ``K[0, j] = sqrt(1/n)``, ``K[i, j] = sqrt(2/n) cos((j + 1/2) pi i / n)``; K is orthogonal and a buffer.

    Args:
        kernel_size: n, the side of a block; it must divide height and width.
        step_mode: ``"s"`` or ``"m"``; both treat all leading dims alike.

    Raises:
        ValueError: kernel_size below 1, or it does not divide the last two dims.
    """

    kernel: Tensor

    def __init__(self, kernel_size: int, *, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        n = self.kernel_size = _check.positive_int("DCT2d", "kernel_size", kernel_size)
        i, j = torch.meshgrid(torch.arange(n, dtype=torch.float64), torch.arange(n, dtype=torch.float64), indexing="ij")
        kernel = math.sqrt(2.0 / n) * torch.cos((j + 0.5) * math.pi * i / n)
        kernel[0] = math.sqrt(1.0 / n)
        self.register_buffer("kernel", kernel.to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        n = self.kernel_size
        if x.dim() < 2 or x.shape[-1] % n or x.shape[-2] % n:
            shape = tuple(x.shape)
            raise ValueError(f"DCT2d: the last two dims of x must be multiples of kernel_size = {n}, got {shape}")
        # Rows of all blocks are one matrix product and columns another: no loop over blocks.
        rows = x.reshape(-1, n) @ self.kernel.T
        return torch.matmul(self.kernel, rows.view(-1, n, x.shape[-1])).view(x.shape)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, {super().extra_repr()}"

"""The discrete cosine transform of image blocks."""

import math

import torch
from torch import Tensor

from snn_base import StepModule
from snn_layers import _check

_PIECE = 2**17  # entries per thread


def _plain(x: Tensor, kernel: Tensor) -> bool:
    """Whether results may be written into given memory: on a CPU and without a graph, transform, autocast or fake."""
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype == kernel.dtype
        and not torch.compiler.is_compiling()
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not torch.is_autocast_enabled("cpu")
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch.autograd.forward_ad.unpack_dual(x).tangent is None
    )


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
        # Columns of all blocks are one matrix product and rows another: no loop over blocks.
        if _plain(x, self.kernel) and x.numel() > _PIECE:
            return self._in_pieces(x)
        columns = torch.matmul(self.kernel, x.reshape(-1, n, x.shape[-1]))
        return (columns.view(-1, n) @ self.kernel.T).view(x.shape)

    def _in_pieces(self, x: Tensor) -> Tensor:
        """The same, by bands of n rows of which those in flight stay in the cache."""
        n, width = self.kernel_size, x.shape[-1]
        # A matrix product with fewer columns than a vector register has lanes leaves some idle.
        repeats = 2 if n <= 8 and width % (2 * n) == 0 else 1
        right = torch.block_diag(*[self.kernel.T] * repeats)
        bands = x.reshape(-1, n, width)
        y = torch.empty_like(bands)
        count = max(1, _PIECE * torch.get_num_threads() // (n * width))
        buffer = torch.empty(count, n, width, dtype=x.dtype)
        for source, target in zip(bands.split(count), y.split(count), strict=True):
            columns = buffer[: len(source)]
            torch.bmm(self.kernel.expand(len(source), n, n), source, out=columns)
            torch.mm(columns.view(-1, n * repeats), right, out=target.view(-1, n * repeats))
        return y.view(x.shape)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, {super().extra_repr()}"

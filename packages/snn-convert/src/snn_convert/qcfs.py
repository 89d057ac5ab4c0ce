"""The activation of networks that are trained for conversion."""

from typing import Any

import torch
from torch import Tensor, nn


@torch.library.custom_op("snn_convert::qcfs", mutates_args=())
def qcfs(x: Tensor, threshold: Tensor, levels: int) -> Tensor:
    """``theta clip(floor(x L / theta + 1/2), 0, L) / L``, one operation so that it is found as one in a graph."""
    return (x * levels / threshold + 0.5).floor().clamp(0, levels) * threshold / levels


@qcfs.register_fake
def _shape(x: Tensor, threshold: Tensor, levels: int) -> Tensor:
    return torch.empty_like(x)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    x, threshold, _ = inputs
    ctx.save_for_backward(x, threshold, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    x, threshold, y = ctx.saved_tensors
    share = x / threshold
    inside = ((share > 0) & (share < 1)).to(grad.dtype)
    by_threshold = y / threshold - share * inside
    return grad * inside, (grad * by_threshold).sum_to_size(threshold.shape), None


qcfs.register_autograd(_backward, setup_context=_save)


class QCFS(nn.Module):
    """Quantised clip-floor-shift activation with a learned threshold: what a spiking neuron does over L steps.

    ``y = theta clip(floor(x L / theta + 1/2), 0, L) / L``. The floor is passed straight through backwards:
    ``dy/dx = 1`` for ``0 < x < theta`` and 0 elsewhere; ``dy/dtheta = y / theta - x / theta`` for ``0 < x < theta``,
    1 above and 0 below. Conversion takes theta as the threshold of the neuron; with ``v = theta / 2`` at the start,
    soft reset and an input that is the same at every step, the mean output over ``T = L`` steps is y exactly.

    Args:
        levels: L; as many steps as the spiking network will run for.
        threshold: theta at the start of the training, a float or a tensor ``[C, 1, ...]``.

    Raises:
        ValueError: ``levels`` below 1 or a threshold that is not positive.

    Bu et al., "Optimal ANN-SNN Conversion for High-accuracy and Ultra-low-latency Spiking Neural Networks", ICLR 2022,
    arXiv:2303.04347.
    """

    def __init__(self, levels: int = 8, threshold: float | Tensor = 8.0) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"QCFS: levels must be at least 1, got {levels}")
        theta = torch.as_tensor(threshold, dtype=torch.get_default_dtype()).detach().clone()
        if not bool((theta > 0).all()):
            raise ValueError(f"QCFS: threshold must be positive, got {threshold}")
        self.levels = levels
        self.threshold = nn.Parameter(theta)

    def forward(self, x: Tensor) -> Tensor:
        """``x [N, ...]`` of any shape, to the same shape."""
        y: Tensor = qcfs(x, self.threshold, self.levels)
        return y

    def extra_repr(self) -> str:
        return f"levels={self.levels}"

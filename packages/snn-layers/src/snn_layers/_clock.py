"""The count of steps since the last reset, one per sample, for layers that differ from step to step."""

import torch
from torch import Tensor

from snn_base import MemoryModule


class Clock(MemoryModule):
    """A module with the memory ``t [N]``: how many steps each sample has seen since its reset."""

    t: Tensor

    def __init__(self, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.register_memory("t", self._start)

    def _start(self, x: Tensor) -> Tensor:
        return torch.zeros(x.shape[0], dtype=torch.long, device=x.device)

    def clock(self, x_seq: Tensor) -> Tensor:
        """Return the times ``[T, N]`` of the steps of ``x_seq``."""
        return self.t + torch.arange(x_seq.shape[0], device=x_seq.device).unsqueeze(1)

    def refuse_late(self, steps: int, T: int) -> None:
        """Raise if the next ``steps`` steps go beyond ``T``; not while compiling, where values are not known.

        Raises:
            ValueError: names the step and T.
        """
        if torch.compiler.is_compiling() or not isinstance(self.t, Tensor) or self.t.numel() == 0:
            return
        last = int(self.t.max()) + steps
        if last > T:
            raise ValueError(
                f"{type(self).__name__}: step {last} is beyond T = {T}; make the layer with a larger T, or call "
                "snn_base.reset_net(net) before a new sequence"
            )


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """Append dims of size 1 to ``value`` until it has as many dims as ``like``."""
    return value.view(*value.shape, *[1] * (like.dim() - value.dim()))

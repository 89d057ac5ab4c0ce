"""A converted network that runs over time."""

from typing import Literal

import torch
from torch import Tensor, fx, nn

from snn_base import reset_net
from snn_convert.neuron import ConvertedNeuron
from snn_convert.unroll import worth_at_once

Readout = Literal["mean", "sum"]


class SpikingModel(nn.Module):
    """The spiking twin of a network: every activation is a layer of neurons, all else is as it was.

    Args:
        program: the unrolled network, ``(x [N, ...], steps) -> [steps N, ...]``.
        timesteps: steps T that `run` takes if nothing else is said.
        readout: ``"mean"`` of the output over time, which approaches the network's output, or its ``"sum"``.
        chunk: most steps computed at once; fewer are where the batch is large.
    """

    def __init__(self, program: fx.GraphModule, timesteps: int, readout: Readout = "mean", chunk: int = 16) -> None:
        super().__init__()
        if readout not in ("mean", "sum"):
            raise ValueError(f"SpikingModel: readout must be 'mean' or 'sum', got {readout!r}")
        self.program = program
        self.timesteps = timesteps
        self.readout: Readout = readout
        self.chunk = chunk

    def neurons(self) -> dict[str, ConvertedNeuron]:
        """The neurons, by the name of the activation they stand for."""
        return {name: m for name, m in self.program.named_children() if isinstance(m, ConvertedNeuron)}

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)

    def run(self, x: Tensor, timesteps: int | None = None, *, per_step: bool = False) -> Tensor:
        """Present ``x [N, ...]`` for T steps from a reset.

        Args:
            x: the input, constant over time.
            timesteps: T; the model's own by default.
            per_step: return the output of every step, ``[T, N, ...]``, instead of the readout ``[N, ...]``.

        Raises:
            ValueError: ``timesteps`` is below 1.
        """
        steps = self.timesteps if timesteps is None else timesteps
        if steps < 1:
            raise ValueError(f"SpikingModel.run: timesteps must be at least 1, got {steps}")
        reset_net(self)
        outputs = []
        chunk = max(1, min(self.chunk, worth_at_once(x) // max(1, len(x))))
        for start in range(0, steps, chunk):
            now = min(chunk, steps - start)
            y = self.program(x, now).unflatten(0, (now, -1))
            outputs.append(y if per_step else y.sum(0, keepdim=True))
        whole = torch.cat(outputs)
        if per_step:
            return whole
        total = whole.sum(0)
        return total / steps if self.readout == "mean" else total

    def step(self, x: Tensor) -> Tensor:
        """One step ``[N, ...] -> [N, ...]`` from the memories as they are."""
        y: Tensor = self.program(x, 1)
        return y

    def reset(self) -> None:
        """Reset all memories."""
        reset_net(self)

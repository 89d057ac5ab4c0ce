"""A converted network that runs over time."""

from typing import Literal

import torch
from torch import Tensor, fx, nn

from snn_base import reset_net
from snn_convert.neuron import ConvertedNeuron
from snn_convert.unroll import pieces, worth_at_once

Readout = Literal["mean", "sum", "potential"]


class SpikingModel(nn.Module):
    """The spiking twin of a network: every activation is a layer of neurons, all else is as it was.

    Args:
        program: the unrolled network, ``(x [N, ...], steps) -> [steps N, ...]``.
        timesteps: steps T that `run` takes if nothing else is said.
        readout: ``"mean"`` of the output over time, which approaches the network's output; its ``"sum"``; or the
            ``"potential"`` of output neurons that integrate and never fire, ``v[t] = v[t-1] + y[t]``. For a regression
            take the mean: each layer's own contribution to its error is at most ``threshold / (2 T)``, as long as the
            activation is below the threshold and spikes arrive evenly; `conversion_report` measures the rest.
        chunk: most steps computed at once; fewer are where the batch is large.
    """

    def __init__(self, program: fx.GraphModule, timesteps: int, readout: Readout = "mean", chunk: int = 16) -> None:
        super().__init__()
        self.program = program
        self.timesteps = timesteps
        self.readout = readout
        self.chunk = chunk

    @property
    def readout(self) -> Readout:
        """``"mean"``, ``"sum"`` or ``"potential"``."""
        return self._readout

    @readout.setter
    def readout(self, value: Readout) -> None:
        if value not in ("mean", "sum", "potential"):
            raise ValueError(f"SpikingModel: readout must be 'mean', 'sum' or 'potential', got {value!r}")
        self._readout: Readout = value

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
            per_step: return ``[T, N, ...]`` instead of ``[N, ...]``: the output of every step, or with the readout
                ``"potential"`` that potential after every step.

        Raises:
            ValueError: ``timesteps`` is below 1.
        """
        steps = self.timesteps if timesteps is None else timesteps
        if steps < 1:
            raise ValueError(f"SpikingModel.run: timesteps must be at least 1, got {steps}")
        reset_net(self)
        outputs = []
        chunk = max(1, min(self.chunk, worth_at_once(x) // max(1, len(x))))
        for now in pieces(steps, chunk):
            y = self.program(x, now).unflatten(0, (now, -1))
            outputs.append(y if per_step else y.sum(0, keepdim=True))
        whole = torch.cat(outputs)
        if per_step:
            return whole.cumsum(0) if self.readout == "potential" else whole
        total = whole.sum(0)
        return total / steps if self.readout == "mean" else total

    def step(self, x: Tensor) -> Tensor:
        """The output of one step, ``[N, ...] -> [N, ...]``, from the memories as they are."""
        y: Tensor = self.program(x, 1)
        return y

    def reset(self) -> None:
        """Reset all memories."""
        reset_net(self)

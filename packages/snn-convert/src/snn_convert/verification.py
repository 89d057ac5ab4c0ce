"""Comparison of a spiking network with the network it stands for, layer by layer."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from snn_base import reset_net
from snn_convert.capture import Values, capture_original, module_path
from snn_convert.neuron import ConvertedNeuron
from snn_convert.spiking_model import SpikingModel
from snn_convert.unroll import pieces


@dataclass(frozen=True)
class LayerError:
    """Error of one activation: ``error = |mean_t y[t] - a| / |a|`` in the Euclidean norm.

    Attributes:
        name: name of the activation in the spiking network; ``"output"`` for the network's output.
        module: path of the module that it came from.
        error: the relative error.
    """

    name: str
    module: str
    error: float


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        layers: the error of every activation in order of execution, and last that of the output.
        timesteps: steps T that the spiking network ran for.
        tolerance: largest error that counts as convergence.
    """

    layers: tuple[LayerError, ...]
    timesteps: int
    tolerance: float

    @property
    def first(self) -> LayerError | None:
        """The first layer that does not converge, or ``None``."""
        return next((layer for layer in self.layers if not layer.error <= self.tolerance), None)

    @property
    def converged(self) -> bool:
        """Whether every layer and the output converge."""
        return self.first is None

    def __str__(self) -> str:
        lines = [f"{layer.module or layer.name}: {layer.error:.4f}" for layer in self.layers]
        verdict = "all layers converge"
        if self.first is not None:
            verdict = f"{self.first.module or self.first.name} is the first that does not converge"
        return "\n".join([*lines, f"T = {self.timesteps}, tolerance {self.tolerance}: {verdict}"])


@torch.no_grad()
def verify(
    model: nn.Module | ExportedProgram,
    snn: SpikingModel,
    batch: Tensor,
    *,
    timesteps: int = 256,
    tolerance: float = 0.05,
) -> Verification:
    """Compare the mean output over ``timesteps`` steps of every layer of ``snn`` with that of ``model``.

    A threshold below the largest activation clips it at any T, so that a network converted for few steps may rightly
    fail where one converted for many passes.

    Args:
        model: the network that was converted; left untouched.
        snn: its spiking twin.
        batch: inputs ``[N, ...]``.
        timesteps: steps T.
        tolerance: largest relative error that counts as convergence.

    Raises:
        ValueError: ``timesteps`` is below 1, or ``snn`` was not made from ``model``.
    """
    if timesteps < 1:
        raise ValueError(f"verify: timesteps must be at least 1, got {timesteps}")
    network = capture_original(model, batch, snn.neurons())
    wanted = Values(network, set(snn.neurons()))
    wanted.values["output"] = wanted.run(batch)
    found = _Rates(snn.program)
    reset_net(snn)
    output = torch.zeros_like(wanted.values["output"])
    for now in pieces(timesteps, snn.chunk):
        output = output + found.run(batch, now).unflatten(0, (now, -1)).sum(0)
    reset_net(snn)
    found.sums["output"] = output
    paths = {node.name: module_path(node) for node in network.graph.nodes}
    layers = []
    for name, a in wanted.values.items():
        error = (found.sums[name] / timesteps - a).norm() / a.norm().clamp(min=1e-12)
        layers.append(LayerError(name, "" if name == "output" else paths[name], float(error)))
    return Verification(tuple(layers), timesteps, tolerance)


class _Rates(fx.Interpreter):
    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__(program)
        self.sums = dict[str, Tensor]()

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().call_module(target, args, kwargs)
        if isinstance(self.submodules[target], ConvertedNeuron):
            total = value.unflatten(0, (args[1], -1)).sum(0)
            self.sums[target] = self.sums[target] + total if target in self.sums else total
        return value

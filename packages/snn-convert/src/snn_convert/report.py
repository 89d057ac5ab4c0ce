"""What a conversion costs: where the error comes from, and how many spikes and operations an inference takes."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from snn_base import reset_net
from snn_base.profiling import EnergyModel
from snn_convert.capture import Values, capture_original, module_path
from snn_convert.neuron import ConvertedNeuron
from snn_convert.spiking_model import SpikingModel
from snn_convert.support import activation_bounds, op_name
from snn_convert.unroll import pieces, tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("inherited", "clipping", "quantisation", "unevenness")
# Position of the data and of the weight among the arguments.
_CONNECTIONS = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "linear", "mm", "matmul"), (0, 1)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), (0, 1)),
    "addmm": (1, 2),
}


@dataclass(frozen=True)
class LayerReport:
    """One layer of neurons; errors are squared norms relative to ``|a|^2``, the activation of the original network.

    With ``z`` the mean current over time, ``f`` the activation function, ``k`` the most spikes of a step and ``v0`` the
    initial membrane, the mean output differs from ``a`` by four parts that add up::

        inherited     f(z) - a                                   from the layers before
        clipping      c - f(z),  c = min(f(z), k theta)          above what the neuron can send
        quantisation  q - c,  q = theta / T clip(floor(T c / theta + v0), 0, k T)
        unevenness    mean_t y[t] - q                            spikes that came too late or were not taken back

    Attributes:
        name: name of the neurons in the spiking network.
        module: path of the activation that they stand for.
        error: of the mean output, all parts together.
        inherited, clipping, quantisation, unevenness: its parts, each by itself.
        rate: spikes of either sign per neuron and step.
        spikes: spikes of either sign per sample, over all steps.
    """

    name: str
    module: str
    error: float
    inherited: float
    clipping: float
    quantisation: float
    unevenness: float
    rate: float
    spikes: float


@dataclass(frozen=True)
class ConnectionReport:
    """Operations of one linear map per sample, over all steps.

    Attributes:
        name: name of its operation in the spiking network.
        macs: multiply-accumulates, where the input is the same at every step: it is computed once.
        acs: synaptic operations: accumulates that nonzero inputs cause.
        dense_macs: multiply-accumulates of the original network.
    """

    name: str
    macs: float
    acs: float
    dense_macs: float


@dataclass(frozen=True)
class ConversionReport:
    """Errors, activity and operations of a converted network; ``str`` is a table.

    Attributes:
        layers: the neurons, in order of execution.
        connections: the linear maps.
        output_error: ``|y - y_ann|^2 / |y_ann|^2`` of the mean output.
        timesteps: steps T.
        samples: inputs that it was measured on.
        energy_model: energies of the operations.
    """

    layers: tuple[LayerReport, ...]
    connections: tuple[ConnectionReport, ...]
    output_error: float
    timesteps: int
    samples: int
    energy_model: EnergyModel

    @property
    def spikes(self) -> float:
        """Spikes per sample."""
        return sum(layer.spikes for layer in self.layers)

    @property
    def synaptic_operations(self) -> float:
        """Accumulates per sample."""
        return sum(c.acs for c in self.connections)

    @property
    def energy_pj(self) -> float:
        """Energy of an inference in pJ, of arithmetic alone: ``mac * macs + ac * acs``."""
        return sum(self.energy_model.mac * c.macs + self.energy_model.ac * c.acs for c in self.connections)

    @property
    def dense_energy_pj(self) -> float:
        """The same of the original network, ``mac * dense_macs``."""
        return sum(self.energy_model.mac * c.dense_macs for c in self.connections)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON, written to ``path`` if that is given."""
        totals = {
            "spikes": self.spikes,
            "synaptic_operations": self.synaptic_operations,
            "energy_pj": self.energy_pj,
            "dense_energy_pj": self.dense_energy_pj,
        }
        text = json.dumps({**asdict(self), "per_sample": totals}, indent=1)
        if path is not None:
            Path(path).write_text(text + "\n")
        return text

    def plot(self) -> "Figure":
        """Draw the parts of each layer's error; needs matplotlib (``pip install snn-convert[plot]``)."""
        from snn_base.plot import layer_errors

        return layer_errors({a.module or a.name: {part: getattr(a, part) for part in PARTS} for a in self.layers})

    def __str__(self) -> str:
        heads = ["layer", "error", *PARTS, "rate", "spikes"]
        rows = [heads]
        for a in self.layers:
            numbers = [f"{getattr(a, field):.2g}" for field in ("error", *PARTS)]
            rows.append([a.module or a.name, *numbers, f"{a.rate:.3f}", f"{a.spikes:.0f}"])
        widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(
            [
                *lines,
                f"output: error {self.output_error:.2g} after T = {self.timesteps} steps, {self.samples} samples",
                f"per sample: {self.spikes:.0f} spikes, {self.synaptic_operations:.3g} synaptic operations, "
                f"{self.energy_pj / 1e3:.3g} nJ; the original network {self.dense_energy_pj / 1e3:.3g} nJ",
            ]
        )


@torch.no_grad()
def conversion_report(
    model: nn.Module | ExportedProgram,
    snn: SpikingModel,
    batch: Tensor,
    *,
    timesteps: int | None = None,
    energy: EnergyModel | None = None,
) -> ConversionReport:
    """Measure a converted network on a batch: errors by their cause, firing rates, operations and energy.

    Operations are those of convolutions and linear layers. A spike that averaging or a residual sum made a number of
    causes accumulates like any other, since its factor can be folded into the weights.

    Args:
        model: the network that was converted; left untouched.
        snn: its spiking twin.
        batch: inputs ``[N, ...]``.
        timesteps: steps T; those of ``snn`` by default.
        energy: energies of the operations; those of Horowitz (ISSCC 2014) by default.

    Raises:
        ValueError: ``timesteps`` is below 1, or ``snn`` was not made from ``model``.
    """
    steps = snn.timesteps if timesteps is None else timesteps
    if steps < 1:
        raise ValueError(f"conversion_report: timesteps must be at least 1, got {steps}")
    network = capture_original(model, batch, snn.neurons())
    nodes = {node.name: node for node in network.graph.nodes}
    original = Values(network, set(snn.neurons()))
    target = original.run(batch)
    watched = _Activity(snn.program)
    reset_net(snn)
    output = torch.zeros_like(target)
    for now in pieces(steps, snn.chunk):
        output += watched.run(batch, now).unflatten(0, (now, -1)).sum(0)
        watched.first = False
    reset_net(snn)
    layers = []
    for name, neuron in snn.neurons().items():
        bounds = activation_bounds(nodes[name])
        upper = None if bounds is None else bounds[1]
        layers.append(
            _layer(name, module_path(nodes[name]), neuron, original.values[name], watched.layers[name], upper, steps)
        )
    n = len(batch)
    connections = tuple(ConnectionReport(name, *(v / n for v in counts)) for name, counts in watched.operations.items())
    return ConversionReport(
        tuple(layers), connections, _relative(output / steps - target, target), steps, n, energy or EnergyModel()
    )


def _layer(
    name: str, module: str, neuron: ConvertedNeuron, a: Tensor, seen: "_Seen", upper: float | None, steps: int
) -> LayerReport:
    theta, most = neuron.threshold, float(getattr(neuron.node, "gamma", getattr(neuron.node, "levels", 1)))
    given = (seen.current / steps + neuron.offset).clamp(min=0.0, max=upper)
    clipped = torch.minimum(given, theta * most)
    levels = torch.floor(clipped * steps / theta + neuron.initial).clamp(min=0.0).clamp(max=most * steps)
    rounded = levels * theta / steps
    sent = seen.output / steps
    parts = (given - a, clipped - given, rounded - clipped, sent - rounded)
    inherited, clipping, quantisation, unevenness = (_relative(part, a) for part in parts)
    spikes = float(seen.spikes)
    rate = spikes / (a.numel() * steps)
    error = _relative(sent - a, a)
    return LayerReport(name, module, error, inherited, clipping, quantisation, unevenness, rate, spikes / len(a))


def _relative(difference: Tensor, wanted: Tensor) -> float:
    return float(difference.square().sum() / wanted.square().sum().clamp(min=1e-24))


@dataclass
class _Seen:
    """Sums over time of a layer's current and output, ``[N, ...]``, and its number of spikes."""

    current: Tensor
    output: Tensor
    spikes: Tensor


class _Activity(fx.Interpreter):
    """Runs a spiking network in chunks of time and adds up what its layers receive and send."""

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__(program)
        self.layers: dict[str, _Seen] = {}
        self.operations: dict[str, list[float]] = {}
        self.first = True
        self._moving = _reached(n for n in program.graph.nodes if n.op == "call_module" or n.target is tile)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op == "call_module":
            module = self.submodules[n.target]
            if isinstance(module, ConvertedNeuron):
                x, steps = self.fetch_args_kwargs_from_env(n)[0]
                self._neurons(n.name, module, x, value, steps)
        elif n.op == "call_function" and op_name(n) in _CONNECTIONS:
            self._connection(n)
        return value

    def _neurons(self, name: str, neuron: ConvertedNeuron, x: Tensor, y: Tensor, steps: int) -> None:
        y = y.unflatten(0, (steps, -1))
        seen = _Seen(x.unflatten(0, (steps, -1)).sum(0), y.sum(0), (y / neuron.threshold).abs().sum())
        old = self.layers.get(name)
        if old is not None:
            seen = _Seen(old.current + seen.current, old.output + seen.output, old.spikes + seen.spikes)
        self.layers[name] = seen

    def _connection(self, n: fx.Node) -> None:
        still = n not in self._moving
        if still and not self.first:
            return  # computed once for all steps
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        data, weight = _CONNECTIONS[op_name(n)]
        if not all(isinstance(args[i], Tensor) for i in (data, weight)):
            return
        calls: list[Any] = [
            torch.zeros_like(a) if isinstance(a, Tensor) and i not in (data, weight) else a for i, a in enumerate(args)
        ]
        calls[weight] = torch.ones_like(args[weight])
        target: Any = n.target

        def count(x: Tensor) -> float:
            calls[data] = (x != 0).to(x.dtype)
            return float(target(*calls, **kwargs).sum(dtype=torch.float64))

        counts = self.operations.setdefault(n.name, [0.0, 0.0, 0.0])
        dense = count(torch.ones_like(args[data])) if self.first else 0.0
        if still:
            counts[0] += dense
        else:
            counts[1] += count(args[data])
        if self.first:
            folded = 1 if still else args[data].shape[0] // self._samples
            counts[2] += dense / folded

    def run(self, *args: Any, **kwargs: Any) -> Any:
        self._samples = len(args[0])
        return super().run(*args, **kwargs)


def _reached(sources: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes themselves and all that follow from them."""
    found: set[fx.Node] = set()
    left = list(sources)
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += list(node.users)
    return found

"""A network as a NIR graph."""

import copy
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx, nn

from snn_base import StepModule, reset_net, set_step_mode
from snn_convert.nir_from_layers import layer_node
from snn_convert.nir_from_neurons import Units, neuron_node
from snn_convert.nir_graph import Edge, NIRNetwork
from snn_convert.nir_layers import PASSED_ON
from snn_convert.nir_units import NIRError, load_nir
from snn_convert.spiking_model import SpikingModel
from snn_layers import Dropout, Dropout1d, Dropout2d, Dropout3d, MultiStep, TimeFold
from snn_neurons import RecurrentLIFNode

_PASSED_ON = (*PASSED_ON, Dropout, Dropout1d, Dropout2d, Dropout3d)
Integrate = Literal["step", "seconds"]


def to_nir(
    net: nn.Module,
    example: tuple[int, ...] | Tensor,
    *,
    dt: float = 1e-4,
    integrate: Integrate = "step",
    exact_threshold: bool = False,
    extensions: bool = False,
) -> Any:
    """The ``nir.NIRGraph`` of a network, which is left as it was; ``nir.write`` makes a file of it.

    Containers are taken apart, other modules are traced by ``torch.fx``; sums of branches become several edges. Dropout
    and identities have no node.

    Args:
        net: the network.
        example: shape of one sample at one step, without time and batch; or one step ``[N, ...]``.
        dt: seconds of one step.
        integrate: what ``r`` of IF and I, which have no time constant, multiplies: the input of one ``"step"`` as in
            snnTorch, Norse and sinabs, or its time integral in ``"seconds"``.
        exact_threshold: write thresholds one float32 number lower: NIR's ``v > threshold`` is then ``v >= threshold``.
        extensions: write soft resets and initial membranes as metadata, which `from_nir` reads and others ignore.

    Raises:
        NIRError: what NIR cannot express, all of it, by name.
        ImportError: nir is missing.
        ValueError: ``dt`` is not positive, or ``integrate`` is unknown.
    """
    nir = load_nir()
    if not dt > 0:
        raise ValueError(f"to_nir: dt must be a positive number of seconds, got {dt}")
    if integrate not in ("step", "seconds"):
        raise ValueError(f"to_nir: integrate must be 'step' or 'seconds', got {integrate!r}")
    shape = tuple(int(n) for n in (example.shape[1:] if isinstance(example, Tensor) else example))
    writer = Writer(Units(dt, integrate == "seconds", exact_threshold, extensions))
    writer.nodes["input"] = nir.Input(np.array(shape))
    value = writer.write(net, "", Value(("input",), shape))
    if writer.problems:
        raise NIRError("NIR cannot express:\n" + "\n".join(f"  {problem}" for problem in writer.problems))
    writer.nodes["output"] = nir.Output(np.array(value.shape))
    writer.edges += [(source, "output") for source in value.sources]
    # The types are set already, and nir infers others for groups and for kernels that are not square.
    return nir.NIRGraph(writer.nodes, writer.edges, type_check=False)


class Value:
    """A tensor of the network: the sum of the outputs of nodes, and the shape of one sample."""

    def __init__(self, sources: tuple[str, ...], shape: tuple[int, ...]) -> None:
        self.sources, self.shape = sources, shape


class Writer:
    """Collects nodes, edges, and what has no node."""

    def __init__(self, units: Units) -> None:
        self.units = units
        self.nodes: dict[str, Any] = {}
        self.edges: list[Edge] = []
        self.problems: list[str] = []

    def write(self, module: nn.Module, name: str, value: Value) -> Value:
        """Add what ``module`` does to ``value``."""
        if isinstance(module, SpikingModel):
            from snn_convert.nir_converted import write_program

            written: Value = write_program(self, module, name, value)
            return written
        if isinstance(module, MultiStep | TimeFold):
            return self.write(module.module, name, value)
        if isinstance(module, NIRNetwork):
            return self._network(module, name, value)
        if isinstance(module, nn.Sequential):
            for key, child in module.named_children():
                value = self.write(child, f"{name}_{key}" if name else key, value)
            return value
        if isinstance(module, _PASSED_ON):
            return value
        return self._leaf(module, name, value)

    def _leaf(self, module: nn.Module, name: str, value: Value) -> Value:
        owner = type(module).__name__
        found: list[str] = []
        node = neuron_node(module, value.shape, self.units, found)
        known = node is not None or bool(found)
        after = value.shape
        if not known:
            try:
                after = _shape_after(module, value.shape)
            except (RuntimeError, ValueError, TypeError) as error:
                self.problems.append(f"{name or 'the network'} ({owner}): it does not run on {value.shape}: {error}")
                return value
            node = layer_node(module, value.shape, after, self.units.dt, found)
            known = node is not None or bool(found)
        if known:
            self.problems += [f"{name or 'the network'} ({owner}): {problem}" for problem in found]
            if node is None:
                return Value(value.sources, after)
            if isinstance(module, RecurrentLIFNode):
                return self._recurrent(module, name, node, value)
            return self.add(name or owner.lower(), node, value, after)
        if isinstance(module, StepModule) or not list(module.children()):
            self.problems.append(f"{name or 'the network'} ({owner}): NIR has no such node")
            return Value(value.sources, after)
        return self._traced(module, name, value, after)

    def add(self, name: str, node: Any, value: Value, shape: tuple[int, ...]) -> Value:
        """Add a node with an edge from each source."""
        name = self.free(name)
        self.nodes[name] = node
        self.edges += [(source, name) for source in value.sources]
        return Value((name,), shape)

    def free(self, name: str) -> str:
        """``name``, or one like it that no node has."""
        while name in self.nodes or name in ("input", "output"):
            name += "_"
        return name

    def plus(self, a: Value, b: Value, name: str) -> Value:
        """The sum of two values; a node can have only one edge from another, so a doubled source gets a node."""
        if set(a.sources) & set(b.sources):
            b = self.add(name, load_nir().Scale(np.ones(b.shape)), b, b.shape)
        return Value((*a.sources, *b.sources), a.shape)

    def _recurrent(self, module: RecurrentLIFNode, name: str, node: Any, value: Value) -> Value:
        # Readers look for the two nodes by what is before the dot.
        neurons = self.add(f"{name or 'recurrent'}.lif", node, value, value.shape)
        nir = load_nir()
        node = nir.Linear(module.weight.detach().cpu().numpy().copy())
        weights = self.add(f"{name or 'recurrent'}.w_rec", node, neurons, value.shape)
        self.edges.append((weights.sources[0], neurons.sources[0]))
        return neurons

    def _network(self, module: NIRNetwork, name: str, value: Value) -> Value:
        ends = {"input": value}
        shapes = {source: shape for (source, _), shape in module.delayed.items()}
        late: list[tuple[str, str]] = []
        first: dict[str, str] = {}
        for layer in module._order:
            near = [ends[a] for a in module._sources[layer]]
            known = near[0].shape if near else shapes[next(a for a, b in module.delayed if b == layer)]
            total = Value(tuple(s for v in near for s in v.sources), known)
            before = len(self.nodes)
            ends[layer] = (
                total
                if layer == "output"
                else self.write(module.layers[layer], f"{name}_{layer}" if name else layer, total)
            )
            names = list(self.nodes)[before:]
            first[layer] = names[0] if names else ""
            late += [(a, b) for a, b in module.delayed if b == layer]
        self.edges += [(source, first[b]) for a, b in late for source in ends[a].sources if first[b]]
        return ends["output"]

    def _traced(self, module: nn.Module, name: str, value: Value, after: tuple[int, ...]) -> Value:
        where = f"{name or 'the network'} ({type(module).__name__})"
        try:
            graph = _OneLevel().trace(module)
        except Exception as error:  # whatever its own Python does with the tracer's stand-ins
            self.problems.append(f"{where}: its forward cannot be traced: {error}")
            return Value(value.sources, after)
        values: dict[fx.Node, Value] = {}
        for node in graph.nodes:
            given = [values[n] for n in node.all_input_nodes if n in values]
            if node.op == "placeholder":
                values[node] = value
            elif node.op == "output":
                return given[0]
            elif node.op == "call_module" and len(given) == 1:
                child = module.get_submodule(node.target)
                path = node.target.replace(".", "_")
                values[node] = self.write(child, f"{name}_{path}" if name else path, given[0])
            elif _is(node, "add") and len(node.args) == 2 and all(isinstance(a, fx.Node) for a in node.args):
                path = f"{name}_{node.name}" if name else node.name
                values[node] = self.plus(values[node.args[0]], values[node.args[1]], path)
            elif _is(node, "flatten"):
                start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
                end = node.args[2] if len(node.args) > 2 else node.kwargs.get("end_dim", -1)
                flatten = nn.Flatten(start, end)
                values[node] = self.write(flatten, f"{name}_{node.name}" if name else node.name, given[0])
            else:
                self.problems.append(f"{where}: the operation {node.name} ({node.target})")
                return Value(value.sources, after)
        return value


class _OneLevel(fx.Tracer):
    """Traces a module's own forward; the modules inside are leaves."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _is(node: fx.Node, operation: str) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and name == operation


@torch.no_grad()
def _shape_after(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one sample after ``module``, from a copy run on zeros."""
    trial = copy.deepcopy(module).eval()
    reset_net(trial)
    set_step_mode(trial, "s")
    like: Any = next((t for t in (*trial.parameters(), *trial.buffers()) if t.is_floating_point()), torch.zeros(()))
    y = trial(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    if not isinstance(y, Tensor):
        raise TypeError(f"it returns {type(y).__name__}, not one tensor")
    return tuple(y.shape[1:])

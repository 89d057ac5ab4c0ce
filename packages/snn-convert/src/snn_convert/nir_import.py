"""A NIR graph as a network."""

from os import PathLike, fspath
from typing import Any

import numpy as np
from torch import nn

from snn_base import set_step_mode
from snn_convert.nir_export import Integrate
from snn_convert.nir_graph import Edge, NIRNetwork, closing_edges
from snn_convert.nir_to_modules import Reading, module_of
from snn_convert.nir_units import NIRError, load_nir
from snn_layers import SpikingSequential
from snn_neurons import LIFNode, RecurrentLIFNode

_STATELESS = ("Linear", "Affine", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Flatten", "Scale", "Threshold")


def from_nir(
    graph: Any,
    *,
    dt: float,
    integrate: Integrate = "step",
    soft_reset: bool = False,
    exact_threshold: bool = False,
    surrogate: Any = None,
    step_mode: Any = "s",
) -> SpikingSequential | NIRNetwork:
    """The network that computes steps of ``dt`` of a graph: a `SpikingSequential` for a chain, else a `NIRNetwork`.

    An edge that closes a cycle carries the value of the step before. LIF neurons with a linear map back to them become
    a `RecurrentLIFNode`.

    Args:
        graph: ``nir.NIRGraph``, or the path of a file.
        dt: seconds of one step; snnTorch writes for 1e-4, Norse for 1e-3.
        integrate: see `to_nir`.
        soft_reset: let all neurons subtract their threshold, as those of sinabs and snnTorch do by default though a
            graph cannot say so.
        exact_threshold: read thresholds one float32 number higher: ``v >= threshold`` is then NIR's ``v > threshold``.
        surrogate: the neurons' surrogate, which NIR does not have; theirs by default.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        NIRError: what has no counterpart, all of it, by name.
        ImportError: nir is missing.
        ValueError: ``dt`` is not positive, or ``integrate`` is unknown.
    """
    nir = load_nir()
    if not dt > 0:
        raise ValueError(f"from_nir: dt must be a positive number of seconds, got {dt}")
    if integrate not in ("step", "seconds"):
        raise ValueError(f"from_nir: integrate must be 'step' or 'seconds', got {integrate!r}")
    if isinstance(graph, str | PathLike):
        # nir's check knows neither groups nor kernels that are not square.
        graph = nir.read(fspath(graph), type_check=False)
    nodes, edges = _flat(nir, graph)
    reading = Reading(dt, integrate == "seconds", exact_threshold, soft_reset, surrogate)
    layers: dict[str, nn.Module] = {}
    problems: list[str] = []
    for name, node in nodes.items():
        try:
            layers[name] = module_of(node, reading)
        except NIRError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise NIRError("from_nir cannot run:\n" + "\n".join(f"  {problem}" for problem in problems))
    edges = _merge_recurrent(nir, nodes, layers, edges)
    names = {name: name.replace(".", "_") for name in layers}
    if len(set(names.values())) < len(names):
        names = {name: f"{i}_{short}" for i, (name, short) in enumerate(names.items())}
    layers = {names[name]: layer for name, layer in layers.items()}
    nodes = {names.get(name, name): node for name, node in nodes.items()}
    edges = [(names.get(a, a), names.get(b, b)) for a, b in edges]
    chain = _chain(edges, len(layers))
    if chain is None:
        return NIRNetwork(layers, edges, _delayed(nodes, layers, edges), step_mode=step_mode)
    net = SpikingSequential(step_mode=step_mode)
    for name in chain:
        net.add_module(name, layers[name])
    set_step_mode(net, step_mode)
    return net


def _flat(nir: Any, graph: Any) -> tuple[dict[str, Any], list[Edge]]:
    """Nodes and edges without inner graphs; the outer ends are called ``input`` and ``output``."""
    nodes, edges = _inlined(nir, graph, "")
    inputs = [n for n, node in nodes.items() if isinstance(node, nir.Input)]
    outputs = [n for n, node in nodes.items() if isinstance(node, nir.Output)]
    if len(inputs) != 1 or len(outputs) != 1:
        raise NIRError(f"from_nir: the graph must have one input and one output, it has {inputs} and {outputs}")
    ends = {inputs[0]: "input", outputs[0]: "output"}
    clash = {n: f"{n}_" for n in nodes if n in ("input", "output") and n not in ends}
    ends |= clash
    kept = {ends.get(n, n): node for n, node in nodes.items() if n not in (inputs[0], outputs[0])}
    return kept, [(ends.get(a, a), ends.get(b, b)) for a, b in edges]


def _inlined(nir: Any, graph: Any, prefix: str) -> tuple[dict[str, Any], list[Edge]]:
    nodes: dict[str, Any] = {}
    edges: list[Edge] = []
    begins: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph):
            nodes[prefix + name] = node
            continue
        inner, links = _inlined(nir, node, f"{prefix}{name}.")
        entry = {n for n, v in inner.items() if isinstance(v, nir.Input)}
        leaving = {n for n, v in inner.items() if isinstance(v, nir.Output)}
        nodes |= {n: v for n, v in inner.items() if n not in entry | leaving}
        edges += [(a, b) for a, b in links if a not in entry and b not in leaving]
        begins[prefix + name] = [b for a, b in links if a in entry]
        ends[prefix + name] = [a for a, b in links if b in leaving]
    for a, b in graph.edges:
        sources = ends.get(prefix + a, [prefix + a])
        edges += [(s, t) for s in sources for t in begins.get(prefix + b, [prefix + b])]
    return nodes, list(dict.fromkeys(edges))


def _merge_recurrent(nir: Any, nodes: dict[str, Any], layers: dict[str, nn.Module], edges: list[Edge]) -> list[Edge]:
    for name in list(layers):
        node, layer = nodes[name], layers[name]
        if not isinstance(node, nir.Linear):
            continue
        before, after = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
        neuron = layers.get(before[0]) if before and before == after else None
        if type(neuron) is not LIFNode or len(before) != 1:
            continue
        options = {k: getattr(neuron, k) for k in ("v_threshold", "v_reset", "surrogate")}
        made = RecurrentLIFNode(node.weight.shape[0], neuron.tau, neuron.decay_input, **options)
        made.weight = layer.weight  # type: ignore[assignment]
        target = before[0]
        edges = [(a, b) for a, b in edges if name not in (a, b)]
        short = target.removesuffix(".lif")
        place = target if short in nodes else short
        renamed = {(place if n == target else n): (made if n == target else m) for n, m in layers.items() if n != name}
        layers.clear()
        layers.update(renamed)
        nodes[place] = nodes[target]
        edges = [(place if a == target else a, place if b == target else b) for a, b in edges]
    return edges


def _chain(edges: list[Edge], size: int) -> list[str] | None:
    after: dict[str, str] = {}
    for a, b in edges:
        if a in after:
            return None
        after[a] = b
    found: list[str] = []
    name = after.get("input", "output")
    while name != "output" and name in after and name not in found:
        found.append(name)
        name = after[name]
    return found if name == "output" and len(found) == size else None


def _delayed(nodes: dict[str, Any], layers: dict[str, nn.Module], edges: list[Edge]) -> dict[Edge, tuple[int, ...]]:
    """The edges that close cycles, moved before the stateless layers on the way back: a bias acts at the first step."""
    found: dict[Edge, tuple[int, ...]] = {}
    for source, target in closing_edges(edges, "input"):
        a, b = source, target
        while type(nodes[a]).__name__ in _STATELESS:
            before = [p for p, n in edges if n == a]
            if len(before) != 1 or sum(p == a for p, _ in edges) != 1 or before[0] == "input":
                break
            a, b = before[0], a
        found[(a, b)] = _shape(nodes, layers, a, b)
    return found


def _shape(nodes: dict[str, Any], layers: dict[str, nn.Module], source: str, target: str) -> tuple[int, ...]:
    """Of one sample of the value on an edge."""
    after = layers[target]
    if isinstance(after, nn.Linear):
        return (after.in_features,)
    for types in (nodes[source].output_type, nodes[target].input_type):
        shape = next(iter((types or {}).values()), None)
        if shape is not None and np.size(shape):
            return tuple(int(n) for n in np.asarray(shape).reshape(-1))
    raise NIRError(f"from_nir: the shape of the value from {source} to {target}, which closes a cycle, is not given")

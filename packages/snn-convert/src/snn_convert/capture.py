"""A model as one graph of functional ATen operations, with the place in the source of each."""

import copy
import warnings
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn


class CaptureError(RuntimeError):
    """The model could not be turned into a graph."""


def capture(model: "nn.Module | torch.export.ExportedProgram", example: Tensor) -> fx.GraphModule:
    """Return a copy of ``model`` in eval mode as a graph of ATen operations for any batch size.

    ``torch.export`` traces it where it can; otherwise ``torch.fx`` does first, which takes models that the former
    refuses for their Python.

    Args:
        model: takes one tensor and returns one tensor; left untouched. A program that was exported already, of a model
            in eval mode and for any batch size, is taken as it is.
        example: an input ``[N, ...]``.

    Raises:
        CaptureError: neither can trace the model; both reasons are given.
    """
    if isinstance(model, torch.export.ExportedProgram):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's remarks on its own use of its pytrees
            return from_program(copy.deepcopy(model).run_decompositions({}))
    twin = copy.deepcopy(model).eval()
    x = example if example.shape[0] > 1 else example.repeat(2, *([1] * (example.dim() - 1)))
    try:
        return _export(twin, x)
    except Exception as first:
        try:
            return _export(fx.symbolic_trace(twin), x)
        except Exception as second:
            raise CaptureError(
                f"{type(model).__name__} cannot be captured: torch.export says {_brief(first)}; torch.fx says "
                f"{_brief(second)}. Remove control flow that depends on data from forward"
            ) from first


def capture_original(
    model: "nn.Module | torch.export.ExportedProgram", example: Tensor, neurons: Collection[str]
) -> fx.GraphModule:
    """`capture` of the model that a spiking network with ``neurons`` was made from.

    Raises:
        CaptureError: see `capture`.
        ValueError: the model has no activation of the name of one of the neurons.
    """
    network = capture(model, example)
    missing = sorted(set(neurons) - {node.name for node in network.graph.nodes})
    if missing:
        raise ValueError(f"snn was not converted from model, which has no {', '.join(missing)}")
    return network


def _export(model: nn.Module, x: Tensor) -> fx.GraphModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's remarks on its own use of its pytrees
        program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False)
        # In-place operations become functional, so that every value in the graph is what its operation returned.
        return from_program(program.run_decompositions({}))


def from_program(program: "torch.export.ExportedProgram") -> fx.GraphModule:
    """The graph of an exported program, without the checks of its inputs."""
    unlifted: Any = program.module
    try:
        return unlifted(check_guards=False)  # type: ignore[no-any-return]
    except TypeError:  # before PyTorch 2.9 there were none
        return unlifted()  # type: ignore[no-any-return]


class Values(fx.Interpreter):
    """Runs a captured network and keeps the values of some of its nodes, by name."""

    def __init__(self, network: fx.GraphModule, names: set[str]) -> None:
        super().__init__(network)
        self.names, self.values = names, dict[str, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.names:
            self.values[n.name] = value
        return value


def module_path(node: fx.Node) -> str:
    """Qualified name of the module whose forward made the node, or ``""``."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def source_line(node: fx.Node) -> str:
    """The last line of the user's source that led to the node, as ``file:line``, or ``""``."""
    for line in reversed((node.meta.get("stack_trace") or "").splitlines()):
        text = line.strip()
        if text.startswith('File "') and "/torch/" not in text:
            name, number = text[6:].split('", line ')
            return f"{name}:{number.split(',')[0]}"
    return ""


def _brief(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

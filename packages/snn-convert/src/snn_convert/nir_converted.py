"""The program of a converted network as NIR nodes."""

from typing import Any

import torch
from torch import Tensor, fx, nn

from snn_convert.neuron import ConvertedNeuron
from snn_convert.nir_layers import Scale
from snn_convert.spiking_model import SpikingModel
from snn_convert.support import op_name
from snn_neurons import IFNode


def write_program(writer: Any, model: SpikingModel, name: str, value: Any) -> Any:
    """Add one step of the program; the input of the graph is the model's input, the same at every step.

    Neurons of threshold 1 behind a division by theta become neurons of threshold theta and a `Scale` by theta; a
    correction of their current goes into the bias before them.

    Args:
        writer: the `nir_export.Writer`.
        model: the converted network.
        name, value: see `Writer.write`.
    """
    return _Program(writer, model.program, name).run(value)


class _Program:
    def __init__(self, writer: Any, program: fx.GraphModule, name: str) -> None:
        self.writer, self.program, self.name = writer, program, name
        self.values: dict[fx.Node, Any] = {}
        self.constants: dict[fx.Node, Tensor] = {}

    def run(self, value: Any) -> Any:
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                if not self.values:
                    self.values[node] = value
            elif node.op == "get_attr":
                self.constants[node] = _attribute(self.program, str(node.target))
            elif node.op == "output":
                return self.values.get(node.args[0], value)
            elif node.op == "call_module":
                self._neuron(node)
            elif node.args and any(n in self.values for n in node.all_input_nodes):
                self._operation(node)
        return value

    def _path(self, node: fx.Node) -> str:
        return f"{self.name}_{node.name}" if self.name else node.name

    def _problem(self, node: fx.Node, what: str) -> None:
        self.writer.problems.append(f"{self._path(node)}: {what}")

    def _write(self, node: fx.Node, module: nn.Module, suffix: str = "") -> None:
        source = self.values[node.args[0]]  # type: ignore[index]
        self.values[node] = self.writer.write(module, self._path(node) + suffix, source)

    def _neuron(self, node: fx.Node) -> None:
        module = self.program.get_submodule(str(node.target))
        source: Any = node.args[0]
        self.values[node] = self.values[source]
        if not isinstance(module, ConvertedNeuron) or type(module.node) is not IFNode:
            kind = type(module.node if isinstance(module, ConvertedNeuron) else module).__name__
            self._problem(node, f"{kind}: NIR has no such node")
            return
        if bool(module.offset.any()):
            self._add_bias(node, source, module.offset)
        theta = module.threshold
        reset = None if module.node.v_reset is None else theta * module.node.v_reset
        neuron = IFNode(v_threshold=theta, v_reset=reset)
        neuron.set_initial_memory("v", module.initial * theta)
        self.values[node] = self.writer.write(neuron, self._path(node), self.values[source])
        if bool((theta != 1).any()):
            self.values[node] = self.writer.write(Scale(theta), f"{self._path(node)}_scale", self.values[node])

    def _add_bias(self, node: fx.Node, source: fx.Node, offset: Tensor) -> None:
        while op_name(source) == "tile":
            source = source.args[0]  # type: ignore[assignment]
        names = self.values[source].sources
        before = self.writer.nodes.get(names[0]) if len(names) == 1 else None
        if before is None or getattr(before, "bias", None) is None or len(source.users) != 1:
            self._problem(node, "a correction of its current without a bias before it")
            return
        before.bias = before.bias + offset.detach().cpu().reshape(-1).expand(len(before.bias)).numpy()
        before.metadata = {}

    def _operation(self, node: fx.Node) -> None:
        operation = op_name(node)
        args: list[Any] = [self.constants.get(a, a) if isinstance(a, fx.Node) else a for a in node.args]
        if operation in ("sym_size", "size"):
            return
        if operation == "tile":
            self.values[node] = self.values[node.args[0]]  # type: ignore[index]
        elif operation == "linear":
            self._write(node, _with_weights(nn.Linear(1, 1), args[1], args[2] if len(args) > 2 else None))
        elif operation in ("conv1d", "conv2d"):
            self._write(node, _convolution(args))
        elif operation == "avg_pool2d":
            self._write(node, nn.AvgPool2d(*args[1:]))
        elif operation == "adaptive_avg_pool2d":
            self._write(node, nn.AdaptiveAvgPool2d(args[1]))
        elif operation in ("view", "reshape") and len(args[1]) == 2:
            self._write(node, nn.Flatten())
        elif operation == "flatten":
            self._write(node, nn.Flatten(*args[1:]))
        elif operation == "add" and len(args) == 2 and all(a in self.values for a in node.args):
            self.values[node] = self.writer.plus(*(self.values[a] for a in node.args), self._path(node))  # type: ignore[index]
        else:
            self._problem(node, f"the operation {operation}")
            self.values[node] = next(self.values[n] for n in node.all_input_nodes if n in self.values)


def _attribute(root: nn.Module, name: str) -> Tensor:
    value: Any = root
    for part in name.split("."):
        value = getattr(value, part)
    tensor: Tensor = value
    return tensor


def _with_weights(module: Any, weight: Tensor, bias: Tensor | None) -> Any:
    module.weight = nn.Parameter(weight.detach().clone())
    # A bias of its own, for corrections to go to.
    module.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias.detach().clone())
    return module


def _convolution(args: list[Any]) -> nn.Module:
    dims = args[1].dim() - 2
    given = dict(zip(("stride", "padding", "dilation", "groups"), args[3:], strict=False))
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    kind: Any = nn.Conv1d if dims == 1 else nn.Conv2d
    channels = args[1].shape[1] * int(options.get("groups", 1))
    made: nn.Module = kind(channels, args[1].shape[0], tuple(args[1].shape[2:]), **options)
    return _with_weights(made, args[1], args[2] if len(args) > 2 else None)  # type: ignore[no-any-return]

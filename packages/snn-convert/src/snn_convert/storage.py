"""Converted networks in one file: safetensors, with the graph as JSON in its header. Nothing is unpickled."""

import hashlib
import json
import math
import operator
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, fx, nn

from snn_base import MemoryModule
from snn_convert.neuron import ConvertedNeuron, CumulativeMaximum, FoldedMaximum, GradedIFNode
from snn_convert.spiking_model import SpikingModel
from snn_convert.unroll import Operation, attach, repeats, tile
from snn_layers import SpikeMaxPool
from snn_neurons import BurstNode, IFNode, SignedIFNode

_FORMAT = "snn_convert.SpikingModel"
_VERSION = 1
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "tile": tile,
    "repeats": repeats,
    **{n: getattr(operator, n) for n in ("getitem", "add", "sub", "mul", "floordiv", "truediv", "mod", "neg")},
    "sym_int": torch.sym_int,
}
_NAMESPACES = ("aten", "snn_convert")
_KINDS: dict[str, type] = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}
# The arguments that a neuron was made with, by its class.
_NEURONS: dict[type, tuple[str, ...]] = {
    IFNode: ("v_reset",),
    BurstNode: ("gamma", "v_reset"),
    SignedIFNode: (),
    GradedIFNode: ("levels",),
}


class ModelFileError(ValueError):
    """A file is not a converted network, or not a whole one."""


def save(snn: SpikingModel, path: str | os.PathLike[str]) -> None:
    """Write a converted network to one file, which `load` reads without the class of the original.

    The file is complete or not there: it is written beside ``path`` and then moved.

    Args:
        snn: the network; memories are not saved.
        path: the file, by custom ``.safetensors``.

    Raises:
        TypeError: it has a neuron of the user's own, whose class a file cannot hold.
    """
    tensors: dict[str, Tensor] = {}
    layers = {n: _describe(n, m, tensors) for n, m in snn.program.named_children() if _is_layer(m)}
    description = {
        "timesteps": snn.timesteps,
        "readout": snn.readout,
        "chunk": snn.chunk,
        "parameters": [name for name, _ in snn.program.named_parameters()],
        "modules": layers,
        "graph": [_node(node) for node in snn.program.graph.nodes],
    }
    inside = tuple(f"{name}." for name in layers)
    for name, tensor in (*snn.program.named_parameters(), *snn.program.named_buffers()):
        if not name.startswith(inside) or name.endswith((".threshold", ".offset")):
            tensors[name] = tensor
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(description)
    header = {"format": _FORMAT, "version": str(_VERSION), "description": text, "sha256": _digest(text, copies)}
    target = Path(path)
    handle, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    os.close(handle)
    try:
        save_file(copies, part, header)
        os.chmod(part, 0o644)
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise


def load(path: str | os.PathLike[str]) -> SpikingModel:
    """Read a network that `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: the file is damaged, cut short, or something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(f"{path} is no whole safetensors file: {error}") from error
    if header.get("format") != _FORMAT:
        raise ModelFileError(f"{path} is a safetensors file, but not of a converted network")
    if header.get("version") != str(_VERSION):
        raise ModelFileError(f"{path} has version {header.get('version')} of the format; this release reads {_VERSION}")
    if header.get("sha256") != _digest(header.get("description", ""), tensors):
        raise ModelFileError(f"{path} is damaged: its content is not what was written")
    try:
        return _model(json.loads(header["description"]), tensors)
    except Exception as error:  # a file of someone else's making may describe anything
        raise ModelFileError(f"{path} describes no network that can be built: {error}") from error


def _digest(description: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, ConvertedNeuron | FoldedMaximum)


def _describe(name: str, module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if isinstance(module, ConvertedNeuron):
        node, initial = module.node, module.initial
        if type(node) not in _NEURONS:
            raise TypeError(
                f"save: {name} is a {type(node).__name__}, a neuron of its own class, which a file cannot hold; save "
                "state_dict() and convert again, or use one of " + ", ".join(n.__name__ for n in _NEURONS)
            )
        if isinstance(initial, Tensor):
            tensors[f"{name}.initial"] = initial
        options = {option: getattr(node, option) for option in _NEURONS[type(node)]}
        kept = None if isinstance(initial, Tensor) else initial
        return {"neuron": type(node).__name__, "options": options, "initial": kept}
    assert isinstance(module, FoldedMaximum)
    pooling = module.cumulative
    if isinstance(pooling, CumulativeMaximum) and isinstance(pooling.maximum, Operation):
        operation = pooling.maximum
        call = [_target(operation.target), _value(operation.args), _value(operation.kwargs), operation.item]
        return {"maximum": call}
    if isinstance(pooling, SpikeMaxPool):
        return {"spike_maximum": [pooling.kernel_size, pooling.stride, pooling.padding]}
    raise TypeError(f"save: {name} pools by {type(pooling).__name__}, a class of its own, which a file cannot hold")


def _layer(name: str, given: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    if "neuron" in given:
        kinds = {kind.__name__: kind for kind in _NEURONS}
        node: MemoryModule = kinds[given["neuron"]](**given["options"], step_mode="m")
        initial = tensors.pop(f"{name}.initial", given["initial"])
        neuron = ConvertedNeuron(node, tensors.pop(f"{name}.threshold"), initial)
        neuron.offset = tensors.pop(f"{name}.offset")
        return neuron
    if "maximum" in given:
        target, args, kwargs, item = given["maximum"]
        operation = Operation(_function(target), tuple(_read(args, {})), _read(kwargs, {}), item)
        return FoldedMaximum(CumulativeMaximum(operation))
    kernel, stride, padding = (tuple(v) if isinstance(v, list) else v for v in given["spike_maximum"])
    return FoldedMaximum(SpikeMaxPool(kernel, stride, padding, step_mode="m"))


def _model(description: dict[str, Any], tensors: dict[str, Tensor]) -> SpikingModel:
    root = nn.Module()
    for name, given in description["modules"].items():
        root.add_module(name, _layer(name, given, tensors))
    learned = set(description["parameters"])
    for name, tensor in tensors.items():
        attach(root, name, nn.Parameter(tensor) if name in learned else tensor)
    graph, nodes = fx.Graph(), dict[str, fx.Node]()
    for name, op, target, args, kwargs in description["graph"]:
        called = _function(target) if op == "call_function" else target
        nodes[name] = graph.create_node(op, called, tuple(_read(args, nodes)), _read(kwargs, nodes), name)
    graph.lint()
    snn = SpikingModel(
        fx.GraphModule(root, graph), description["timesteps"], description["readout"], description["chunk"]
    )
    return snn.eval()


def _node(node: fx.Node) -> list[Any]:
    target = _target(node.target) if node.op == "call_function" else node.target
    return [node.name, node.op, target, _value(node.args), _value(node.kwargs)]


def _target(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload) and target.namespace in _NAMESPACES:
        return f"{target.namespace}.{target._schema.name.split('::')[1]}.{target._overloadname}"
    for name, function in _FUNCTIONS.items():
        if target is function:
            return name
    raise TypeError(f"save: the operation {target} cannot be written to a file")


def _function(name: str) -> Callable[..., Any]:
    if name in _FUNCTIONS:
        return _FUNCTIONS[name]
    namespace, op, overload = name.split(".")
    if namespace not in _NAMESPACES:
        raise ValueError(f"unknown operation {name}")
    return getattr(getattr(getattr(torch.ops, namespace), op), overload)  # type: ignore[no-any-return]


def _value(value: Any) -> Any:
    """A JSON form of an argument; whatever is not plain is a dict with one key."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, dict):
        return {"dict": {key: _value(v) for key, v in value.items()}}
    if isinstance(value, slice):
        return {"slice": [_value(v) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, list | tuple):
        return [_value(v) for v in value]
    for kind, cls in _KINDS.items():
        if isinstance(value, cls):
            return {kind: str(value).removeprefix("torch.")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"save: an argument of type {type(value).__name__} cannot be written to a file")


def _read(value: Any, nodes: dict[str, fx.Node]) -> Any:
    if isinstance(value, list):
        return [_read(v, nodes) for v in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "node":
        return nodes[content]
    if kind == "dict":
        return {key: _read(v, nodes) for key, v in content.items()}
    if kind == "slice":
        return slice(*[_read(v, nodes) for v in content])
    if kind == "device":
        return torch.device(content)
    if kind == "float":
        return float(content)
    found = getattr(torch, content)
    if not isinstance(found, _KINDS[kind]):
        raise ValueError(f"{content} is no {kind}")
    return found

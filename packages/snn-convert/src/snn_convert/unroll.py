"""From the graph of a network to the graph of its spiking twin over many time steps."""

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, fx, nn

from snn_base import MemoryModule
from snn_convert.neuron import CumulativeMaximum, FoldedMaximum
from snn_convert.support import classify, data_nodes, op_name
from snn_layers import SpikeMaxPool


def tile(x: Tensor, steps: int) -> Tensor:
    """Repeat a value that is the same at every step: ``[N, ...] -> [steps N, ...]``."""
    return x.unsqueeze(0).expand(steps, *x.shape).flatten(0, 1)


def repeats(size: int, steps: int) -> int:
    """Size of the batch with time folded into it."""
    return size * steps


def pieces(steps: int, most: int) -> Iterator[int]:
    """The lengths of the pieces, at most ``most`` each, in which ``steps`` are run."""
    for start in range(0, steps, most):
        yield min(most, steps - start)


def worth_at_once(x: Tensor) -> int:
    """How many samples, times steps, to compute at once: on a CPU what about fits its cache, else many."""
    return 64 if x.device.type == "cpu" else 4096


def unroll(
    network: fx.GraphModule,
    neurons: Mapping[str, nn.Module],
    maximum: Callable[["Operation"], MemoryModule] = CumulativeMaximum,
) -> fx.GraphModule:
    """Return the module ``(x [N, ...], steps) -> [steps N, ...]`` that runs the spiking twin of ``network``.

    What does not depend on a spike, such as the first convolution of a constant input, is computed once and not at
    every step; all else has time folded into the batch.

    Args:
        network: the captured network, all of whose operations are supported.
        neurons: the module that takes the place of each activation, by the name of its node.
        maximum: makes the pooling of spikes ``[T, N, ...]`` of each maximum pooling.
    """
    return _Unroll(network, neurons, maximum).build()


class Operation(nn.Module):
    """One ATen operation with its constant arguments, as a module of its tensor input."""

    def __init__(self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], item: int | None):
        super().__init__()
        self.target, self.args, self.kwargs, self.item = target, args, dict(kwargs), item

    def forward(self, x: Tensor) -> Tensor:
        y: Any = self.target(x, *self.args, **self.kwargs)
        return y if self.item is None else y[self.item]  # type: ignore[no-any-return]


def spike_maximum(operation: Operation) -> MemoryModule:
    """`SpikeMaxPool` for a maximum pooling without dilation, which passes on the spike of the busiest neuron.

    Unlike `CumulativeMaximum` it sends nothing but spikes that it received, and follows the maximum only in the long
    run.

    Raises:
        ValueError: an adaptive pooling, dilation or rounding up, which it does not have.
    """
    name = getattr(operation.target, "_opname", str(operation.target))
    if not name.startswith("max_pool"):
        raise ValueError(f"spike_maximum: {name} has no windows of one size; use the recipe with lateral inhibition")
    dims = int(name[8])
    kernel, stride, padding, dilation, ceil = (*operation.args, *_POOLING_DEFAULTS[len(operation.args) :])
    if any(d != 1 for d in _sizes(dilation, dims)) or ceil:
        raise ValueError(f"spike_maximum: {name} has dilation or ceil_mode; use the recipe with lateral inhibition")
    windows = _sizes(kernel, dims)
    return SpikeMaxPool(windows, _sizes(stride, dims) if stride else windows, _sizes(padding, dims), step_mode="m")


_POOLING_DEFAULTS: tuple[Any, ...] = ([], [], 0, 1, False)  # kernel, stride, padding, dilation, ceil_mode


def _sizes(value: Any, dims: int) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, tuple | list) else (value,)
    return sizes * dims if len(sizes) == 1 else sizes


class _Unroll:
    def __init__(
        self,
        network: fx.GraphModule,
        neurons: Mapping[str, nn.Module],
        maximum: Callable[["Operation"], MemoryModule],
    ) -> None:
        self.network, self.neurons, self.maximum = network, neurons, maximum
        self.data = data_nodes(network)
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.still: dict[fx.Node, Any] = {}  # the value once per sample
        self.moving: dict[fx.Node, Any] = {}  # the value at every step
        self.steps: Any = None

    def build(self) -> fx.GraphModule:
        for name, parameter in self.network.named_parameters():
            attach(self.root, name, nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad))
        for name, buffer in self.network.named_buffers():
            attach(self.root, name, buffer)
        for name, value in vars(self.network).items():  # constants that export lifts are neither
            if isinstance(value, Tensor):
                self.root.register_buffer(name, value)
        placeholders = [n for n in self.network.graph.nodes if n.op == "placeholder"]
        if len(placeholders) != 1:
            raise ValueError(f"the model must take one tensor, it takes {len(placeholders)}")
        x = self.graph.placeholder("x")
        self.steps = self.graph.placeholder("steps")
        for node in self.network.graph.nodes:
            if node.op == "placeholder":
                self.still[node] = x
            elif node.op == "get_attr":
                self.still[node] = self.moving[node] = self.graph.get_attr(node.target)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self.graph.output(self._at_every_step(self._result(node)))
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph)

    def _result(self, node: fx.Node) -> fx.Node:
        results = list(node.all_input_nodes)
        if len(results) != 1:
            raise ValueError(f"the model must return one tensor, it returns {len(results)}")
        return results[0]

    def _at_every_step(self, node: fx.Node) -> Any:
        if node not in self.moving:
            self.moving[node] = self.graph.call_function(tile, (self.still[node], self.steps))
        return self.moving[node]

    def _call(self, node: fx.Node) -> None:
        if node not in self.data:
            self._symbol(node)
            return
        kind, _ = classify(node, self.data)
        spiking = any(n in self.moving and n not in self.still for n in node.all_input_nodes if n in self.data)
        if kind == "dropout":
            source = node.args[0]
            assert isinstance(source, fx.Node)
            for values in (self.still, self.moving):
                if source in values:
                    values[node] = values[source]
        elif kind == "activation":
            source = node.args[0]
            assert isinstance(source, fx.Node)
            self._module(node, self.neurons[node.name], source)
        elif kind == "maximum" and spiking:
            self._maximum(node)
        elif op_name(node) == "getitem" and node.args[0] in self.moving and node.args[0] not in self.still:
            parent = node.args[0]
            assert isinstance(parent, fx.Node)
            if classify(parent, self.data)[0] == "maximum":
                self.moving[node] = self.moving[parent]
            else:
                self.moving[node] = self.graph.call_function(operator.getitem, (self.moving[parent], node.args[1]))
        elif spiking:
            args = fx.map_arg((node.args, node.kwargs), self._at_every_step_or_constant)
            self.moving[node] = self.graph.call_function(node.target, args[0], args[1])  # type: ignore[arg-type]
        else:
            args = fx.map_arg((node.args, node.kwargs), lambda n: self.still[n])
            self.still[node] = self.graph.call_function(node.target, args[0], args[1])  # type: ignore[arg-type]

    def _at_every_step_or_constant(self, node: fx.Node) -> Any:
        return self.moving[node] if node in self.moving else self._at_every_step(node)

    def _symbol(self, node: fx.Node) -> None:
        """Sizes, and tensors made of them: once for the batch and once for the batch with time folded into it."""
        if op_name(node) in ("sym_size", "size") and node.args[0] in self.data:
            source, dim = node.args[0], node.args[1]
            target: Any = node.target
            assert isinstance(source, fx.Node)
            if source in self.still:
                size = self.graph.call_function(target, (self.still[source], dim))
                self.still[node] = size
                self.moving[node] = self.graph.call_function(repeats, (size, self.steps)) if dim == 0 else size
            else:
                self.moving[node] = self.still[node] = self.graph.call_function(
                    target,
                    (self.moving[source], dim),
                )
            return
        for values in (self.still, self.moving):
            args = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = self.graph.call_function(node.target, args[0], args[1])  # type: ignore[arg-type]

    def _maximum(self, node: fx.Node) -> None:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        several = isinstance(node.meta.get("val"), tuple | list)
        operation = Operation(node.target, tuple(node.args[1:]), node.kwargs, 0 if several else None)  # type: ignore[arg-type]
        self._module(node, FoldedMaximum(self.maximum(operation)), source)

    def _module(self, node: fx.Node, module: nn.Module, source: fx.Node) -> None:
        self.root.add_module(node.name, module)
        self.moving[node] = self.graph.call_module(node.name, (self._at_every_step(source), self.steps))


def attach(root: nn.Module, name: str, value: Tensor) -> None:
    """Register a parameter or buffer under a qualified name, with modules on the way to it."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        child = root._modules[part]
        assert child is not None
        root = child
    if isinstance(value, nn.Parameter):
        root.register_parameter(leaf, value)
    else:
        root.register_buffer(leaf, value)

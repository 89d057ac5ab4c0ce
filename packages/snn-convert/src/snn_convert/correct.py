"""Corrections of the spiking network on its own inputs, layer by layer."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from snn_base import reset_net
from snn_convert.neuron import ConvertedNeuron
from snn_convert.unroll import worth_at_once


@torch.no_grad()
def correct(
    network: fx.GraphModule,
    spiking: fx.GraphModule,
    x: Tensor,
    steps: int,
    *,
    bias: bool = True,
    membrane: bool = False,
    rounds: int = 2,
) -> None:
    """Let each neuron's mean output follow the activation it stands for, given what the layers before it really send.

    Bias correction adds to the current of each channel the mean difference of activation and spiking output,
    ``offset <- offset + E[a - mean_t y[t]]``; membrane calibration adds ``T`` times that difference to the initial
    membrane, ``v <- v + T E[a - mean_t y[t]] / theta`` in units of the threshold, kept within [-1, 2]. Layers are
    corrected in order of execution, so that each sees the corrected ones before it.

    Args:
        network: the captured network.
        spiking: its unrolled twin; its neurons are changed in place.
        x: calibration inputs ``[N, ...]``.
        steps: time steps T.
        bias, membrane: which corrections.
        rounds: repetitions per layer, since a corrected current changes the error it was made for.

    Li et al., "A Free Lunch From ANN: Towards Efficient, Accurate Spiking Neural Networks Calibration", ICML 2021,
    arXiv:2106.06984.
    """
    wanted: dict[str, Tensor] = {}

    def note(node: fx.Node, values: list[Any]) -> list[Any]:
        if isinstance(getattr(spiking, node.name, None), ConvertedNeuron):
            wanted[node.name] = _mean(values)
        return values

    def adjust(neuron: ConvertedNeuron, target: Tensor, inputs: Sequence[tuple[Any, ...]]) -> None:
        for _ in range(rounds):
            error = target - _mean([_fresh(neuron, args) for args in inputs])
            if bias:
                neuron.offset = neuron.offset + error
            if membrane:
                start = neuron.initial + steps * error / neuron.threshold
                neuron.set_initial(start.clamp(-1.0, 2.0))

    _in_parts(network, [(part,) for part in x.split(worth_at_once(x))], note)
    parts = [(part, steps) for part in x.split(max(1, worth_at_once(x) // steps))]
    _in_parts(
        spiking, parts, lambda node, values: values, lambda neuron, name, args: adjust(neuron, wanted[name], args)
    )
    reset_net(spiking)


def channel_mean(a: Tensor) -> Tensor:
    """Mean over all dims but the channel, ``[N, C, ...] -> [C, 1, ...]``."""
    dims = [d for d in range(a.dim()) if d != 1]
    return a.mean(dims, keepdim=True).squeeze(0)


def _mean(parts: Sequence[Tensor]) -> Tensor:
    """`channel_mean` of the parts put together."""
    total = sum(len(part) for part in parts)
    return torch.stack([channel_mean(part) * (len(part) / total) for part in parts]).sum(0)


def _fresh(module: torch.nn.Module, args: tuple[Any, ...]) -> Any:
    reset_net(module)
    return module(*args)


def _in_parts(
    program: fx.GraphModule,
    parts: Sequence[tuple[Any, ...]],
    note: Callable[[fx.Node, list[Any]], list[Any]],
    adjust: Callable[[ConvertedNeuron, str, Sequence[tuple[Any, ...]]], None] | None = None,
) -> None:
    """Run a graph node by node for all parts of the input, each small enough to stay in the cache.

    Args:
        program: the graph.
        parts: its arguments for each part.
        note: called with every node and its values.
        adjust: called with every neuron, its name and its arguments, before it runs.
    """
    environments: list[dict[fx.Node, Any]] = [{} for _ in parts]
    left = {node: len(node.users) for node in program.graph.nodes}
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node in program.graph.nodes:
        if node.op == "output":
            return
        if node.op == "placeholder":
            values = [part[placeholders.index(node)] for part in parts]
        elif node.op == "get_attr":
            values = [_attribute(program, node.target)] * len(parts)
        else:
            arguments: list[Any] = [fx.map_arg((node.args, node.kwargs), e.__getitem__) for e in environments]
            if node.op == "call_module":
                module = program.get_submodule(node.target)
                if adjust is not None and isinstance(module, ConvertedNeuron):
                    adjust(module, node.target, [args for args, _ in arguments])
                values = [_fresh(module, args) for args, _ in arguments]
            else:
                values = [node.target(*args, **kwargs) for args, kwargs in arguments]
        for environment, value in zip(environments, note(node, values), strict=True):
            environment[node] = value
        for source in node.all_input_nodes:
            left[source] -= 1
            if not left[source]:
                for environment in environments:
                    del environment[source]


def _attribute(program: fx.GraphModule, target: str) -> Any:
    value: Any = program
    for part in target.split("."):
        value = getattr(value, part)
    return value

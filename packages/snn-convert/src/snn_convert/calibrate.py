"""Running calibration data through a network and keeping statistics of its activations."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from snn_base.progress import progress
from snn_convert.observers import Observer
from snn_convert.support import activation_bounds, classify, data_nodes


def activation_nodes(network: fx.GraphModule) -> list[fx.Node]:
    """The activations of a captured network, in order of execution."""
    data = data_nodes(network)
    return [
        n for n in network.graph.nodes if n in data and n.op == "call_function" and classify(n, data)[0] == "activation"
    ]


def observe(
    network: fx.GraphModule, batches: Iterable[Any], make_observer: Callable[[], Observer], device: torch.device
) -> dict[str, Observer]:
    """Run all batches through ``network`` and return an observer for each activation, by the name of its node."""
    observers = {node.name: make_observer() for node in activation_nodes(network)}
    watcher = _Watcher(network, observers)
    with torch.no_grad():
        for x in progress(inputs(batches, device), desc="calibration"):
            watcher.run(x)
    return observers


def thresholds(network: fx.GraphModule, observers: Mapping[str, Observer], levels: int) -> dict[str, Tensor]:
    """Threshold of each activation, shaped ``[C, 1, ...]`` for channels or ``[]`` for the layer.

    A clip such as that of ReLU6 bounds it; a channel that was never active takes the largest of its layer.
    """
    result = {}
    for node in activation_nodes(network):
        theta = observers[node.name].threshold(levels)
        bounds = activation_bounds(node)
        if bounds is not None and bounds[1] is not None:
            theta = theta.clamp(max=bounds[1])
        largest = theta.max() if bool(theta.max() > 0) else torch.ones_like(theta[0])
        theta = torch.where(theta > 0, theta, largest)
        spatial = node.meta["val"].dim() - 2
        result[node.name] = theta.view(-1, *([1] * spatial)) if len(theta) > 1 else theta.view(())
    return result


def inputs(batches: Iterable[Any], device: torch.device) -> Iterator[Tensor]:
    """The input tensor of each batch: the batch itself, the first of a tuple, or the first value of a dict.

    Raises:
        TypeError: a batch holds no tensor there.
    """
    for batch in batches:
        first = batch
        if isinstance(batch, Mapping):
            first = next(iter(batch.values()), None)
        elif isinstance(batch, tuple | list):
            first = batch[0] if batch else None
        if not isinstance(first, Tensor):
            raise TypeError(
                "calibration must yield tensors, tuples that begin with one, or dicts whose first value is one; got "
                f"{type(batch).__name__}"
            )
        yield first.to(device)


class _Watcher(fx.Interpreter):
    def __init__(self, network: fx.GraphModule, observers: Mapping[str, Observer]) -> None:
        super().__init__(network)
        self.observers = observers

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.observers:
            self.observers[n.name].update(value)
        return value

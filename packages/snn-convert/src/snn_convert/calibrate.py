"""Running calibration data through a network and keeping statistics of its activations."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from snn_base.progress import progress
from snn_convert.capture import module_path
from snn_convert.fold import constant
from snn_convert.observers import Observer
from snn_convert.support import activation_bounds, classify, data_nodes, op_name


def activation_nodes(network: fx.GraphModule) -> list[fx.Node]:
    """The activations of a captured network, in order of execution."""
    data = data_nodes(network)
    return [
        n for n in network.graph.nodes if n in data and n.op == "call_function" and classify(n, data)[0] == "activation"
    ]


def reiterable(calibration: Iterable[Any]) -> Iterable[Any]:
    """The calibration data as something that can be gone through again.

    What starts afresh at every ``iter``, such as a list or a ``DataLoader``, is left as it is and read batch by batch;
    a generator gives its batches only once and is kept in memory.
    """
    return list(calibration) if iter(calibration) is calibration else calibration


def observe(
    network: fx.GraphModule,
    batches: Iterable[Any],
    make_observer: Callable[[], Observer],
    device: torch.device,
    *,
    passes: int = 1,
) -> dict[str, Observer]:
    """Run all batches through ``network`` and return an observer for each activation, by the name of its node.

    Activations that bring a threshold of their own along are left out.

    Args:
        network: the captured network.
        batches: calibration data that can be gone through ``passes`` times.
        make_observer: makes the observer of one activation.
        device: where the network is.
        passes: how often all batches are shown.
    """
    nodes = activation_nodes(network)
    observers = {node.name: make_observer() for node in nodes if own_threshold(network, node) is None}
    watcher = _Watcher(network, observers)
    with torch.no_grad():
        for _ in range(passes if observers else 0):
            total = len(batches) if isinstance(batches, Sized) else None
            for x in progress(inputs(batches, device), total=total, desc="calibration"):
                watcher.run(x)
    return observers


def own_threshold(network: fx.GraphModule, node: fx.Node) -> Tensor | None:
    """The threshold that an activation was trained with (`QCFS`), or ``None``."""
    return constant(network, node.args[1]) if op_name(node) == "qcfs" else None


def thresholds(
    network: fx.GraphModule, observers: Mapping[str, Observer], steps: int, spikes_per_step: int = 1
) -> dict[str, Tensor]:
    """Threshold of each activation in its dtype, shaped ``[C, 1, ...]`` for channels or ``[]`` for the layer.

    A clip such as that of ReLU6 bounds it; a channel that was never active takes the largest of its layer. Activations
    that were trained with a threshold keep that.

    Args:
        network: the captured network.
        observers: what `observe` returned.
        steps: time steps T.
        spikes_per_step: k; the largest mean output that an observer finds takes k spikes a step, so that the threshold
            is a k-th of it, and there are ``k T`` levels.

    Raises:
        ValueError: a trained threshold is not positive.
    """
    result = {}
    for node in activation_nodes(network):
        theta = own_threshold(network, node)
        if theta is None:
            theta = _from_statistics(node, observers[node.name].threshold(steps * spikes_per_step)) / spikes_per_step
        elif not bool((theta > 0).all()):
            where = module_path(node) or node.name
            raise ValueError(f"the trained threshold of {where} must be positive, got {theta.min().item()}")
        result[node.name] = theta.to(node.meta["val"].dtype)
    return result


def _from_statistics(node: fx.Node, theta: Tensor) -> Tensor:
    bounds = activation_bounds(node)
    if bounds is not None and bounds[1] is not None:
        theta = theta.clamp(max=bounds[1])
    largest = theta.max() if bool(theta.max() > 0) else torch.ones_like(theta[0])
    theta = torch.where(theta > 0, theta, largest)
    spatial = node.meta["val"].dim() - 2
    return theta.view(-1, *([1] * spatial)) if len(theta) > 1 else theta.view(())


def device_of(model: nn.Module | ExportedProgram) -> torch.device:
    """The device of a model's first tensor; a model without one runs on the CPU."""
    return next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))


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
            return self.observers[n.name].pass_on(value)
        return value

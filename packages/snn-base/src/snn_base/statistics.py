"""Summaries of spike sequences."""

import torch
from torch import Tensor, nn

from snn_base.functional import sequence
from snn_base.recorder import Recorder


def firing_rate(spikes: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Mean number of spikes per step (and neuron), ``mean(s)`` over ``dim``.

    Args:
        spikes: any shape and dtype, for example ``[T, N, ...]``.
        dim: dims to average over; ``None`` averages over all.
    """
    values = spikes if spikes.is_floating_point() else spikes.float()
    return values.mean() if dim is None else values.mean(dim)


def firing_rates(net: nn.Module, x: Tensor, outputs: str = "*") -> dict[str, float]:
    """Run ``net`` once on ``x`` without gradient and return the mean output of each module matching ``outputs``.

    Memories of the net are left as they were.
    """
    with torch.no_grad(), sequence(net), Recorder(net, outputs=outputs) as record:
        net(x)
    return {name: firing_rate(record[name]).item() for name in record.names()}


def interspike_intervals(spikes: Tensor) -> Tensor:
    """Steps between successive spikes of the same neuron, over all neurons, as an int64 vector.

    Args:
        spikes: ``[T, ...]``; a step with a nonzero value counts as one spike.
    """
    trains = spikes.reshape(spikes.shape[0], -1).ne(0).t()
    neuron, time = trains.nonzero(as_tuple=True)
    same = neuron[1:] == neuron[:-1]
    return (time[1:] - time[:-1])[same]

"""From a trained network to a spiking one."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from snn_convert.calibrate import device_of, inputs, observe, reiterable, thresholds
from snn_convert.capture import capture
from snn_convert.correct import correct
from snn_convert.fold import fold_batch_norm
from snn_convert.neuron import ConvertedNeuron
from snn_convert.recipes import Recipe, find_recipe
from snn_convert.spiking_model import SpikingModel
from snn_convert.support import UnsupportedOpsError, check_graph
from snn_convert.unroll import unroll


def convert(
    model: nn.Module | ExportedProgram,
    calibration: Iterable[Any],
    *,
    timesteps: int = 8,
    recipe: str | Recipe = "binary",
) -> SpikingModel:
    """Convert a trained network to a spiking one.

    Args:
        model: a network of ReLU-like activations that takes and returns one tensor; left untouched.
        calibration: batches of typical inputs: tensors, tuples that begin with one, or dicts whose first value is one.
            It is gone through several times and read batch by batch; a generator is kept in memory.
        timesteps: the number of steps T to be accurate at.
        recipe: a name of `RECIPES` or a `Recipe`.

    Raises:
        UnsupportedOpsError: operations without a spiking counterpart; all of them are listed, before any calibration.
        CaptureError: the model cannot be traced.
        ValueError: the calibration is empty, ``timesteps`` is below 1, or there is no such recipe.
    """
    if timesteps < 1:
        raise ValueError(f"convert: timesteps must be at least 1, got {timesteps}")
    chosen = find_recipe(recipe)
    device = device_of(model)
    batches = reiterable(calibration)
    first = next(inputs(batches, device), None)
    if first is None:
        raise ValueError("convert: calibration yields no batch")
    network = capture(model, first)
    report = check_graph(network)
    if not report.supported:
        raise UnsupportedOpsError(report)
    fold_batch_norm(network)
    observers = observe(network, batches, chosen.observer, device, passes=chosen.passes)
    theta = thresholds(network, observers, timesteps, chosen.spikes_per_step)
    neurons = {name: ConvertedNeuron(chosen.neuron(), value, chosen.initial) for name, value in theta.items()}
    program = unroll(network, neurons, chosen.maximum)
    if chosen.bias_correction or chosen.membrane_calibration:
        x = _samples(batches, device, chosen.correction_samples)
        bias, membrane = chosen.bias_correction, chosen.membrane_calibration
        correct(network, program, x, timesteps, bias=bias, membrane=membrane, rounds=chosen.correction_rounds)
    return SpikingModel(program, timesteps).eval()


def _samples(batches: Iterable[Any], device: torch.device, wanted: int) -> Tensor:
    parts: list[Tensor] = []
    for x in inputs(batches, device):
        parts.append(x)
        if sum(map(len, parts)) >= wanted:
            break
    return torch.cat(parts)[:wanted]

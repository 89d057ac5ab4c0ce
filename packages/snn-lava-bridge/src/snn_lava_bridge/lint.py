"""Checks of a network against what the chip and its loader can hold, before it is deployed."""

from dataclasses import dataclass
from os import PathLike
from typing import Literal

import torch
from torch import Tensor, nn

from snn_lava_bridge.netx_layers import MAX_DELAY, NetxLayer, NetxNetwork
from snn_lava_bridge.simulate import as_network, simulate_layers

WEIGHT_RANGE = (-256, 254)
THRESHOLD_LIMIT = 2**17 - 1
BIAS_RANGE = (-(2**12), 2**12 - 1)


@dataclass(frozen=True)
class Finding:
    """One remark on one layer; an ``"error"`` makes the chip compute something else, or nothing."""

    level: Literal["error", "warning"]
    layer: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.layer}: {self.message} [{self.code}]"


def lint(
    source: NetxNetwork | str | PathLike[str] | nn.Module,
    *,
    input_shape: tuple[int, ...] | None = None,
    spikes: Tensor | None = None,
) -> list[Finding]:
    """Everything about a network that the chip would not run as it is written.

    Args:
        source: a ``.net`` file, a network read from one, or a module that is to be exported.
        input_shape: shape of one input step without the batch; needed for a module that begins with a convolution.
        spikes: input ``[T, N, ...]``; the network is simulated on it and overflows of 24-bit registers are reported.

    Raises:
        LavaFileError: the file cannot be read.
        LavaExportError: the module has a part without a counterpart on the chip.
    """
    network = as_network(source, input_shape if input_shape is not None or spikes is None else tuple(spikes.shape[2:]))
    findings: list[Finding] = []
    for index, layer in enumerate(network.layers):
        name = layer.name or f"layer {index}"
        found = [
            Finding("error" if level == "error" else "warning", name, code, text) for level, code, text in layer.notes
        ]
        findings += found
        if layer.spiking:
            findings += [Finding(level, name, code, text) for level, code, text in _check(layer)]
    if spikes is not None:
        findings += _check_activity(network, spikes)
    return findings


_Remark = tuple[Literal["error", "warning"], str, str]


def _check(layer: NetxLayer) -> list[_Remark]:
    found: list[_Remark] = []
    if layer.weight is not None:
        weight = layer.weight.flatten(1)
        if layer.weight_rec is not None:
            weight = torch.cat([weight, layer.weight_rec], 1)  # the loader optimises both as one matrix
        found += _check_weight(weight, dense=layer.kind == "dense")
    if layer.neuron is not None and not 0 <= layer.neuron.v_th_mant <= THRESHOLD_LIMIT:
        text = f"threshold mantissa {layer.neuron.v_th_mant} must lie in 0 ... {THRESHOLD_LIMIT}; rescale the layer"
        found.append(("error", "threshold", text))
    if layer.bias is not None:
        low, high = int(layer.bias.min()), int(layer.bias.max())
        if low < BIAS_RANGE[0] or high > BIAS_RANGE[1]:
            found.append(
                ("error", "bias", f"bias mantissas {low} ... {high} do not fit {BIAS_RANGE[0]} ... {BIAS_RANGE[1]}")
            )
    if layer.delay is not None:
        if layer.kind == "conv" and bool(layer.delay.any()):
            found.append(("error", "delay", "the loader ignores delays of a conv layer"))
        if int(layer.delay.min()) < 0 or int(layer.delay.max()) > MAX_DELAY:
            found.append(("error", "delay", f"delay {int(layer.delay.max())} exceeds the {MAX_DELAY} steps possible"))
    return found


def _check_weight(weight: Tensor, *, dense: bool) -> list[_Remark]:
    low, high = int(weight.min()), int(weight.max())
    if low == 0 and high == 0:
        if dense:
            return [("error", "zero", "all weights are zero, on which the loader fails; drop the layer")]
        return [("warning", "zero", "all weights are zero")]
    found: list[_Remark] = []
    limit = 255 if low >= 0 else WEIGHT_RANGE[1]
    if low < WEIGHT_RANGE[0] or high > limit:
        found.append(
            ("error", "range", f"weights {low} ... {high} leave {WEIGHT_RANGE[0]} ... {limit}; lower the scale")
        )
    if low < 0 < high and bool((weight % 2 != 0).any()):
        odd = weight[weight % 2 != 0]
        text = f"{odd.numel()} odd weights, for example {int(odd[0])}: weights of both signs have an even grid"
        found.append(("error", "odd", text))
    if dense and high <= 0 and (-low) & (-low - 1) == 0:
        text = (
            f"no positive weight and minimum {low} = -2**{(-low).bit_length() - 1}: the loader corrupts such a matrix; "
            "change one weight, for example add one positive"
        )
        found.append(("error", "negative-power-of-two", text))
    return found


def _check_activity(network: NetxNetwork, spikes: Tensor) -> list[Finding]:
    found = []
    for activity in simulate_layers(network, spikes):
        if activity.wraps:
            text = f"the current wraps around 24 bits {activity.wraps} times on this input (peak {activity.u_peak})"
            found.append(Finding("error", activity.name, "current-overflow", text))
        if activity.saturations:
            text = f"the voltage saturates {activity.saturations} times on this input (peak {activity.v_peak})"
            found.append(Finding("warning", activity.name, "voltage-saturation", text))
        if activity.spikes.numel() and not bool(activity.spikes.any()):
            found.append(Finding("warning", activity.name, "silent", "no neuron fires on the given input"))
    return found

"""From a neuron module to the integers of a CUBA neuron on the chip, or the reason why there are none."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import snn_neurons
from snn_lava_bridge.arithmetic import P_SCALE
from snn_lava_bridge.cuba import CubaLIFNode
from snn_lava_bridge.errors import LavaExportError
from snn_lava_bridge.netx_layers import NetxNeuron
from snn_lava_bridge.quantize import threshold_mantissa


@dataclass(frozen=True, eq=False)
class MappedNeuron:
    """A neuron before the scale of its layer is known.

    Attributes:
        i_decay, v_decay: int64, 0-d or ``(C,)``.
        threshold: in the units of the input, before ``gain``.
        gain: factor of the input.
        scale: integer weight of 1.0 that the neuron fixes, or None.
        at_threshold: the neuron fires at equality too.
        bias: int64 mantissas of the neuron's own bias, or None.
        chip_threshold: mantissa fixed by the neuron, or None.
        decay_error: largest rounding error of a decay, a fraction per step.
    """

    i_decay: Tensor
    v_decay: Tensor
    threshold: float
    gain: float = 1.0
    scale: int | None = None
    at_threshold: bool = False
    bias: Tensor | None = None
    chip_threshold: int | None = None
    decay_error: float = 0.0

    def integers(self, scale: int, factor: float = 1.0) -> NetxNeuron:
        """The chip's integers at ``scale``, the threshold multiplied by ``factor``."""
        if self.chip_threshold is not None:
            threshold = round(self.chip_threshold * factor)
        elif self.at_threshold:
            # On the grid of whole weights v >= th is the same as v > ceil(th) - 1.
            threshold = math.ceil(self.threshold * factor * scale) - 1
        else:
            threshold = round(threshold_mantissa(self.threshold, scale) * factor)
        return NetxNeuron(self.i_decay, self.v_decay, threshold)


def map_neuron(node: nn.Module, name: str) -> MappedNeuron:
    """The integers of ``node``.

    Raises:
        LavaExportError: the neuron does something that the chip's CUBA neuron cannot.
    """
    if isinstance(node, CubaLIFNode):
        if node.graded_spike:
            raise LavaExportError(f"{name}: graded_spike=True is ignored by netx; spikes of the chip are binary here")
        return MappedNeuron(
            node.current_decay_mantissa,
            node.voltage_decay_mantissa,
            node.v_threshold,
            scale=node.scale,
            bias=node.chip_bias(),
            chip_threshold=node.chip_threshold(),
            decay_error=max(
                _rounding(node.current_decay, node.current_decay_mantissa),
                _rounding(node.voltage_decay, node.voltage_decay_mantissa),
            ),
        )
    known = {cls: getattr(snn_neurons, cls, None) for cls in ("IFNode", "LIFNode", "CubaLIFNode")}
    kind = next((k for k, cls in known.items() if cls is not None and type(node) is cls), None)
    if kind is None:
        raise LavaExportError(
            f"{name}: a {type(node).__name__} has no counterpart on the chip; use snn_lava_bridge.CubaLIFNode, or "
            "IFNode, LIFNode or CubaLIFNode of snn_neurons"
        )
    threshold = _scalar(node, "v_threshold", name)
    _check_reset(node, name)
    one = torch.tensor(P_SCALE)
    if kind == "IFNode":
        return MappedNeuron(one, torch.tensor(0), threshold, at_threshold=True)
    if kind == "LIFNode":
        tau = _values(node, "tau", name)
        decay, error = _mantissa(1.0 / tau, name)
        gain = 1.0
        if getattr(node, "decay_input", False):
            if tau.numel() != 1:
                raise LavaExportError(f"{name}: decay_input=True with one tau per channel scales weights per channel")
            gain = float(1.0 / tau)
        return MappedNeuron(one, decay, threshold, gain=gain, decay_error=error)
    i_decay, i_error = _mantissa(_values(node, "current_decay", name), name)
    v_decay, v_error = _mantissa(_values(node, "voltage_decay", name), name)
    return MappedNeuron(i_decay, v_decay, threshold, decay_error=max(i_error, v_error))


def _values(node: nn.Module, param: str, name: str) -> Tensor:
    value = torch.as_tensor(getattr(node, param), dtype=torch.float64).detach().cpu()
    flat = value.reshape(()) if value.numel() == 1 else value.flatten()
    if value.dim() > 1 and value.shape[0] != value.numel():
        raise LavaExportError(
            f"{name}: {param} of shape {tuple(value.shape)} differs per neuron; one per channel is possible"
        )
    return flat


def _scalar(node: nn.Module, param: str, name: str) -> float:
    value = torch.as_tensor(getattr(node, param), dtype=torch.float64).detach().cpu().flatten()
    if bool((value != value[0]).any()):
        raise LavaExportError(f"{name}: {param} differs per neuron; the chip has one threshold per layer")
    return float(value[0])


def _check_reset(node: Any, name: str) -> None:
    reset = node.v_reset
    if reset is None:
        raise LavaExportError(f"{name}: the soft reset (v_reset=None) is not possible, only the hard reset to 0")
    value = torch.as_tensor(reset)
    if bool((value != 0).any()):
        raise LavaExportError(f"{name}: v_reset={float(value.flatten()[0])} is not possible, only the hard reset to 0")


def _mantissa(decay: Tensor, name: str) -> tuple[Tensor, float]:
    if bool(((decay < 0) | (decay > 1)).any()):
        raise LavaExportError(
            f"{name}: decay {float(decay.min()):.4g} ... {float(decay.max()):.4g} must lie in 0 ... 1"
        )
    mantissa = torch.round(decay * P_SCALE).long()
    return mantissa, _rounding(decay, mantissa)


def _rounding(decay: float | Tensor, mantissa: Tensor) -> float:
    wanted = torch.as_tensor(decay, dtype=torch.float64).detach().cpu()
    return float((mantissa.double() / P_SCALE - wanted).abs().max())

"""The integers of a network as the chip gets them: one frozen record per layer."""

from dataclasses import dataclass, field
from math import prod
from typing import Literal

import torch
from torch import Tensor

MAX_DELAY = 62
Kind = Literal["input", "dense", "conv", "flatten"]


@dataclass(frozen=True, eq=False)
class NetxNeuron:
    """Integers of a CUBA neuron.

    Attributes:
        i_decay: current decay in 1/4096 per step, int64, 0-d or one per channel ``(C,)``.
        v_decay: voltage decay likewise.
        v_th_mant: threshold mantissa; a neuron fires when ``v > 64 * v_th_mant``.
    """

    i_decay: Tensor
    v_decay: Tensor
    v_th_mant: int


@dataclass(frozen=True, eq=False)
class NetxLayer:
    """Integers and geometry of one layer.

    Attributes:
        kind: ``"input"``, ``"dense"``, ``"conv"`` or ``"flatten"``.
        shape: output shape of one step of one sample, ``(F,)`` or ``(C, H, W)``.
        weight: int64 ``(out, in)`` or ``(C_out, C_in / groups, kH, kW)``.
        weight_rec: int64 ``(out, out)`` of a recurrent dense layer.
        bias: int64 mantissas, one per output channel, added as ``bias << 6`` to the voltage at every step.
        delay: int64, one per output channel ``(out,)`` or per synapse ``(out, in)``; extra steps on the input.
        stride, padding, dilation: ``(H, W)``.
        name: where the layer comes from, for messages.
        notes: oddities of the file that a reader on the chip's side treats differently, for `lint`.
    """

    kind: Kind
    shape: tuple[int, ...]
    weight: Tensor | None = None
    weight_rec: Tensor | None = None
    bias: Tensor | None = None
    delay: Tensor | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    neuron: NetxNeuron | None = None
    name: str = ""
    notes: tuple[tuple[str, str, str], ...] = field(default=())

    @property
    def spiking(self) -> bool:
        """Whether the layer has synapses and neurons."""
        return self.kind in ("dense", "conv")

    @property
    def fan_in_limit(self) -> int:
        """Largest ``sum |w|`` over the synapses of one neuron: no input can be larger."""
        if self.weight is None:
            return 0
        total = self.weight.abs().flatten(1).sum(1)
        if self.weight_rec is not None:
            total = total + self.weight_rec.abs().sum(1)
        return int(total.max())


@dataclass(frozen=True, eq=False)
class NetxNetwork:
    """Layers in order, the shape of one input step without the batch, and the file they come from."""

    layers: tuple[NetxLayer, ...]
    input_shape: tuple[int, ...]
    path: str = ""

    @property
    def spiking_layers(self) -> tuple[NetxLayer, ...]:
        """The layers that take one step of latency each."""
        return tuple(layer for layer in self.layers if layer.spiking)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output step without the batch."""
        return self.layers[-1].shape if self.layers else self.input_shape


def conv_output_shape(
    input_shape: tuple[int, ...],
    out_channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int]:
    """``(C, H, W)`` after a convolution, ``floor((H + 2 p - d (k - 1) - 1) / s) + 1``; sizes may come out below 1."""
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(input_shape[1:], kernel, stride, padding, dilation, strict=True)
    ]
    return out_channels, size[0], size[1]


def describe(network: NetxNetwork) -> str:
    """A table of the layers, one line each."""
    rows = [("layer", "type", "shape", "weight", "iDecay", "vDecay", "vThMant", "extra")]
    for index, layer in enumerate(network.layers):
        neuron, extra = layer.neuron, []
        if layer.kind == "conv":
            extra.append(
                f"stride={_pair(layer.stride)} padding={_pair(layer.padding)} dilation={_pair(layer.dilation)} "
                f"groups={layer.groups}"
            )
        extra += [n for n in ("weight_rec", "bias", "delay") if getattr(layer, n) is not None]
        rows.append(
            (
                layer.name or str(index),
                layer.kind,
                "x".join(map(str, layer.shape)),
                "" if layer.weight is None else _weight_text(layer.weight),
                *(("", "", "") if neuron is None else _neuron_text(neuron)),
                " ".join(extra),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    neurons = sum(prod(layer.shape) for layer in network.spiking_layers)
    synapses = sum(
        sum(w.numel() for w in (layer.weight, layer.weight_rec) if w is not None) for layer in network.spiking_layers
    )
    lines.append(f"{len(network.spiking_layers)} spiking layers, {neurons} neurons, {synapses} weights")
    return "\n".join(lines)


def _pair(value: tuple[int, int]) -> str:
    return f"{value[0]}" if value[0] == value[1] else f"{value[0]}x{value[1]}"


def _weight_text(weight: Tensor) -> str:
    return f"{'x'.join(map(str, weight.shape))} [{int(weight.min())}, {int(weight.max())}]"


def _neuron_text(neuron: NetxNeuron) -> tuple[str, str, str]:
    def span(value: Tensor) -> str:
        low, high = int(value.min()), int(value.max())
        return str(low) if low == high else f"{low}..{high}"

    return span(neuron.i_decay), span(neuron.v_decay), str(neuron.v_th_mant)


def per_channel(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """View a 0-d or ``(C,)`` tensor so that it broadcasts over ``[..., *shape]``."""
    if value.dim() == 0 or value.numel() == 1:
        return value.reshape(())
    return value.reshape(-1, *([1] * (len(shape) - 1)))


def as_int(value: object) -> Tensor:
    """A Python number or tensor as an int64 tensor."""
    return torch.as_tensor(value).to(torch.int64)

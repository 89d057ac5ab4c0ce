"""What the chip computes, in integers: layer by layer, the synapses of a whole sequence at once, then the neurons.

Per layer and step, starting from zeros::

    a[t] = W s_in[t - 1 - delay] + W_rec s_out[t - 1]
    u[t] = wrap24(tz(u[t-1] (4096 - iDecay) >> 12) + (a[t] << 6))
    v[t] = sat24(tz(v[t-1] (4096 - vDecay) >> 12) + u[t] + (bias << 6))
    s_out[t] = v[t] > (vThMant << 6);  v[t] = 0 where it fired

``tz`` rounds toward zero. Layers are feed-forward with one step of latency each, so that a layer can be run over all
steps before the next begins. All values are float64 numbers that hold integers exactly.
"""

from os import PathLike
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_lava_bridge.arithmetic import P_SCALE, STATE_LIMIT, leak, saturate_24bit, wrap_24bit
from snn_lava_bridge.netx_layers import NetxLayer, NetxNetwork, per_channel
from snn_lava_bridge.netx_read import read_netx

_FLOAT32_INTEGERS = 2**24


class LayerActivity(NamedTuple):
    """Spikes ``[T, N, ...]`` of one spiking layer and what its 24-bit registers went through.

    Attributes:
        spikes: uint8.
        wraps: number of times a current left ±2**23 and wrapped.
        saturations: number of times a voltage was clamped.
        u_peak: largest magnitude of a current before wrapping.
        v_peak: largest magnitude of a voltage before clamping.
    """

    name: str
    spikes: Tensor
    wraps: int
    saturations: int
    u_peak: int
    v_peak: int


def as_network(
    source: "NetxNetwork | str | PathLike[str] | nn.Module", input_shape: tuple[int, ...] | None
) -> NetxNetwork:
    """The integers of a file, of integers already read, or of a module, which is lowered as for an export."""
    if isinstance(source, NetxNetwork):
        return source
    if isinstance(source, nn.Module):
        from snn_lava_bridge.export import lower  # the exporter needs this module for its report

        return lower(source, input_shape)
    return read_netx(source)


def simulate(
    source: NetxNetwork | str | PathLike[str] | nn.Module, spikes: Tensor, *, input_shape: tuple[int, ...] | None = None
) -> Tensor:
    """Output spikes of a network on the chip.

    Args:
        source: path of a ``.net`` file, a network read from one, or a module that could be exported.
        spikes: input ``[T, N, ...]`` of zeros and ones; non-negative integers count as several spikes.
        input_shape: shape of one input step without the batch, where ``source`` is a module; by default that of
            ``spikes``.

    Returns:
        ``[T, N, ...]`` of zeros and ones in the dtype of ``spikes``; L spiking layers answer L steps late.

    Raises:
        LavaFileError: the file is no complete network.
        ValueError: ``spikes`` does not fit the network or is not integer.
    """
    layers = simulate_layers(as_network(source, input_shape or tuple(spikes.shape[2:])), spikes)
    return layers[-1].spikes.to(spikes.dtype)


@torch.no_grad()
def simulate_layers(network: NetxNetwork, spikes: Tensor) -> list[LayerActivity]:
    """Activity of every spiking layer; arguments and errors as in `simulate`."""
    x = _checked(network, spikes)
    results = []
    for layer in network.layers:
        if layer.kind == "flatten":
            x = x.flatten(2)
        elif layer.spiking:
            activity = _run_layer(layer, x)
            results.append(activity)
            x = activity.spikes
    return results


def _checked(network: NetxNetwork, spikes: Tensor) -> Tensor:
    if spikes.dim() != 2 + len(network.input_shape) or tuple(spikes.shape[2:]) != network.input_shape:
        raise ValueError(f"spikes of shape {tuple(spikes.shape)} must be [T, N, *{network.input_shape}]")
    if spikes.is_floating_point() and not bool((spikes == spikes.round()).all()):
        raise ValueError("spikes must be integers: the chip receives spikes, not real numbers")
    if spikes.numel() and int(spikes.min()) < 0:
        raise ValueError(f"spikes must not be negative, got {int(spikes.min())}")
    return spikes


def _run_layer(layer: NetxLayer, s_in: Tensor) -> LayerActivity:
    if layer.neuron is None or layer.weight is None:
        raise ValueError(f"{layer.name} has no neuron or no weight")
    a = synaptic_input(layer, s_in).double()
    steps, shape = a.shape[0], layer.shape
    retain_i = (P_SCALE - per_channel(layer.neuron.i_decay, shape)).double()
    retain_v = (P_SCALE - per_channel(layer.neuron.v_decay, shape)).double()
    bias = torch.zeros(()) if layer.bias is None else per_channel(layer.bias, shape) * 64
    bias = bias.double()
    rec = None if layer.weight_rec is None else layer.weight_rec.double().T.contiguous()
    threshold = 64.0 * layer.neuron.v_th_mant
    u, v, s = (torch.zeros(a.shape[1:], dtype=torch.float64) for _ in range(3))
    out = torch.zeros(a.shape, dtype=torch.uint8)
    u_low = u_high = v_low = v_high = torch.zeros((), dtype=torch.float64)
    wraps = saturations = 0
    for t in range(steps):
        drive = a[t] if rec is None else a[t] + s @ rec
        raw = leak(u, retain_i) + 64.0 * drive
        low, high = raw.aminmax() if raw.numel() else (u_low, u_high)
        u_low, u_high = torch.minimum(u_low, low), torch.maximum(u_high, high)
        if high >= STATE_LIMIT or low < -STATE_LIMIT:
            u = wrap_24bit(raw)
            wraps += int((u != raw).sum())
        else:
            u = raw
        raw = leak(v, retain_v) + u + bias
        low, high = raw.aminmax() if raw.numel() else (v_low, v_high)
        v_low, v_high = torch.minimum(v_low, low), torch.maximum(v_high, high)
        if high >= STATE_LIMIT or low <= -STATE_LIMIT:
            v = saturate_24bit(raw)
            saturations += int((v != raw).sum())
        else:
            v = raw
        fired = v > threshold
        out[t] = fired
        if rec is not None:
            s = fired.double()
        v = v.masked_fill(fired, 0.0)
    u_peak = int(max(u_high, -u_low))
    v_peak = int(max(v_high, -v_low))
    return LayerActivity(layer.name, out, wraps, saturations, u_peak, v_peak)


def synaptic_input(layer: NetxLayer, s_in: Tensor) -> Tensor:
    """``W s_in[t - 1 - delay]`` for all steps, ``[T, N, ...]``, exact integers in float32 or float64."""
    if layer.weight is None:
        raise ValueError(f"{layer.name} has no weight")
    peak = int(s_in.max()) if s_in.numel() else 0
    # float32 convolutions are twice as fast and exact as long as no partial sum can leave 24 bits.
    dtype = torch.float32 if layer.fan_in_limit * max(peak, 1) < _FLOAT32_INTEGERS else torch.float64
    x, weight = s_in.to(dtype), layer.weight.to(dtype)
    if layer.kind == "conv":
        a = F.conv2d(x.flatten(0, 1), weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        return delayed(a.unflatten(0, x.shape[:2]), 1)
    if layer.delay is None:
        return delayed(F.linear(x, weight), 1)
    if layer.delay.dim() == 1:
        a = F.linear(x, weight)
        out = torch.zeros_like(a)
        for steps in layer.delay.unique().tolist():
            at = layer.delay == steps
            out[..., at] = delayed(a[..., at], 1 + steps)
        return out
    out = x.new_zeros(*x.shape[:2], weight.shape[0])
    for steps in layer.delay.unique().tolist():
        out += delayed(F.linear(x, weight * (layer.delay == steps)), 1 + steps)
    return out


def delayed(x: Tensor, steps: int) -> Tensor:
    """``x`` moved ``steps`` later along the first dim, zeros first."""
    if steps == 0:
        return x
    zeros = x.new_zeros(min(steps, x.shape[0]), *x.shape[1:])
    return torch.cat([zeros, x[: max(x.shape[0] - steps, 0)]])

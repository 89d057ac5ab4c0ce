"""From modules to the integer layers of the chip, without running them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snn_lava_bridge.blocks import BlockContainer, FlattenBlock, RecurrentBlock
from snn_lava_bridge.errors import LavaExportError
from snn_lava_bridge.netx_layers import NetxLayer, NetxNetwork, conv_output_shape
from snn_lava_bridge.neuron_mapping import MappedNeuron, map_neuron
from snn_lava_bridge.norm import fold_batch_norm
from snn_lava_bridge.pool import SumPool2d, pair
from snn_lava_bridge.quantize import integer_weights
from snn_lava_bridge.synapse import ConvSynapse, DenseSynapse, PoolSynapse

_LARGEST_SCALE = 1024
_THRESHOLD_LIMIT = 2**17 - 1


class LayerReport(NamedTuple):
    """What rounding did to one layer.

    Attributes:
        scale: integer weight of 1.0.
        saturated: share of weights cut off by the 8-bit range.
        weight_error: largest error of a weight, in its own units, saturation aside.
        decay_error: largest error of a decay, a fraction per step.
        threshold_error: effective minus wanted threshold, relative.
    """

    name: str
    scale: int
    saturated: float
    weight_error: float
    decay_error: float
    threshold_error: float


@dataclass
class _Pending:
    """Synapses that wait for their neuron."""

    name: str
    kind: str
    weight: Tensor
    bias: Tensor | None
    geometry: dict[str, Any]
    threshold_factor: float = 1.0
    fixed: bool = False  # an integer pool: 1.0 is exact at every scale


def lower_with_report(
    net: nn.Module, input_shape: tuple[int, ...] | None, *, scale: int | None = None
) -> tuple[NetxNetwork, list[LayerReport]]:
    """The integers of a module and what rounding did; see `export.export_netx`."""
    lowering = _Lowering(input_shape, scale)
    for name, module in _leaves(net, ""):
        lowering.add(name, module)
    return lowering.finish(), lowering.reports


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    # Folding and stepwise containers hold their layers as an nn.Sequential does; anything else may compute as it likes.
    container = isinstance(module, nn.Sequential) or (
        type(module).__module__.startswith("snn_layers")
        and len(list(module.children())) > 0
        and not isinstance(module, nn.Linear | nn.Conv2d)
    )
    if not container:
        yield name or type(module).__name__, module
        return
    for key, child in module.named_children():
        yield from _leaves(child, f"{name}.{key}" if name else key)


class _Lowering:
    def __init__(self, input_shape: tuple[int, ...] | None, scale: int | None) -> None:
        self.shape = None if input_shape is None else tuple(int(n) for n in input_shape)
        if self.shape is not None and (len(self.shape) not in (1, 3) or min(self.shape) < 1):
            raise ValueError(f"input_shape must be (F,) or (C, H, W), got {input_shape}")
        self.input_shape = self.shape
        self.scale = scale
        self.layers: list[NetxLayer] = []
        self.reports: list[LayerReport] = []
        self.pending: _Pending | None = None

    def finish(self) -> NetxNetwork:
        if self.pending is not None:
            raise LavaExportError(f"{self.pending.name}: the last synapses have no neuron; the chip emits spikes")
        if not self.layers:
            raise LavaExportError("the module holds no layer with synapses and neurons")
        head = (NetxLayer("input", self.input_shape, name="input"),) if self.input_shape else ()
        first = self.layers[0]
        inputs = self.input_shape or (first.weight.shape[1] if first.weight is not None else 0,)
        return NetxNetwork((*head, *self.layers), inputs)

    # -- modules -----------------------------------------------------------------------------------------------------
    def add(self, name: str, module: nn.Module) -> None:
        if isinstance(module, RecurrentBlock | BlockContainer):
            self._no_pending(name)
            self._block(name, module)
        elif isinstance(module, nn.Flatten | FlattenBlock):
            self._no_pending(name)
            self._flatten(name)
        elif isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d) or type(module).__name__.startswith("Dropout"):
            return
        elif isinstance(module, nn.Linear):
            self._no_pending(name)
            self._need_features(name, module.in_features)
            self.pending = _Pending(name, "dense", module.weight.detach(), _detached(module.bias), {})
        elif isinstance(module, nn.Conv2d):
            self._no_pending(name)
            self.pending = _conv(name, module)
        elif isinstance(module, SumPool2d | nn.AvgPool2d):
            self._no_pending(name)
            self.pending = self._pool(name, module)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            self._fold(name, module)
        elif isinstance(module, nn.MaxPool2d):
            raise LavaExportError(f"{name}: max pooling is not possible on the chip; use SumPool2d or AvgPool2d")
        elif list(module.children()) and not hasattr(module, "register_memory"):
            raise LavaExportError(
                f"{name}: the order in which a {type(module).__name__} runs its children is unknown; use nn.Sequential"
            )
        else:
            self._neuron(name, module)

    def _no_pending(self, name: str) -> None:
        if self.pending is not None:
            raise LavaExportError(
                f"{self.pending.name}: its neuron is missing before {name}; every layer with synapses ends in neurons, "
                "a pool too, for example in an IFNode"
            )

    def _need_features(self, name: str, count: int) -> None:
        if self.shape is not None and self.shape != (count,):
            hint = "; put nn.Flatten before it" if len(self.shape) == 3 and prod(self.shape) == count else ""
            raise LavaExportError(f"{name}: takes {count} features but gets {self.shape}{hint}")

    def _flatten(self, name: str) -> None:
        if self.shape is None:
            raise LavaExportError(f"{name}: give input_shape; what is flattened is unknown")
        if len(self.shape) == 1:
            return
        self.shape = (prod(self.shape),)
        self.layers.append(NetxLayer("flatten", self.shape, name=name))

    def _pool(self, name: str, module: SumPool2d | nn.AvgPool2d) -> _Pending:
        channels = self._image(name)[0]
        kernel = pair(module.kernel_size, "kernel_size", 1)
        factor = 1.0
        dilation = (1, 1)
        if isinstance(module, nn.AvgPool2d):
            padding = pair(module.padding, "padding", 0)
            if module.ceil_mode:
                raise LavaExportError(f"{name}: ceil_mode=True has windows of unequal size; use ceil_mode=False")
            if padding != (0, 0) and not module.count_include_pad:
                raise LavaExportError(f"{name}: count_include_pad=False divides by unequal counts at the border")
            factor = float(module.divisor_override or kernel[0] * kernel[1])
        else:
            dilation = module.dilation
        stride = kernel if module.stride is None else pair(module.stride, "stride", 1)
        geometry = {
            "stride": stride,
            "padding": pair(module.padding, "padding", 0),
            "dilation": dilation,
            "groups": channels,
        }
        # The sum is exact; the divisor of an average multiplies the threshold instead of shrinking the weights.
        weight = torch.ones(channels, 1, *kernel)
        return _Pending(name, "conv", weight, None, geometry, threshold_factor=factor, fixed=True)

    def _image(self, name: str) -> tuple[int, ...]:
        if self.shape is None:
            raise LavaExportError(f"{name}: give input_shape=(C, H, W); the size of the image is unknown")
        if len(self.shape) != 3:
            raise LavaExportError(f"{name}: needs (C, H, W), gets {self.shape}")
        return self.shape

    def _fold(self, name: str, module: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        if self.pending is None or self.pending.fixed:
            raise LavaExportError(f"{name}: a batch norm is folded into a linear or convolution layer right before it")
        try:
            self.pending.weight, self.pending.bias = (
                t.detach() for t in fold_batch_norm(self.pending.weight, self.pending.bias, module)
            )
        except ValueError as error:
            raise LavaExportError(f"{name}: {error}") from None

    # -- layers ------------------------------------------------------------------------------------------------------
    def _neuron(self, name: str, module: nn.Module) -> None:
        neuron = map_neuron(module, name)
        pending, self.pending = self.pending, None
        if pending is None:
            raise LavaExportError(f"{name}: neurons without synapses before them are not possible; add a layer")
        weight = pending.weight.double() * neuron.gain
        bias = None if pending.bias is None else pending.bias.double() * neuron.gain
        wanted = neuron.scale or self.scale
        if wanted is None:
            wanted = _fitting_scale(weight, neuron.threshold * pending.threshold_factor)
        integers = integer_weights(weight, wanted)
        mantissa = None
        if bias is not None and bool(bias.any()):
            if bool((neuron.i_decay != 4096).any()):
                raise LavaExportError(
                    f"{pending.name}: a bias of the input current has no counterpart where currents persist "
                    f"(current decay {int(neuron.i_decay.min())}/4096); the chip's bias acts on the voltage: use "
                    "current_decay=1, bias=False with the neuron's own bias, or a block"
                )
            mantissa = torch.round(bias * wanted).long()
        if neuron.bias is not None:
            mantissa = neuron.bias if mantissa is None else mantissa + neuron.bias
        self._append(pending.name, pending.kind, integers, pending.geometry, neuron, wanted, weight, mantissa, None,
                     pending.threshold_factor)  # fmt: skip

    def _block(self, name: str, block: BlockContainer) -> None:
        synapse = block.synapse
        if block.delay.fixed != 1:
            raise LavaExportError(f"{name}: delay_shift=False is not possible; spikes travel one step on the chip")
        if not block.quantize:
            raise LavaExportError(f"{name}: quantize=False trains other weights than the chip holds; set it to True")
        neuron = map_neuron(block.neuron, f"{name}.neuron")
        weight = block.folded_weight().detach()
        geometry: dict[str, Any] = {}
        if isinstance(synapse, DenseSynapse):
            kind = "dense"
            self._need_features(name, weight.shape[1])
        elif isinstance(synapse, ConvSynapse | PoolSynapse):
            kind = "conv"
            channels = self._image(name)[0]
            pool = isinstance(synapse, PoolSynapse)
            geometry = {n: getattr(synapse, n) for n in ("stride", "padding", "dilation")}
            geometry["groups"] = channels if pool else getattr(synapse, "groups", 1)
            weight = weight.expand(channels, 1, -1, -1) if pool else weight
        else:
            raise LavaExportError(f"{name}: a {type(synapse).__name__} has no counterpart on the chip")
        rec = integer_weights(block.recurrent.weight, block.scale) if isinstance(block, RecurrentBlock) else None
        bias = block.folded_bias()
        mantissa = neuron.bias
        if bias is not None:
            own = torch.as_tensor(block.neuron.bias).detach()
            mantissa = torch.round((bias.detach() + own).float() * block.scale).long().cpu()
        integers = integer_weights(weight, block.scale).contiguous()
        self._append(name, kind, integers, geometry, neuron, block.scale, weight, mantissa, rec, 1.0, block.delay.steps)

    def _append(
        self,
        name: str,
        kind: Any,
        integers: Tensor,
        geometry: dict[str, Any],
        neuron: MappedNeuron,
        scale: int,
        weight: Tensor,
        bias: Tensor | None,
        rec: Tensor | None,
        factor: float,
        delay: Tensor | None = None,
    ) -> None:
        integers = integers.cpu()
        if kind == "dense":
            shape: tuple[int, ...] = (integers.shape[0],)
        else:
            image = self._image(name)
            if image[0] != integers.shape[1] * geometry["groups"]:
                raise LavaExportError(
                    f"{name}: takes {integers.shape[1] * geometry['groups']} channels, gets {image[0]}"
                )
            kernel = (integers.shape[2], integers.shape[3])
            shape = conv_output_shape(
                image, integers.shape[0], kernel, geometry["stride"], geometry["padding"], geometry["dilation"]
            )
            if min(shape) < 1:
                raise LavaExportError(f"{name}: kernel {kernel} does not fit an input of {image}")
        for label, value in (("current decay", neuron.i_decay), ("voltage decay", neuron.v_decay), ("bias", bias)):
            if value is not None and value.dim() and value.numel() not in (1, shape[0]):
                raise LavaExportError(f"{name}: {label} has {value.numel()} values for {shape[0]} channels")
        if bias is not None:
            bias = bias.reshape(-1).expand(shape[0]).contiguous() if bias.numel() == 1 else bias
            bias = bias if bool(bias.any()) else None
        chip = neuron.integers(scale, factor)
        wanted = neuron.threshold * factor * scale
        error = integers.double() / scale - weight.detach().cpu().double()
        inside = (integers > -256) & (integers < 254)
        self.reports.append(
            LayerReport(
                name,
                scale,
                _share_outside(weight, scale),
                float(error[inside].abs().max()) if bool(inside.any()) else 0.0,
                neuron.decay_error,
                (chip.v_th_mant - wanted) / wanted,
            )
        )
        self.layers.append(
            NetxLayer(
                kind, shape, weight=integers, weight_rec=rec, bias=bias, delay=delay, neuron=chip, name=name, **geometry
            )
        )
        self.shape = shape


def _conv(name: str, module: nn.Conv2d) -> _Pending:
    if module.padding_mode != "zeros" and module.padding not in ("valid", (0, 0)):
        raise LavaExportError(f"{name}: padding_mode={module.padding_mode!r} is not possible, only zeros")
    kernel, dilation = pair(module.kernel_size, "kernel_size", 1), pair(module.dilation, "dilation", 1)
    if module.padding == "valid":
        padding = (0, 0)
    elif module.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        if total[0] % 2 or total[1] % 2:
            raise LavaExportError(f"{name}: padding='same' with kernel {kernel} pads unequal sides; use an odd kernel")
        padding = (total[0] // 2, total[1] // 2)
    else:
        padding = pair(module.padding, "padding", 0)  # type: ignore[arg-type]
    geometry = {
        "stride": pair(module.stride, "stride", 1),
        "padding": padding,
        "dilation": dilation,
        "groups": module.groups,
    }
    return _Pending(name, "conv", module.weight.detach(), _detached(module.bias), geometry)


def _detached(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach()


def _share_outside(weight: Tensor, scale: int) -> float:
    integers = torch.round(weight.detach().double() * scale / 2) * 2
    return float(((integers < -256) | (integers > 254)).double().mean())


def _fitting_scale(weight: Tensor, threshold: float) -> int:
    """The largest power of two at which no weight saturates and the threshold fits."""
    scale: int = 2 ** int(math.log2(_LARGEST_SCALE))
    while scale > 1 and (_share_outside(weight, scale) > 0 or threshold * scale > _THRESHOLD_LIMIT):
        scale //= 2
    return scale

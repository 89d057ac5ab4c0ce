"""Blocks: synapse, neuron and transport delay of one layer of the chip, trained with quantised weights."""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from snn_base import MemoryModule
from snn_lava_bridge.cuba import CubaLIFNode
from snn_lava_bridge.delay import StepDelay
from snn_lava_bridge.pool import pair
from snn_lava_bridge.quantize import quantize_8b, step_quantize, threshold_mantissa
from snn_lava_bridge.synapse import ConvSynapse, DenseSynapse, PoolSynapse, Synapse

_THRESHOLD_LIMIT = 2**17 - 1


class BlockContainer(MemoryModule):
    """One layer of the chip: synapse, CUBA neuron, one step of transport and axonal delays.

    With neuron arithmetic ``"slayer"`` the spikes leave a step late, ``s_out[t] = N(W s_in)[t - 1 - d_c]``; with
    ``"chip"`` the synaptic input arrives late, ``N(W s_in[t - 1 - d_c])``, which differs where the neuron has a bias,
    active from the first step on. Weights are quantised by `quantize_8b` in the forward pass.

    Args:
        synapse: a `Synapse`.
        neuron: its ``scale`` is that of the weights.
        delay: axonal delays per output channel ``(C,)``; an ``nn.Parameter`` is learned. See `StepDelay`.
        norm: ``nn.BatchNorm1d`` or ``nn.BatchNorm2d`` of the output channels, folded into the weights before they are
            quantised and into the neuron's bias; its shift divided by the current decay, as the voltage sees it.
        delay_shift: False leaves out the step of transport, which no exported network can.
        quantize: False trains with float weights.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        TypeError: the parts are of another kind.
    """

    def __init__(
        self,
        synapse: Synapse,
        neuron: CubaLIFNode,
        *,
        delay: Tensor | None = None,
        norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None,
        delay_shift: bool = True,
        quantize: bool = True,
        step_mode: Any = "s",
    ) -> None:
        super().__init__(step_mode)
        if not isinstance(synapse, Synapse) or not isinstance(neuron, CubaLIFNode):
            raise TypeError(f"synapse and neuron must be Synapse and CubaLIFNode, got {synapse!r}, {neuron!r}")
        if norm is not None and (neuron.norm is not None or isinstance(synapse, PoolSynapse)):
            raise TypeError("norm of a block excludes a norm of its neuron and a pool synapse")
        self.synapse = synapse
        self.neuron = neuron
        self.norm = norm
        self.delay = StepDelay(int(delay_shift), delay)
        self.quantize = quantize
        self.step_mode = step_mode

    # Children follow the mode of their block.
    def _propagate(self) -> None:
        for child in (self.neuron, self.delay):
            child.step_mode = self.step_mode

    @property
    def scale(self) -> int:
        """Integer weight of 1.0; assigning it moves the grids of weights, threshold and state."""
        return self.neuron.scale

    @scale.setter
    def scale(self, value: int) -> None:
        self.neuron.scale = value

    def folded_weight(self) -> Tensor:
        """Float weights with the norm's running statistics folded in, before quantisation."""
        gain = self._running()[0]
        return self.synapse.weight if gain is None else _scaled(self.synapse.weight, gain)

    def folded_bias(self) -> Tensor | None:
        """Bias in weight units that the norm's running statistics amount to, ``(C,)``."""
        return self._running()[1]

    def weight(self) -> Tensor:
        """The weights of the forward pass, quantised unless ``quantize`` is False, in weight units."""
        weight = self.folded_weight()
        return quantize_8b(weight, self.scale) if self.quantize else weight

    def forward(self, x: Tensor) -> Tensor:
        self._propagate()
        return super().forward(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        return self._run(x)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        return self._run(x_seq)

    def _run(self, x: Tensor) -> Tensor:
        current, bias = self._current(x)
        with self.neuron.extra_bias(bias):
            if self.neuron.arithmetic == "chip":
                return self._fire(self.delay(current))
            return cast(Tensor, self.delay(self._fire(current)))

    def _fire(self, current: Tensor) -> Tensor:
        return cast(Tensor, self.neuron(current))

    def _current(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """``W x`` for a step or a sequence and the norm's bias; batch statistics come from the unquantised product."""
        fold = self.step_mode == "m"
        flat = x.flatten(0, 1) if fold else x
        gain, bias = self._running()
        if self.norm is not None and self.training:
            gain, bias = self._batch(self.synapse(flat, self.synapse.weight))
        weight = self.synapse.weight if gain is None else _scaled(self.synapse.weight, gain)
        y = self.product(flat, weight)
        return (y.unflatten(0, x.shape[:2]) if fold else y), bias

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """``synapse(x)`` with the weight that the block's settings make of a float ``weight``."""
        if not self.quantize:
            return cast(Tensor, self.synapse(x, weight))
        weight = quantize_8b(weight, self.scale)
        if self.neuron.arithmetic == "chip":
            # Integer weights give exact integer sums for any scale; 2/100 has no exact float.
            return cast(Tensor, self.synapse(x, step_quantize(weight * self.scale))) / self.scale
        return cast(Tensor, self.synapse(x, weight))

    def _running(self) -> tuple[Tensor | None, Tensor | None]:
        if self.norm is None:
            return None, None
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        return self._affine(self.norm.running_mean, self.norm.running_var)

    def _batch(self, y: Tensor) -> tuple[Tensor, Tensor]:
        assert self.norm is not None
        self.norm(y)  # updates the running statistics
        per_channel = y.transpose(0, 1).flatten(1)
        return self._affine(per_channel.mean(1), per_channel.var(1, unbiased=False))

    def _affine(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        assert self.norm is not None
        gain = torch.rsqrt(var + self.norm.eps)
        gain = gain if self.norm.weight is None else gain * self.norm.weight
        decay = torch.as_tensor(self.neuron.current_decay, dtype=gain.dtype, device=gain.device)
        shift = -mean * gain / decay.detach().clamp(min=1 / 64)
        return gain, shift if self.norm.bias is None else shift + self.norm.bias

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, quantize={self.quantize}"


def _scaled(weight: Tensor, gain: Tensor) -> Tensor:
    return weight * gain.view(-1, *([1] * (weight.dim() - 1)))


class RecurrentBlock(BlockContainer):
    """A dense block whose spikes return to it one step later: ``N(W s_in + W_rec s[t-1])``.

    Args:
        recurrent: `DenseSynapse` with a weight ``(out, out)``.
        synapse, neuron, step_mode: see `BlockContainer`; no delays.
    """

    def __init__(
        self,
        synapse: DenseSynapse,
        recurrent: DenseSynapse,
        neuron: CubaLIFNode,
        *,
        quantize: bool = True,
        step_mode: Any = "s",
    ) -> None:
        super().__init__(synapse, neuron, quantize=quantize, step_mode=step_mode)
        rows = synapse.weight.shape[0]
        if tuple(recurrent.weight.shape) != (rows, rows):
            raise TypeError(f"recurrent weight must be ({rows}, {rows}), got {tuple(recurrent.weight.shape)}")
        self.recurrent = recurrent
        self.register_memory("last", self._silence)

    last: Tensor

    def _silence(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.recurrent.weight.shape[0])

    def _propagate(self) -> None:
        self.delay.step_mode = self.step_mode
        self.neuron.step_mode = "s"

    def _fire(self, current: Tensor) -> Tensor:
        steps = current.unbind(0) if self.step_mode == "m" else (current,)
        s, spikes = self.last, []
        for z in steps:
            s = self.neuron(z + self._feedback(s))
            spikes.append(s)
        self.last = s
        return torch.stack(spikes) if self.step_mode == "m" else s

    def _feedback(self, s: Tensor) -> Tensor:
        synapse, self.synapse = self.synapse, self.recurrent
        try:
            return self.product(s, self.recurrent.weight)
        finally:
            self.synapse = synapse


class FlattenBlock(nn.Module):
    """``[N, C, H, W] -> [N, C H W]``, of the last three dims, so that sequences pass too."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 4:
            raise ValueError(f"FlattenBlock needs [..., C, H, W], got shape {tuple(x.shape)}")
        return x.flatten(-3)


def dense_block(in_features: int, out_features: int, neuron: CubaLIFNode, **options: Any) -> BlockContainer:
    """A block of a linear layer with freshly drawn weights; ``options`` as in `BlockContainer`."""
    return BlockContainer(DenseSynapse(nn.Linear(in_features, out_features).weight), neuron, **options)


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, int],
    neuron: CubaLIFNode,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    **options: Any,
) -> BlockContainer:
    """A block of a 2-D convolution with freshly drawn weights; ``options`` as in `BlockContainer`."""
    weight = nn.Conv2d(in_channels, out_channels, pair(kernel_size, "kernel_size", 1), groups=groups).weight
    return BlockContainer(ConvSynapse(weight, stride, padding, dilation, groups), neuron, **options)


def pool_block(
    kernel_size: int | tuple[int, int],
    neuron: CubaLIFNode,
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    weight: float = 1.0,
    **options: Any,
) -> BlockContainer:
    """A block of a sum pool, or with ``weight = 1 / (kH kW)`` of an average pool whose quotient is quantised."""
    return BlockContainer(PoolSynapse(kernel_size, stride, padding, dilation, weight), neuron, **options)


def recurrent_block(in_features: int, out_features: int, neuron: CubaLIFNode, **options: Any) -> RecurrentBlock:
    """A recurrent dense block with freshly drawn weights; ``options`` as in `RecurrentBlock`."""
    forward, back = nn.Linear(in_features, out_features).weight, nn.Linear(out_features, out_features).weight
    return RecurrentBlock(DenseSynapse(forward), DenseSynapse(back), neuron, **options)


class ScaleChoice(NamedTuple):
    """The scale of a block, and the share of its weights that the 8-bit range cuts off at it."""

    name: str
    scale: int
    saturated: float
    largest_weight: float


def choose_scales(net: nn.Module, *, max_saturated: float = 0.0, largest: int = 1024) -> list[ScaleChoice]:
    """Give every block the largest power of two at which few enough weights saturate, and report it.

    Args:
        net: its `BlockContainer` modules are changed.
        max_saturated: share of weights that may be clamped, from 0 to 1.
        largest: upper bound of the scale.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= max_saturated < 1 or largest < 1:
        raise ValueError(f"max_saturated must lie in 0 ... 1 and largest be positive, got {max_saturated}, {largest}")
    choices = []
    for name, block in net.named_modules():
        if not isinstance(block, BlockContainer):
            continue
        weights = [block.folded_weight().detach().flatten()]
        if isinstance(block, RecurrentBlock):
            weights.append(block.recurrent.weight.detach().flatten())
        weight = torch.cat(weights)
        scale = 2 ** int(math.log2(largest))
        while scale > 1 and (
            _saturated(weight, scale) > max_saturated
            or threshold_mantissa(block.neuron.v_threshold, scale) > _THRESHOLD_LIMIT
        ):
            scale //= 2
        block.scale = scale
        choices.append(ScaleChoice(name, scale, _saturated(weight, scale), float(weight.abs().max())))
    return choices


def _saturated(weight: Tensor, scale: int) -> float:
    integers = torch.round(weight * scale / 2) * 2
    return float(((integers < -256) | (integers > 254)).double().mean())

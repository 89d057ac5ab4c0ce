"""The CUBA neuron of Loihi 2 as a trainable module, exact to the integer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from snn_lava_bridge.arithmetic import P_SCALE
from snn_lava_bridge.cuba_step import (
    Arithmetic,
    CubaSettings,
    DecayGradient,
    as_input,
    cuba_step,
    current_step,
    voltage_step,
)
from snn_lava_bridge.norm import MeanOnlyBatchNorm
from snn_lava_bridge.quantize import fraction_to_mantissa, step_quantize, threshold_mantissa
from snn_lava_bridge.straight_through import truncate
from snn_lava_bridge.surrogate import SlayerPdf
from snn_neurons.step_node import StepNode

_NUMBERS = ("i_decay", "v_decay", "v_bias", "v_limit", "units", "pdf_threshold")


class CubaLIFNode(StepNode):
    """Current-based leaky integrate-and-fire neuron in the fixed-point arithmetic of Loihi 2.

    ``I[t] = (1 - a_I) I[t-1] + X[t]``, ``V[t] = (1 - a_V) V[t-1] + I[t] + b``, a spike where ``V[t] > v_threshold``
    (strictly), after which V is 0. Decays are rounded to 1/4096 and the threshold down to ``1 / scale``; the memories
    ``i`` and ``v`` are integers in units of ``1 / s_scale``, and decays round toward zero. `i_seq` and `v_seq` are in
    the units of the input, the voltage before its reset.

    Args:
        current_decay: ``a_I`` per step from 0 to 1, a float or one per channel ``(C,)``.
        voltage_decay: ``a_V`` likewise.
        v_threshold: threshold in the units of the input, in which 1.0 is the integer weight ``scale``.
        v_reset: 0; the chip resets to nothing else.
        scale: integer weight of 1.0.
        requires_grad: learn both decays.
        surrogate_function: spike function of ``V - v_threshold``; `SlayerPdf` of the threshold by default.
        norm: `MeanOnlyBatchNorm` or `BatchNorm2d`, applied to I on its way into V but not to I's own recursion. In
            ``"chip"`` arithmetic its running statistics become bias and threshold, as on the chip.
        detach_reset: no gradient through the spike that resets.
        bias: added to V each step, rounded to ``1 / scale``; a tensor ``(C,)`` or a float. A parameter is learned.
        arithmetic: ``"slayer"``, unbounded integers as lava-dl trains, or ``"chip"``, 24-bit wrap and saturation.
            Both agree as long as nothing overflows.
        decay_gradient: ``"true"``, the derivative of the equations, or ``"slayer"``, the gradients lava-dl computes: no
            effect of the reset, and ``sum g[t+1] y[t]`` for a decay in units of 1/4096.
        graded_spike: emit V instead of 1 (``"slayer"`` arithmetic; the chip does not do this).
        wide: hold the memories in float64, exact beyond the 24 bits of float32. Only states that the chip would wrap or
            saturate need it.
        step_mode, backend: see `snn_neurons.StepNode`; with ``norm`` the node runs in ``"torch"``.
        store_v_seq, store_i_seq: keep the voltages and currents of a sequence as ``v_seq`` and ``i_seq``.

    Raises:
        ValueError: a decay outside 0 ... 1, a threshold that is not positive, ``v_reset`` other than 0, a scale that is
            no positive integer, or options that exclude one another.

    Reference: lava-dl's ``slayer.neuron.cuba``.
    """

    current_decay: Any
    voltage_decay: Any
    bias: Any
    v_threshold: float
    i: Tensor
    v: Tensor
    v_out: Tensor

    def __init__(
        self,
        current_decay: float | Tensor,
        voltage_decay: float | Tensor,
        v_threshold: float = 1.0,
        v_reset: float = 0.0,
        scale: int = 64,
        requires_grad: bool = False,
        surrogate_function: Callable[[Tensor], Tensor] | None = None,
        norm: MeanOnlyBatchNorm | None = None,
        detach_reset: bool = False,
        *,
        bias: float | Tensor | None = None,
        arithmetic: Arithmetic = "slayer",
        decay_gradient: DecayGradient = "true",
        graded_spike: bool = False,
        wide: bool = False,
        step_mode: Any = "s",
        backend: str = "auto",
        store_v_seq: bool = False,
        store_i_seq: bool = False,
    ) -> None:
        super().__init__(step_mode=step_mode, backend=backend, store_v_seq=False)
        if v_reset != 0.0:
            raise ValueError(f"v_reset must be 0, the only reset of the chip, got {v_reset!r}")
        if norm is not None and backend not in ("auto", "torch"):
            raise ValueError(f"a node with norm runs in backend='torch' (or 'auto'), got backend={backend!r}")
        if norm is not None and not isinstance(norm, MeanOnlyBatchNorm):
            raise ValueError(f"norm must be this package's MeanOnlyBatchNorm or BatchNorm2d, got {norm!r}")
        _check_choice("arithmetic", arithmetic, ("slayer", "chip"))
        _check_choice("decay_gradient", decay_gradient, ("true", "slayer"))
        if graded_spike and arithmetic == "chip":
            raise ValueError("graded_spike=True has no counterpart in arithmetic='chip'; spikes there are binary")
        for name, decay in (("current_decay", current_decay), ("voltage_decay", voltage_decay)):
            _check_decay(name, decay)
            self._register(name, decay, learnable=requires_grad)
        self._register("bias", 0.0 if bias is None else bias)
        self.v_threshold = float(v_threshold)
        # What the step takes, made of the settings above anew in every forward: kernels are the same for all of them.
        for name in _NUMBERS:
            self.register_param(name, 0.0)
        self._scale = 0
        self.arithmetic = arithmetic
        self.decay_gradient = decay_gradient
        self.detach_reset = detach_reset
        self.graded_spike = graded_spike
        self.wide = wide
        self.norm = norm
        self.store_v_seq, self.store_i_seq = store_v_seq, store_i_seq
        self._i_seq: Tensor | None = None
        self.scale = scale
        self.surrogate: Callable[[Tensor], Tensor] = surrogate_function or SlayerPdf(self.effective_threshold)
        self._input_dtype = torch.float32
        self.emit_voltage = False
        self._extra_bias: Tensor | None = None
        self.register_memory("i", 0.0)
        self.register_memory("v", 0.0)
        if decay_gradient == "slayer":
            self.register_memory("v_out", 0.0)

    # -- integers ----------------------------------------------------------------------------------------------------
    @property
    def scale(self) -> int:
        """Integer weight of 1.0; assigning it moves the grids of threshold, bias and state."""
        return self._scale

    @scale.setter
    def scale(self, value: float) -> None:
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise ValueError(f"scale must be a positive integer, got {value!r}")
        if threshold_mantissa(self.v_threshold, value) < 1:
            raise ValueError(
                f"v_threshold={self.v_threshold!r} is below one unit, 1/scale = {1 / value:.4g}; raise either"
            )
        if value != self._scale and self._scale:
            self.reset()
        self._scale = int(value)

    @property
    def i_seq(self) -> Tensor | None:
        """Currents of the last sequence where ``store_i_seq``, ``[T, N, ...]`` in the units of the input."""
        return self._i_seq

    @property
    def s_scale(self) -> int:
        """Integer state of 1.0, ``64 scale``."""
        return 64 * self._scale

    @property
    def p_scale(self) -> int:
        """Integer decay of 1.0, 4096."""
        return P_SCALE

    @property
    def threshold_mantissa(self) -> int:
        """``vThMant`` of the chip, ``int(v_threshold scale)``, times the norm's power of two in chip arithmetic."""
        return threshold_mantissa(self.v_threshold, self._scale)

    @property
    def effective_threshold(self) -> float:
        """The threshold on the grid of the chip, ``threshold_mantissa / scale``."""
        return self.threshold_mantissa / self._scale

    @property
    def current_decay_mantissa(self) -> Tensor:
        """``iDecay`` of the chip as it is now: int64, 0-d or ``(C,)``."""
        return _mantissa(self.current_decay)

    @property
    def voltage_decay_mantissa(self) -> Tensor:
        """``vDecay`` likewise."""
        return _mantissa(self.voltage_decay)

    def chip_bias(self) -> Tensor | None:
        """Bias mantissas, int64 0-d or ``(C,)``, with the norm's mean folded in; None where there is no bias."""
        bias = torch.as_tensor(self.bias, dtype=torch.float64).detach().cpu()
        if self.norm is None:
            mantissa = torch.round(bias * self._scale)
        else:
            # V here is 2**k times slayer's, which divides the current by 2**k after subtracting the mean.
            mean = self.norm.bias.detach().cpu().double() * self._scale
            mantissa = torch.round(bias * self._scale * 2.0**self.norm.exponent) + torch.round(mean)
        return mantissa.long() if bool(mantissa.any()) else None

    def chip_threshold(self) -> int:
        """``vThMant`` with the norm's power of two folded in, rounded."""
        return round(self.threshold_mantissa * 2.0 ** (self.norm.exponent if self.norm else 0))

    def _settings(self) -> CubaSettings:
        return CubaSettings(
            arithmetic=self.arithmetic,
            gradient=self.decay_gradient,
            detach_reset=self.detach_reset,
            graded=self.graded_spike,
            exact_division=self._scale & (self._scale - 1) == 0,
        )

    @contextmanager
    def extra_bias(self, bias: Tensor | None) -> Iterator[None]:
        """Add ``bias (C,)`` in weight units to the neuron's own within the context, as a folded norm needs it."""
        self._extra_bias = bias
        try:
            yield
        finally:
            self._extra_bias = None

    # -- running -----------------------------------------------------------------------------------------------------
    def memory_dtype(self, x: Tensor) -> torch.dtype:
        """float32, or float64 where the input is or the node is ``wide``."""
        return torch.float64 if self.wide else super().memory_dtype(x)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        if scale is not None or shift is not None:
            x = x * (1.0 if scale is None else scale) + (0.0 if shift is None else shift)
        self._input_dtype = super().memory_dtype(x)
        self._clamp_decays()
        for name, value in self._numbers(x.dim() - (2 if self.step_mode == "m" else 1)).items():
            setattr(self, name, value)
        try:
            return cast(Tensor, super().forward(x))
        finally:
            # A graph left here would keep its memory and could not be copied.
            for name in _NUMBERS:
                setattr(self, name, 0.0)

    @torch.no_grad()
    def _clamp_decays(self) -> None:
        # An optimiser may step out of range; the chip cannot, and beyond the bound there is no gradient back.
        for decay in (self.current_decay, self.voltage_decay):
            if isinstance(decay, nn.Parameter) and decay.requires_grad:
                decay.clamp_(0.0, 1.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        slayer = self.decay_gradient == "slayer"
        v_out = state.v_out if slayer else state.v
        x = x.to(self._input_dtype)
        new = cuba_step(x, state.i, state.v, v_out, p, self._fire(p), self._settings())
        out = self._outputs(new.spike, new.i, new.v_out, p.units)
        kept = {"v_out": new.v_out.detach()} if slayer else {}
        return out, state._replace(i=new.i, v=new.v, **kept)

    def _fire(self, p: Any) -> Callable[[Tensor], Tensor]:
        """The surrogate; the default one takes its threshold, which differs from layer to layer, as a parameter."""
        if isinstance(self.surrogate, SlayerPdf):
            return replace(self.surrogate, v_threshold=p.pdf_threshold.detach())
        return self.surrogate

    def _outputs(self, spike: Tensor, i: Tensor, v_out: Tensor, units: Tensor) -> Any:
        extra = ([i / units] if self.store_i_seq else []) + ([v_out / units] if self.emit_voltage else [])
        return (spike, *extra) if extra else spike

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        folded = self.norm is not None and self.arithmetic == "slayer"
        outs = self._normed(x_seq) if folded else super().multi_step_forward(x_seq)
        return self._store(outs)

    def single_step_forward(self, x: Tensor) -> Tensor:
        folded = self.norm is not None and self.arithmetic == "slayer"
        outs = self._normed(x.unsqueeze(0)) if folded else super().single_step_forward(x)
        if isinstance(outs, tuple):
            outs = outs[0]
        return cast(Tensor, outs.squeeze(0) if folded else outs)

    def _run(self, x_seq: Tensor, backend: str, affine: Any = None) -> tuple[Tensor, ...]:
        if self.wide or not (self.arithmetic == "chip" or self._settings().exact_division):
            # float64 memories, or slayer's true division by s_scale, are beyond the fused kernels.
            if self.backend not in ("auto", "torch"):
                raise ValueError(
                    f"backend={self.backend!r} cannot run wide=True, nor slayer arithmetic with scale={self._scale}, "
                    "which is no power of two; use backend='auto' or 'torch'"
                )
            backend = "reference"
        # store_v_seq of the base would keep the memory itself; here v_seq is an output in the units of the input.
        keep, self.store_v_seq = self.store_v_seq, False
        self.emit_voltage = keep
        try:
            return super()._run(x_seq, backend, affine)
        finally:
            self.store_v_seq = keep

    def _store(self, outs: Any) -> Tensor:
        if not isinstance(outs, tuple):
            return cast(Tensor, outs)
        rest = list(outs[1:])
        if self.store_i_seq:
            self._i_seq = rest.pop(0)
        if self.store_v_seq:
            self.v_seq = rest.pop(0)
        return cast(Tensor, outs[0])

    def _normed(self, x_seq: Tensor) -> Any:
        assert self.norm is not None
        p, settings = self._tensor_params(self.memory_dtype(x_seq)), self._settings()
        i = self.i
        currents = []
        for x in x_seq.to(self._input_dtype).unbind(0):
            i = current_step(x, i, p.i_decay, p.units, settings)
            currents.append(as_input(i, x.dtype, p.units, settings).to(x.dtype) / p.units)
        u_seq = self.norm(torch.stack(currents).flatten(0, 1)).unflatten(0, (x_seq.shape[0], -1))
        v = self.v
        v_out = self.v_out if self.decay_gradient == "slayer" else v
        fire = self._fire(p)
        spikes, voltages = [], []
        for u in u_seq.unbind(0):
            j = truncate(u * p.units).to(v.dtype)
            s, v_out, v = voltage_step(j, v, v_out, p, fire, settings)
            spikes.append(s.to(x_seq.dtype))
            voltages.append(v_out / p.units)
        self.i, self.v = i, v
        if self.decay_gradient == "slayer":
            self.v_out = v_out.detach()
        out = [torch.stack(spikes)]
        out += [u_seq] if self.store_i_seq else []
        out += [torch.stack(voltages).to(x_seq.dtype)] if self.store_v_seq else []
        return tuple(out) if len(out) > 1 else out[0]

    def _numbers(self, step_dims: int) -> dict[str, float | Tensor]:
        """Decays in 1/4096, bias and threshold in state units, per-channel ones shaped for steps ``[N, C, ...]``."""
        chip = self.arithmetic == "chip"
        found: dict[str, float | Tensor] = {
            "i_decay": _whole_decay(self.current_decay),
            "v_decay": _whole_decay(self.voltage_decay),
            "v_limit": 64.0 * (self.chip_threshold() if chip else self.threshold_mantissa),
            "units": float(self.s_scale),
        }
        if isinstance(self.surrogate, SlayerPdf):
            found["pdf_threshold"] = self.surrogate.v_threshold
        if chip and self.norm is not None:
            mantissa = self.chip_bias()
            found["v_bias"] = 0.0 if mantissa is None else 64.0 * mantissa.to(self.norm.running_mean)
        elif isinstance(self.bias, Tensor) or self._extra_bias is not None:
            bias = self.bias if self._extra_bias is None else self._extra_bias + self.bias
            found["v_bias"] = step_quantize(bias * self._scale) * 64
        else:
            found["v_bias"] = 64.0 * round(self.bias * self._scale)
        return {name: self._per_channel(name, value, step_dims) for name, value in found.items()}

    def _per_channel(self, name: str, value: float | Tensor, step_dims: int) -> float | Tensor:
        if not isinstance(value, Tensor) or value.numel() == 1:
            return value.reshape(()) if isinstance(value, Tensor) else value
        if step_dims < 1:
            raise ValueError(f"{name} has one value per channel, but a step of the input has no channel dim")
        return value.view(-1, *([1] * (step_dims - 1)))

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_i_seq"] = None
        return state

    def _register(self, name: str, value: float | Tensor, *, learnable: bool = False) -> None:
        if isinstance(value, nn.Parameter):
            self.register_parameter(name, value)
        elif learnable:
            self.register_parameter(name, nn.Parameter(torch.as_tensor(value, dtype=torch.float32).clone()))
        elif isinstance(value, Tensor):
            self.register_buffer(name, value.detach().clone())
        else:
            setattr(self, name, float(value))

    def extra_repr(self) -> str:
        shown = []
        for name in ("current_decay", "voltage_decay", "bias"):
            value = getattr(self, name)
            shown.append(f"{name}={tuple(value.shape) if isinstance(value, Tensor) and value.dim() else float(value)}")
        text = f"{', '.join(shown)}, v_threshold={self.v_threshold}, scale={self._scale}, step_mode={self.step_mode!r}"
        return f"{text}, backend={self.backend!r}, arithmetic={self.arithmetic!r}, surrogate={self.surrogate!r}"


def _whole_decay(decay: float | Tensor) -> float | Tensor:
    if isinstance(decay, Tensor):
        return fraction_to_mantissa(decay)
    return _rounded_decay(decay)


@lru_cache(maxsize=1024)
def _rounded_decay(decay: float) -> float:
    return float(fraction_to_mantissa(torch.tensor(decay, dtype=torch.float32)))


def _mantissa(decay: Any) -> Tensor:
    value = torch.as_tensor(decay, dtype=torch.float32).detach().cpu()
    value = fraction_to_mantissa(value.clamp(0.0, 1.0)).long()
    return value.reshape(()) if value.numel() == 1 else value


def _check_decay(name: str, decay: float | Tensor) -> None:
    value = torch.as_tensor(decay).detach()
    if value.dim() > 1:
        raise ValueError(f"{name} must be a float or one value per channel (C,), got shape {tuple(value.shape)}")
    if not bool(((value >= 0) & (value <= 1)).all()):
        raise ValueError(f"{name} must lie in 0 ... 1, got {float(value.min()):.4g} ... {float(value.max()):.4g}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")

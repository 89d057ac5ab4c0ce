"""PyTorch's operations in terms of a program's, one call at a time."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from snn_neurons.builder import GraphBuilder
from snn_neurons.errors import NotFusableError
from snn_neurons.program import BINARY, COMPARE, UNARY, Ref

_SAME = {"clone", "alias", "detach", "lift_fresh_copy", "lift_fresh", "contiguous", "view_as", "positive"}
_RESHAPED = {"expand", "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze"}
_FILLED = {
    **dict.fromkeys(("zeros_like", "new_zeros", "zeros", "zero"), 0.0),
    **dict.fromkeys(("ones_like", "new_ones", "ones"), 1.0),
}
_LOGICAL = {"logical_and": "and", "logical_or": "or", "logical_not": "not"}
_BITWISE = {"bitwise_and": "and", "bitwise_or": "or", "bitwise_not": "not"}


def convert(build: GraphBuilder, target: Any, args: Sequence[Any], kwargs: dict[str, Any], dtype: Any) -> Any:
    """Add a call of ``target`` to the graph: its value, or ``None`` where the operation has no direct counterpart.

    Args:
        args: tensors as values of the graph, numbers as floats, all else as it was given.
        kwargs: the same.
        dtype: of the result.

    Raises:
        NotFusableError: the operation is known, but not this form of it.
    """
    name = target.overloadpacket.__name__
    if target._schema.is_mutable:
        name = name.removesuffix("_")
    number = build.as_float
    if name in _SAME or name in _RESHAPED:
        return args[0]
    if name == "copy":
        return number(args[1])
    if name.startswith(("empty", "new_empty")):
        return 0.0  # written before it is read
    if name in ("_to_copy", "convert_element_type", "to"):
        return _cast(build, target, args[0], dtype)
    if name in _FILLED:
        return _FILLED[name]
    if name in ("full_like", "full", "fill", "new_full"):
        return number(args[2] if name == "new_full" else args[1])
    if name == "scalar_tensor":
        return number(args[0])
    if name in ("add", "sub", "rsub"):
        a, b = args[:2] if name != "rsub" else args[1::-1]
        alpha = kwargs.get("alpha", args[2] if len(args) > 2 else 1.0)
        return build("add" if name == "add" else "sub", number(a), build("mul", number(b), alpha))
    if name in _BITWISE:
        if not all(build.is_bool(a) for a in args):
            raise NotFusableError(f"{target} on integers cannot be fused")
        return build(_BITWISE[name], *args)
    if name in _LOGICAL:
        return build(_LOGICAL[name], *[build.as_bool(a) for a in args])
    if name == "where" and len(args) == 3:
        return build("where", build.as_bool(args[0]), number(args[1]), number(args[2]))
    if name in ("clamp", "clamp_min", "clamp_max"):
        return _clamp(build, name, args, kwargs)
    if name == "pow":
        return _pow(build, number(args[0]), number(args[1]))
    if name == "div" and kwargs.get("rounding_mode"):
        return build(kwargs["rounding_mode"], build("div", number(args[0]), number(args[1])))
    if name == "round" and kwargs.get("decimals"):
        raise NotFusableError(f"{target} with decimals cannot be fused")
    if name in _COMPOSED:
        return _COMPOSED[name](build, *[number(a) for a in args])
    if name in COMPARE or name in BINARY or name in UNARY:
        return build(name, *[number(a) for a in args])
    return None


def _hyperbolic(build: GraphBuilder, a: Ref, sign: str) -> Ref:
    return build("mul", build(sign, build("exp", a), build("exp", build("neg", a))), 0.5)


_COMPOSED: dict[str, Callable[..., Ref]] = {
    "relu": lambda build, a: build("maximum", a, 0.0),
    "threshold_backward": lambda build, g, a, limit: build("where", build("le", a, limit), 0.0, g),
    "sigmoid_backward": lambda build, g, y: build("mul", g, build("mul", y, build("sub", 1.0, y))),
    "tanh_backward": lambda build, g, y: build("mul", g, build("sub", 1.0, build("mul", y, y))),
    "remainder": lambda build, a, b: build("sub", a, build("mul", b, build("floor", build("div", a, b)))),
    "sgn": lambda build, a: build("sign", a),
    "exp2": lambda build, a: build("exp", build("mul", a, math.log(2))),
    "log2": lambda build, a: build("mul", build("log", a), 1 / math.log(2)),
    "tan": lambda build, a: build("div", build("sin", a), build("cos", a)),
    "sinh": lambda build, a: _hyperbolic(build, a, "sub"),
    "cosh": lambda build, a: _hyperbolic(build, a, "add"),
    "hypot": lambda build, a, b: build("sqrt", build("add", build("mul", a, a), build("mul", b, b))),
    "isnan": lambda build, a: build("ne", a, a),
}


def _cast(build: GraphBuilder, target: Any, a: Ref, dtype: torch.dtype) -> Ref:
    if dtype.is_floating_point:
        return build.as_float(a)
    if dtype == torch.bool:
        return build.as_bool(a)
    if build.is_bool(a):
        return build.as_float(a)
    raise NotFusableError(f"{target} to {dtype} cannot be fused", "use torch.round or torch.floor")


def _clamp(build: GraphBuilder, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Ref:
    low = kwargs.get("min", args[1] if len(args) > 1 and name != "clamp_max" else None)
    high = kwargs.get("max", args[2] if len(args) > 2 else args[1] if name == "clamp_max" else None)
    a = build.as_float(args[0])
    if low is not None:
        a = build("maximum", a, build.as_float(low))
    if high is not None:
        a = build("minimum", a, build.as_float(high))
    return a


def _pow(build: GraphBuilder, a: Ref, b: Ref) -> Ref:
    if isinstance(b, float) and b in (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0):
        if b < 0:
            return build("reciprocal", _pow(build, a, -b))
        if b == 0.0:
            return 1.0
        if b == 0.5:
            return build("sqrt", a)
        square = build("mul", a, a) if b > 1 else a
        return square if b <= 2 else build("mul", square, a if b == 3 else square)
    return build("pow", a, b)


@cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """How PyTorch writes its other operations in simpler ones; importing them takes a while, so only where needed."""
    from torch._decomp import core_aten_decompositions, get_decompositions

    aten = torch.ops.aten
    more = (
        *(aten.leaky_relu, aten.leaky_relu_backward, aten.elu, aten.elu_backward, aten.softplus),
        *(aten.softplus_backward, aten.hardtanh, aten.hardtanh_backward, aten.threshold, aten.gelu),
        *(aten.gelu_backward, aten.silu, aten.silu_backward, aten.hardsigmoid, aten.hardsigmoid_backward),
        *(aten.hardswish, aten.hardswish_backward, aten.heaviside, aten.addcmul, aten.addcdiv, aten.lerp),
        *(aten.mish, aten.mish_backward, aten.log_sigmoid_forward, aten.log_sigmoid_backward, aten.square),
        *(aten.frac, aten.celu, aten.logit),
    )
    return {**core_aten_decompositions(), **get_decompositions(more)}

"""From a step written in PyTorch to a program: traced with its VJP, read operation by operation."""

import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.fx import Node
from torch.fx.experimental.proxy_tensor import make_fx

from snn_neurons.builder import GraphBuilder
from snn_neurons.errors import NotFusableError
from snn_neurons.program import BINARY, COMPARE, UNARY, Graph, Program, Ref

aten = torch.ops.aten
_EXTRA = (
    *(aten.leaky_relu, aten.leaky_relu_backward, aten.elu, aten.elu_backward, aten.softplus, aten.softplus_backward),
    *(aten.hardtanh, aten.hardtanh_backward, aten.threshold, aten.threshold_backward, aten.sigmoid_backward),
    *(aten.tanh_backward, aten.gelu, aten.gelu_backward, aten.silu, aten.silu_backward, aten.hardsigmoid),
    *(aten.hardsigmoid_backward, aten.hardswish, aten.hardswish_backward, aten.heaviside, aten.addcmul, aten.addcdiv),
    *(aten.lerp, aten.rsub, aten.mish, aten.mish_backward, aten.log_sigmoid_forward, aten.log_sigmoid_backward),
    *(aten.square, aten.frac, aten.celu, aten.logit),
)
_SAME = {"clone", "alias", "detach", "lift_fresh_copy", "lift_fresh", "contiguous", "view_as", "positive"}
_RENAME = {"sgn": "sign", "lt": "lt", "logical_and": "and", "logical_or": "or", "logical_not": "not"}
_BITWISE = {"bitwise_and": "and", "bitwise_or": "or", "bitwise_not": "not"}
# Odd and unequal to any parameter's usual count, so that an operation that mixes neurons shows in a shape.
_SIZE = 3


def trace_program(
    step: Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...]]],
    states: Sequence[str],
    params: Sequence[str],
    memory_outputs: int = 0,
    variables: Sequence[Tensor] = (),
) -> Program:
    """Trace ``step(x, states, params) -> (outs, new_states)`` and its VJP, all tensors of one shape.

    Args:
        variables: tensors that may change or be learned, and so must come as parameters instead of being read directly.

    Raises:
        NotFusableError: an operation is not pointwise, or Python branches on a value; the operation is named.
    """
    result: list[Program] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(_trace(step, tuple(states), tuple(params), memory_outputs, variables))
        except BaseException as error:
            failure.append(error)

    # A thread of its own has none of the caller's modes: tracing, autocast, transforms, no_grad.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _trace(
    step: Any, states: tuple[str, ...], params: tuple[str, ...], memory_outputs: int, variables: Sequence[Tensor]
) -> Program:
    n_s, n_p = len(states), len(params)
    count = {"outs": 0}

    def flat_step(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        outs, new = step(x, rest[:n_s], rest[n_s:])
        count["outs"] = len(outs)
        results = (*outs, *new)
        for value in results:
            if not isinstance(value, Tensor) or value.shape not in (x.shape, torch.Size(())):
                shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise NotFusableError(f"the step returned {shape} for an input {tuple(x.shape)}: not pointwise")
        return tuple(value.expand(x.shape) if value.shape != x.shape else value for value in results)

    inputs = [torch.full((_SIZE,), 1.5 + 0.25 * i) for i in range(1 + n_s + n_p)]
    uniform = frozenset(range(1 + n_s, 1 + n_s + n_p))
    forward = _read(_make_fx(flat_step, inputs), len(inputs), uniform, variables)
    n_o = count["outs"]
    grads = [torch.full((_SIZE,), 0.5) for _ in range(n_o + n_s)]

    def flat_vjp(*args: Tensor) -> tuple[Tensor, ...]:
        def floats(*primals: Tensor) -> tuple[Tensor, ...]:
            # A boolean output has no gradient.
            return tuple(o if o.is_floating_point() else o.to(torch.float32) for o in flat_step(*primals))

        _, pull = torch.func.vjp(floats, *args[: len(inputs)])  # type: ignore[misc]
        result: tuple[Tensor, ...] = pull(tuple(args[len(inputs) :]))
        return result

    backward = _read(_make_fx(flat_vjp, inputs + grads), len(inputs) + len(grads), uniform, variables)
    return Program(states, params, n_o, memory_outputs, forward, backward)


@lru_cache(maxsize=1)
def _decompositions() -> dict[Any, Any]:
    return {**core_aten_decompositions(), **get_decompositions(_EXTRA)}


def _make_fx(function: Any, inputs: list[Tensor]) -> torch.fx.GraphModule:
    try:
        return make_fx(function, decomposition_table=_decompositions())(*inputs)
    except NotFusableError:
        raise
    except Exception as error:
        raise NotFusableError(
            "the step cannot be traced: it must be made of pointwise tensor operations without Python branches on "
            f"values ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error


def _read(module: torch.fx.GraphModule, n_inputs: int, uniform: frozenset[int], variables: Sequence[Tensor]) -> Graph:
    build = GraphBuilder(n_inputs, uniform)
    values: dict[Node, Any] = {}
    placeholders = 0
    for node in module.graph.nodes:
        if node.op == "placeholder":
            values[node] = placeholders
            placeholders += 1
        elif node.op == "get_attr":
            constant = getattr(module, str(node.target))
            if constant.numel() != 1:
                raise NotFusableError(f"the step holds a constant tensor of shape {tuple(constant.shape)}; register it")
            if constant.requires_grad or any(constant.data_ptr() == v.data_ptr() for v in variables):
                raise NotFusableError(
                    "the step reads a tensor of the module directly, which a kernel would take as a constant; "
                    "declare it with register_param and read it from p"
                )
            values[node] = float(constant.item())
        elif node.op == "call_function":
            values[node] = _convert(build, node, values)
            if _changes_argument(node):
                values[node.args[0]] = values[node]
        elif node.op == "output":
            found = [values[o] if isinstance(o, Node) else 0.0 for o in node.args[0]]
            return build.build([build.as_float(f) for f in found])
    raise NotFusableError("the step has no output")


def _changes_argument(node: Node) -> bool:
    """Backward formulas and decompositions change their own intermediates in place."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _convert(build: GraphBuilder, node: Node, values: dict[Node, Any]) -> Any:
    target: Any = node.target
    if getattr(target, "__name__", "") == "getitem":
        source, index = node.args[0], cast(int, node.args[1])
        found = values[source]  # type: ignore[index]
        return found[index] if isinstance(found, tuple) else found
    packet = getattr(target, "overloadpacket", None)
    name = packet.__name__ if packet is not None else str(target)
    if _changes_argument(node):
        name = name.removesuffix("_")
    value = node.meta.get("val")
    if isinstance(value, Tensor) and value.shape not in (torch.Size((_SIZE,)), torch.Size(()), torch.Size((1,))):
        raise NotFusableError(f"{target} changes the shape: a fused step is pointwise; use backend='torch'")

    def ref(a: Any) -> Ref:
        return values[a] if isinstance(a, Node) else float(a)

    def number(a: Any) -> Ref:
        return build.as_float(ref(a))

    args, kwargs = node.args, node.kwargs
    if name in _SAME:
        return ref(args[0])
    if name == "copy":
        return number(args[1])
    if name.startswith(("empty", "new_empty")):
        return 0.0  # written before it is read
    if name in ("_to_copy", "convert_element_type", "to"):
        return _cast(build, target, ref(args[0]), value)
    if name in ("zeros_like", "new_zeros", "zeros"):
        return 0.0
    if name in ("ones_like", "new_ones", "ones"):
        return 1.0
    if name in ("full_like", "full", "new_full"):
        return float(args[1])  # type: ignore[arg-type]
    if name == "scalar_tensor":
        return float(args[0])  # type: ignore[arg-type]
    if name in ("expand", "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze"):
        return ref(args[0])
    if name in ("add", "sub"):
        b = build("mul", number(args[1]), float(kwargs.get("alpha", 1)))  # type: ignore[arg-type]
        return build(name, number(args[0]), b)
    if name in ("bitwise_and", "bitwise_or", "bitwise_not"):
        if not all(build.is_bool(ref(a)) for a in args):
            raise NotFusableError(f"{target} on integers cannot be fused; use backend='torch'")
        return build(_BITWISE[name], *[ref(a) for a in args])
    if name in ("logical_and", "logical_or", "logical_not"):
        return build(_RENAME[name], *[build.as_bool(ref(a)) for a in args])
    if name == "where":
        return build("where", build.as_bool(ref(args[0])), number(args[1]), number(args[2]))
    if name in ("clamp", "clamp_min", "clamp_max"):
        return _clamp(build, name, number, args, kwargs)
    if name == "relu":
        return build("maximum", number(args[0]), 0.0)
    if name == "pow":
        return _pow(build, number(args[0]), number(args[1]))
    if name == "div" and kwargs.get("rounding_mode"):
        return build(str(kwargs["rounding_mode"]), build("div", number(args[0]), number(args[1])))
    if name == "round" and kwargs.get("decimals"):
        raise NotFusableError(f"{target} with decimals cannot be fused; use backend='torch'")
    if name == "remainder":
        a, b = number(args[0]), number(args[1])
        return build("sub", a, build("mul", b, build("floor", build("div", a, b))))
    composed = _COMPOSED.get(name)
    if composed is not None:
        return composed(build, *[number(a) for a in args])
    name = _RENAME.get(name, name)
    if name in COMPARE or name in BINARY or name in UNARY:
        return build(name, *[number(a) for a in args])
    raise NotFusableError(f"{target} cannot be fused: it is not one of the pointwise operations; use backend='torch'")


def _hyperbolic(build: GraphBuilder, a: Ref, sign: str) -> Ref:
    return build("mul", build(sign, build("exp", a), build("exp", build("neg", a))), 0.5)


_COMPOSED: dict[str, Callable[..., Ref]] = {
    "exp2": lambda build, a: build("exp", build("mul", a, math.log(2))),
    "log2": lambda build, a: build("mul", build("log", a), 1 / math.log(2)),
    "tan": lambda build, a: build("div", build("sin", a), build("cos", a)),
    "sinh": lambda build, a: _hyperbolic(build, a, "sub"),
    "cosh": lambda build, a: _hyperbolic(build, a, "add"),
    "hypot": lambda build, a, b: build("sqrt", build("add", build("mul", a, a), build("mul", b, b))),
    "isnan": lambda build, a: build("ne", a, a),
}


def _cast(build: GraphBuilder, target: Any, a: Ref, value: Any) -> Ref:
    dtype = value.dtype if isinstance(value, Tensor) else torch.float32
    if dtype.is_floating_point:
        return build.as_float(a)
    if dtype == torch.bool:
        return build.as_bool(a)
    if build.is_bool(a):
        return build.as_float(a)
    raise NotFusableError(f"{target} to {dtype} cannot be fused; use torch.round or torch.floor, or backend='torch'")


def _clamp(build: GraphBuilder, name: str, number: Any, args: Any, kwargs: Any) -> Ref:
    low = kwargs.get("min", args[1] if len(args) > 1 and name != "clamp_max" else None)
    high = kwargs.get("max", args[2] if len(args) > 2 else args[1] if name == "clamp_max" else None)
    a: Ref = number(args[0])
    if low is not None:
        a = build("maximum", a, number(low))
    if high is not None:
        a = build("minimum", a, number(high))
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

"""From a step written in PyTorch to a program: the step and its VJP are run once, and every operation is noted."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from snn_neurons.aten import convert, decompositions
from snn_neurons.builder import GraphBuilder
from snn_neurons.errors import NotFusableError
from snn_neurons.program import Graph, Program, Ref

# Odd and unequal to any parameter's usual count, so that an operation that mixes neurons shows in a shape.
_SIZE = 3
_USE_WHERE = "a kernel knows no values in Python: use torch.where"
_SHAPES = (torch.Size((_SIZE,)), torch.Size(()), torch.Size((1,)))


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
    forward = _record(flat_step, inputs, uniform, variables)
    n_o = count["outs"]
    grads = [torch.full((_SIZE,), 0.5) for _ in range(n_o + n_s)]

    def flat_vjp(*args: Tensor) -> tuple[Tensor | None, ...]:
        primals = args[: len(inputs)]
        pairs = zip(flat_step(*primals), args[len(inputs) :], strict=True)
        differentiable = [(o, g) for o, g in pairs if o.requires_grad]
        outs, given = [o for o, _ in differentiable], [g for _, g in differentiable]
        return torch.autograd.grad(outs, primals, given, create_graph=True, allow_unused=True)

    primals = [i.clone().requires_grad_() for i in inputs]
    backward = _record(flat_vjp, [*primals, *grads], uniform, variables)
    return Program(states, params, n_o, memory_outputs, forward, backward)


def _record(
    function: Callable[..., tuple[Tensor | None, ...]],
    inputs: list[Tensor],
    uniform: frozenset[int],
    variables: Sequence[Tensor],
) -> Graph:
    recorder = _Recorder(inputs, uniform, variables)
    try:
        with recorder, _Opaque():
            results = function(*inputs)
    except NotFusableError:
        raise
    except Exception as error:
        raise NotFusableError(
            "the step cannot be traced: it must be made of pointwise tensor operations without Python branches on "
            f"values ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from error
    values = [0.0 if r is None else recorder.build.as_float(recorder.ref(r)) for r in results]
    return recorder.build.build(values)


class _Opaque(TorchFunctionMode):
    """Refuses the ways from a tensor to its value that do not pass through an operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.data_ptr, Tensor.untyped_storage):
            raise NotFusableError(f"the step calls Tensor.{func.__name__}", _USE_WHERE)
        return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    """Notes every operation below autograd, and runs it, so that shapes and types are the real ones."""

    def __init__(self, inputs: Sequence[Tensor], uniform: frozenset[int], variables: Sequence[Tensor]) -> None:
        super().__init__()
        self.build = GraphBuilder(len(inputs), uniform)
        self._variables = variables
        # By identity; the tensor is kept, so that no other one takes its place.
        self._known: dict[int, tuple[Tensor, Ref]] = {id(t): (t, i) for i, t in enumerate(inputs)}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # hiding the method below from the compiler imports the compiler, which takes over a second

    def ref(self, tensor: Tensor) -> Ref:
        """The value of the graph that ``tensor`` is; one that no operation here made is a constant."""
        found = self._known.get(id(tensor))
        if found is not None:
            return found[1]
        if tensor.numel() != 1:
            raise NotFusableError(f"the step holds a constant tensor of shape {tuple(tensor.shape)}", "register it")
        if tensor.requires_grad or any(tensor.data_ptr() == v.data_ptr() for v in self._variables):
            raise NotFusableError(
                "the step reads a tensor of the module directly, which a kernel would take as a constant",
                "declare it with register_param and read it from p",
            )
        return float(tensor.item())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(self.ref(args[0]), int):
            raise NotFusableError("the step reads a tensor's value by a branch or .item()", _USE_WHERE)
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor):
            return out if func is torch.ops.aten._local_scalar_dense.default else self._decomposed(func, args, kwargs)
        value = convert(
            self.build, func, [self._given(a) for a in args], {k: self._given(a) for k, a in kwargs.items()}, out.dtype
        )
        if value is None:
            return self._decomposed(func, args, kwargs)
        if out.shape not in _SHAPES:
            raise NotFusableError(f"{func} changes the shape: a fused step is pointwise")
        self._known[id(out)] = (out, value)
        return out

    def _given(self, a: Any) -> Any:
        if isinstance(a, Tensor):
            return self.ref(a)
        return float(a) if isinstance(a, bool | int | float) else a

    def _decomposed(self, func: Any, args: Any, kwargs: Any) -> Any:
        simpler = decompositions().get(func)
        if simpler is not None:
            with self:
                out = simpler(*args, **kwargs)
            if out is not NotImplemented:
                return out
        raise NotFusableError(f"{func} cannot be fused: it is not one of the pointwise operations")

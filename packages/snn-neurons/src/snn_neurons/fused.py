"""One fused call over a sequence, and its place in the graph."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snn_neurons.choice import choose_backend
from snn_neurons.launch import Spec, backend_module, launch_backward, launch_forward
from snn_neurons.node_program import active_params, node_program
from snn_neurons.ops import spec_text
from snn_neurons.reference import named_tuple_type, run_reference
from snn_neurons.sharded import is_sharded, run_local

if TYPE_CHECKING:
    from snn_neurons.step_node import StepNode

Affine = tuple[float | Tensor, float | Tensor]


class _Fused(torch.autograd.Function):
    """Keeps the input, the initial states and a checkpoint every few steps; nothing per step."""

    @staticmethod
    def forward(ctx: Any, spec: Spec, node: Any, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        n_s = len(spec.program.states)
        result = launch_forward(spec, x, tensors[:n_s], tensors[n_s:], save=True)
        ctx.save_for_backward(x, *tensors, *result.saved)
        ctx.spec, ctx.node, ctx.count = spec, node, len(tensors)
        ctx.set_materialize_grads(False)
        if not spec.out_dtype.is_floating_point:
            ctx.mark_non_differentiable(*result.outs[: spec.program.n_outputs - spec.program.memory_outputs])
        return (*result.outs, *result.lasts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        spec: Spec = ctx.spec
        x, *tensors = ctx.saved_tensors
        tensors, saved = tensors[: ctx.count], tensors[ctx.count :]
        n_s, n_o = len(spec.program.states), spec.program.n_outputs
        if torch.is_grad_enabled():
            node, affine = ctx.node
            return (None, None, *_differentiable(node, affine, spec, x, tensors, grads))
        g = launch_backward(
            spec,
            x,
            tensors[:n_s],
            tensors[n_s:],
            saved,
            grads[:n_o],
            grads[n_o:],
            ctx.needs_input_grad[2],
            ctx.needs_input_grad[3 + n_s :],
        )
        return (None, None, g.x, *g.states, *g.params)


def _differentiable(
    node: "StepNode", affine: bool, spec: Spec, x: Tensor, tensors: Sequence[Tensor], grads: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Gradients that can be differentiated again: by the reference loop, with its graph."""
    n_s = len(spec.program.states)
    inputs = [x, *tensors]
    with torch.enable_grad():
        names = _tensor_names(node)
        given = dict(zip(names, tensors[n_s:], strict=False))
        x_seq = x
        if affine:
            rest = iter(tensors[n_s + len(names) :])
            scale, shift = (next(rest) if s is None else s for s in spec.scalars[-2:])
            x_seq = x.to(spec.memory_dtype) * scale + shift
        default = node._tensor_params(spec.memory_dtype)._asdict()
        default.update({k: v.to(spec.memory_dtype) for k, v in given.items()})
        p = named_tuple_type("Params", node.param_names)(**default)
        outs, last, v_seq = run_reference(node, x_seq, [t.to(spec.memory_dtype) for t in tensors[:n_s]], p)
        results = [*[o.to(spec.out_dtype) for o in outs], *([v_seq] if v_seq is not None else []), *last]
        pairs = [(r, g) for r, g in zip(results, grads, strict=True) if g is not None and r.requires_grad]
        wanted = [t for t in inputs if t.requires_grad]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in pairs], wanted, [g for _, g in pairs], create_graph=True, allow_unused=True
            )
        )
    return [next(found) if t.requires_grad else None for t in inputs]


def _tensor_names(node: "StepNode") -> list[str]:
    return [n for n in active_params(node) if isinstance(getattr(node, n), Tensor)]


def run_fused(
    node: "StepNode", x_seq: Tensor, state: list[Tensor], backend: str, affine: Affine | None = None
) -> tuple[tuple[Tensor, ...], list[Tensor], Tensor | None]:
    """Run ``node`` over ``x_seq [T, N, ...]`` from ``state`` in ``backend``; as `run_reference`.

    Args:
        affine: scale and shift of the input, tensors that broadcast over the neuron shape, or numbers.
    """
    if is_sharded(x_seq):
        return run_local(lambda x, s: run_fused(node, x, s, backend), x_seq, state)
    program = node_program(node, affine is not None)
    memory_dtype = node.memory_dtype(x_seq)
    if not x_seq.dtype.is_floating_point:
        x_seq = x_seq.to(memory_dtype)
    scalars: list[float | None] = []
    tensors = list(state)
    for value in (*[getattr(node, name) for name in active_params(node)], *(affine or ())):
        scalars.append(value if isinstance(value, float) else None)
        if isinstance(value, Tensor):
            tensors.append(value)
    spec = Spec(program, backend, tuple(scalars), node._out_dtype(x_seq), memory_dtype)
    n_s = len(state)
    needs_grad = torch.is_grad_enabled() and (x_seq.requires_grad or any(t.requires_grad for t in tensors))
    if needs_grad:
        flat = list(_Fused.apply(spec, (node, affine is not None), x_seq, *tensors))
    else:
        result = launch_forward(spec, x_seq, tensors[:n_s], tensors[n_s:], save=False)
        flat = [*result.outs, *result.lasts]
    return _split(flat, program.n_outputs, program.memory_outputs, n_s)


def _split(
    flat: list[Tensor], n_outputs: int, memory_outputs: int, n_states: int
) -> tuple[tuple[Tensor, ...], list[Tensor], Tensor | None]:
    v_seq = flat[n_outputs - 1] if memory_outputs else None
    return tuple(flat[: n_outputs - memory_outputs]), flat[n_outputs : n_outputs + n_states], v_seq


def plan(node: "StepNode", device: str, dtype: torch.dtype, affine: bool = False) -> tuple[str, int, int] | None:
    """What a compiled graph needs to call ``node``: its specification, all parameters tensors, and its outputs."""
    like = torch.empty(0, dtype=dtype, device="cpu" if device == "cpu" else "meta")
    backend = choose_backend(node, like, device)
    if backend == "reference":
        return None
    program = node_program(node, affine)
    if not dtype.is_floating_point:
        dtype = node.memory_dtype(like)
    # One distance between checkpoints, that of long sequences, so that one graph serves every T.
    every = backend_module(backend).checkpoint_every(program, like.new_empty((256, 1)))
    fixed = (None,) * len(program.params)
    spec = Spec(program, backend, fixed, node._out_dtype(like), node.memory_dtype(like), every)
    return spec_text(spec), program.n_outputs, program.memory_outputs


# The compiler takes the result as a constant instead of looking into the tracing.
plan._dynamo_marked_constant = True  # type: ignore[attr-defined]


def run_compiled(
    node: "StepNode", x_seq: Tensor, state: list[Tensor], affine: Affine | None = None
) -> tuple[tuple[Tensor, ...], list[Tensor], Tensor | None]:
    """`run_fused` inside `torch.compile` or `torch.export`: one operation, parameters as its tensors."""
    found = plan(node, x_seq.device.type, x_seq.dtype, affine is not None)
    if found is None:
        return run_reference(node, x_seq if affine is None else x_seq * affine[0] + affine[1], state)
    spec, n_outputs, memory_outputs = found
    dtype = node.memory_dtype(x_seq)
    if not x_seq.dtype.is_floating_point:
        x_seq = x_seq.to(dtype)
    params, want = [], []
    for value in (*[getattr(node, name) for name in node._param_names], *(affine or ())):
        if isinstance(value, Tensor):
            params.append(value)
            want.append(value.requires_grad)
        elif value is not None:
            params.append(torch.full((), value, dtype=dtype, device=x_seq.device))
            want.append(False)
    save = torch.is_grad_enabled()
    flat = torch.ops.snn_neurons.forward(spec, x_seq, state, params, want, save)
    return _split(flat, n_outputs, memory_outputs, len(state))

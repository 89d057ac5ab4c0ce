"""Running modules over sequences: folded, stepped, in chunks, or with activation checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from snn_base.functional import functional_call
from snn_base.net import MemoryState, detach_net, load_memory_state, memory_modules, memory_state
from snn_base.outputs import join_chunks, stack_steps
from snn_base.step_module import StepModule


def seq_to_ann_forward(x_seq: Tensor, module: nn.Module) -> Tensor:
    """Apply a stateless module to all steps at once, ``y[t] = f(x[t])``, by folding time into the batch.

    Args:
        x_seq: ``[T, N, ...]``.
        module: takes ``[T * N, ...]``; normalisation statistics are then those of all steps together.

    Raises:
        ValueError: ``module`` holds memories, which a fold would mix between steps and samples, or ``x_seq`` has less
            than two dims.
    """
    if x_seq.dim() < 2:
        raise ValueError(f"seq_to_ann_forward: x_seq must be [T, N, ...], got shape {tuple(x_seq.shape)}")
    for name, stateful in memory_modules(module):
        if stateful.memory_names:
            raise ValueError(
                f"seq_to_ann_forward: {name or 'the module'} ({type(stateful).__name__}) has memories, and a fold of "
                "time into the batch would mix them; use multi_step_forward"
            )
    y: Tensor = module(x_seq.flatten(0, 1))
    return y.reshape(*x_seq.shape[:2], *y.shape[1:])


def multi_step_forward(x_seq: Tensor, module: nn.Module) -> Tensor:
    """Apply a single-step module to one step after the other, ``y[t] = f(x[t])``.

    Args:
        x_seq: ``[T, N, ...]`` with ``T >= 1``.
        module: takes ``[N, ...]``; stateful modules in it are in step mode ``"s"``. Where it returns a tuple, list or
            dict of tensors, so does this function.

    Raises:
        ValueError: ``x_seq`` has no step.
    """
    if x_seq.shape[0] == 0:
        raise ValueError("multi_step_forward: x_seq has no step (T = 0), so the shape of the output is not known")
    y_seq: Tensor = stack_steps([module(x) for x in x_seq.unbind(0)])
    return y_seq


def chunked_forward(net: nn.Module, x_seq: Tensor, chunk: int) -> Iterator[Tensor]:
    """Yield the outputs of ``net`` for chunks of a long sequence, with detached memories between them.

    Calling ``backward`` on each chunk's loss is truncated backpropagation through time: memory grows with the chunk,
    not with T.

    Args:
        net: in step mode ``"m"``.
        x_seq: ``[T, N, ...]``.
        chunk: steps per chunk, at least 1; the last one may be shorter.

    Raises:
        ValueError: ``chunk`` is less than 1 or ``net`` is in step mode ``"s"``.
    """
    _check_chunk("chunked_forward", net, chunk)

    def outputs() -> Iterator[Tensor]:
        for piece in x_seq.split(chunk):
            try:
                yield net(piece)
            finally:  # also where the caller leaves its loop early
                detach_net(net)

    return outputs()


def checkpoint_sequence(net: nn.Module, x_seq: Tensor, chunk: int) -> Tensor:
    """Run ``net`` over ``x_seq`` with activation checkpoints every ``chunk`` steps, gradients equal to the plain pass.

    Only inputs, outputs and the memories between chunks are kept; each chunk is run again in the backward pass from its
    own memories and buffers, with the same random numbers, and leaves the net as it finds it: BatchNorm counts each
    chunk once. Memories continue from and end as in the plain pass.

    Args:
        net: in step mode ``"m"``; a copy of its buffers is kept for each chunk.
        x_seq: ``[T, N, ...]`` with ``T >= 1``.
        chunk: steps per chunk, at least 1.

    Raises:
        ValueError: ``chunk`` is less than 1, ``x_seq`` has no step, or ``net`` is in step mode ``"s"``.
    """
    _check_chunk("checkpoint_sequence", net, chunk)
    if x_seq.shape[0] == 0:
        raise ValueError("checkpoint_sequence: x_seq has no step (T = 0)")
    outputs = []
    for piece in x_seq.split(chunk):
        y, state = checkpoint(_Rerun(net), memory_state(net), piece, use_reentrant=False)
        load_memory_state(net, state)
        outputs.append(y)
    y_seq: Tensor = join_chunks(outputs)
    return y_seq


class _Rerun:
    """A chunk's pass, which may change buffers of the net the first time and never again."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._before = [b if b.requires_grad else b.detach().clone() for _, _, b in _buffers(net)]
        self._ran = False

    def __call__(self, state: MemoryState, x: Tensor) -> tuple[Any, MemoryState]:
        if not self._ran:
            self._ran = True
            return functional_call(self._net, state, x)
        with _lent_buffers(self._net, self._before):
            return functional_call(self._net, state, x)


@contextmanager
def _lent_buffers(net: nn.Module, values: list[Tensor]) -> Iterator[None]:
    own = list(_buffers(net))
    try:
        for (module, name, _), value in zip(own, values, strict=True):
            module._buffers[name] = value.clone()
        yield
    finally:
        for module, name, buffer in own:
            module._buffers[name] = buffer


def _buffers(net: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for module in net.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                yield module, name, buffer


def _check_chunk(function: str, net: nn.Module, chunk: Any) -> None:
    if _takes_single_steps(net):
        raise ValueError(
            f"{function}: {type(net).__name__} is in step_mode='s' and would take a chunk for a batch; call "
            "snn_base.set_step_mode(net, 'm')"
        )
    if not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"{function}: chunk must be an integer of at least 1 step, got {chunk!r}")


def _takes_single_steps(net: nn.Module) -> bool:
    if isinstance(net, StepModule):
        return net.step_mode == "s"
    return type(net) is nn.Sequential and any(_takes_single_steps(child) for child in net)

"""Running modules over sequences: folded, stepped, in chunks, or with activation checkpoints."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from snn_base.functional import functional_call
from snn_base.net import detach_net, load_memory_state, memory_modules, memory_state


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
        module: takes ``[N, ...]``; stateful modules in it are in step mode ``"s"``.

    Raises:
        ValueError: ``x_seq`` has no step.
    """
    if x_seq.shape[0] == 0:
        raise ValueError("multi_step_forward: x_seq has no step (T = 0), so the shape of the output is not known")
    return torch.stack([module(x) for x in x_seq.unbind(0)])


def chunked_forward(net: nn.Module, x_seq: Tensor, chunk: int) -> Iterator[Tensor]:
    """Yield the outputs of ``net`` for chunks of a long sequence, with detached memories between them.

    Calling ``backward`` on each chunk's loss is truncated backpropagation through time: memory grows with the chunk,
    not with T.

    Args:
        net: in step mode ``"m"``.
        x_seq: ``[T, N, ...]``.
        chunk: steps per chunk, at least 1; the last one may be shorter.

    Raises:
        ValueError: ``chunk`` is less than 1.
    """
    _check_chunk("chunked_forward", chunk)

    def outputs() -> Iterator[Tensor]:
        for piece in x_seq.split(chunk):
            yield net(piece)
            detach_net(net)

    return outputs()


def checkpoint_sequence(net: nn.Module, x_seq: Tensor, chunk: int) -> Tensor:
    """Run ``net`` over ``x_seq`` with activation checkpoints every ``chunk`` steps, gradients equal to the plain pass.

    Only inputs, outputs and the memories between chunks are kept; each chunk is run again in the backward pass from its
    own memories, with the same random numbers. Memories continue from and end as in the plain pass.

    Args:
        net: in step mode ``"m"``; layers that change buffers in forward (BatchNorm in training) change them twice.
        x_seq: ``[T, N, ...]`` with ``T >= 1``.
        chunk: steps per chunk, at least 1.

    Raises:
        ValueError: ``chunk`` is less than 1 or ``x_seq`` has no step.
    """
    _check_chunk("checkpoint_sequence", chunk)
    if x_seq.shape[0] == 0:
        raise ValueError("checkpoint_sequence: x_seq has no step (T = 0)")
    outputs = []
    for piece in x_seq.split(chunk):
        y, state = checkpoint(functional_call, net, memory_state(net), piece, use_reentrant=False)
        load_memory_state(net, state)
        outputs.append(y)
    return torch.cat(outputs)


def _check_chunk(function: str, chunk: Any) -> None:
    if not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"{function}: chunk must be an integer of at least 1 step, got {chunk!r}")

"""Assertions that every stateful module of the toolkit, and of others built on it, should pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snn_base.functional import functional_call
from snn_base.net import detach_net, memory_state, reset_net, set_step_mode
from snn_base.outputs import join_chunks
from snn_base.sequences import multi_step_forward
from snn_base.step_module import StepModule


def assert_step_modes_agree(
    net: nn.Module,
    x_seq: Tensor,
    *,
    chunks: Sequence[int] = (1, 3),
    rtol: float = 1e-5,
    atol: float = 1e-6,
    gradients: bool = True,
    compiled: bool = False,
    dynamic: bool | None = None,
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Assert that single steps, one pass, chunks, the functional form and, if asked, the compiled net agree.

    Outputs and last memories are compared and, where the input is floating, gradients of the input and of all
    parameters for a fixed random cotangent. The net is left reset and in its first step mode.

    Args:
        net: a net whose stateful modules all take both step modes and that draws no random numbers between resets.
        x_seq: ``[T, N, ...]``. With ``T = 0`` all other ways must give the output of the first one's shape and leave
            the memories as they were.
        chunks: sizes of the chunks into which the sequence is cut.
        rtol, atol: tolerances of the comparison with the single-step run.
        gradients: whether to compare gradients.
        compiled: whether to compare ``torch.compile(net, fullgraph=True)`` too.
        dynamic, backend: of ``torch.compile``.

    Raises:
        AssertionError: two ways differ; the message names the way and the first value that differs.
    """
    first_mode = net.step_mode if isinstance(net, StepModule) else "m"

    def single() -> Tensor:
        if leaf.shape[0] == 0:  # no step to take: the empty sequence is compared among the other ways
            return net(leaf)  # type: ignore[no-any-return]
        set_step_mode(net, "s")
        try:
            return multi_step_forward(leaf, net)
        finally:
            set_step_mode(net, "m")

    def chunked(size: int) -> Callable[[], Tensor]:
        return lambda: join_chunks([net(piece) for piece in leaf.split(size)])

    def functional() -> Tensor:
        outputs = []
        state = None
        for piece in leaf.split(max(1, leaf.shape[0] // 2)):
            y, state = functional_call(net, state, piece)
            outputs.append(y)
        return torch.cat(outputs)

    ways: dict[str, Callable[[], Tensor]] = {"multi-step": lambda: net(leaf), "functional": functional}
    ways |= {f"chunks of {size}": chunked(size) for size in chunks}
    if compiled:
        graph = torch.compile(net, fullgraph=True, dynamic=dynamic, backend=backend)
        ways["compiled"] = lambda: graph(leaf)

    leaf = x_seq.detach().clone().requires_grad_(gradients and x_seq.is_floating_point())
    wanted = [leaf, *(p for p in net.parameters() if p.requires_grad)] if leaf.requires_grad else []

    def outcome(run: Callable[[], Tensor]) -> tuple[Tensor, list[Tensor | None], list[Tensor]]:
        reset_net(net)
        y = run()
        memories = [m.detach() for _, m in _tensors(net)]
        grads: list[Tensor | None] = []
        if wanted and y.requires_grad:
            cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y)
            grads = list(torch.autograd.grad(y, wanted, cotangent, allow_unused=True))
        return y.detach(), grads, memories

    set_step_mode(net, "m")
    expected = outcome(single)
    if leaf.shape[0] == 0:
        reset_net(net)
        fresh = [m.detach() for _, m in _tensors(net)]
        if len(fresh) != len(expected[2]):
            raise AssertionError("an empty sequence left a trace in the memories")
    for name, run in ways.items():
        actual = outcome(run)
        _close(actual[0], expected[0], f"{name}: output", rtol, atol)
        for i, (a, e) in enumerate(zip(actual[1], expected[1], strict=True)):
            zero = torch.zeros_like(wanted[i])
            _close(zero if a is None else a, zero if e is None else e, f"{name}: gradient {i}", rtol, atol)
        if name != "functional":  # which leaves the net's own memories alone
            for i, (a, e) in enumerate(zip(actual[2], expected[2], strict=True)):
                _close(a, e, f"{name}: last memory {i}", rtol, atol)
    reset_net(net)
    set_step_mode(net, first_mode)


def assert_gradients_match_float64(
    run: Callable[[list[Tensor]], Tensor],
    reference: Callable[[list[Tensor]], Tensor],
    inputs: Sequence[Tensor],
    *,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> None:
    """Assert that outputs and all gradients of ``run`` equal those of ``reference`` computed in float64.

    Args:
        run: function under test, called with leaves of the dtypes of ``inputs``.
        reference: the definition, called with the same values in float64.
        inputs: floating tensors to differentiate.
        rtol, atol: tolerances.

    Raises:
        AssertionError: an output or gradient differs.
    """
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    exact = [x.detach().to(torch.float64).requires_grad_() for x in inputs]
    y, e = run(leaves), reference(exact)
    _close(y.detach().double(), e.detach(), "output", rtol, atol)
    cotangent = torch.randn(e.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(e.device)
    grads = torch.autograd.grad(y, leaves, cotangent.to(y.dtype), allow_unused=True)
    expected = torch.autograd.grad(e, exact, cotangent, allow_unused=True)
    for i, (a, b) in enumerate(zip(grads, expected, strict=True)):
        zero = torch.zeros_like(exact[i])
        _close(zero if a is None else a.double(), zero if b is None else b, f"gradient {i}", rtol, atol)


def assert_state_is_kept_apart(net: nn.Module, x: Tensor) -> None:
    """Assert that reset, detach and further steps never change a tensor already returned, nor cut its graph.

    Raises:
        AssertionError: an output changed, or lost its gradient.
    """
    reset_net(net)
    x = x.detach().clone().requires_grad_()
    y = net(x)
    kept = y.detach().clone()
    state = {key: value.clone() for key, value in _tensors(net)}
    held = dict(_tensors(net))
    net(x)
    detach_net(net)
    reset_net(net)
    _close(y.detach(), kept, "an output after reset", 0.0, 0.0)
    for key, value in held.items():
        _close(value.detach(), state[key].detach(), f"memory {key} held by the caller", 0.0, 0.0)
    if y.requires_grad:
        (gradient,) = torch.autograd.grad(y.sum(), x, allow_unused=True)
        if gradient is None:
            raise AssertionError("detach before backward cut the graph of an output already returned")


@contextmanager
def poisoned_empty() -> Iterator[None]:
    """Fill what ``torch.empty`` and its kin return with NaN (or the largest integer), so that unwritten values show."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = fill


def _tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for prefix, memories in memory_state(net).items():
        for name, value in memories.items():
            if isinstance(value, Tensor):
                yield f"{prefix}.{name}", value


def _close(actual: Tensor, expected: Tensor, what: str, rtol: float, atol: float) -> None:
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, msg=lambda text: f"{what}: {text}")

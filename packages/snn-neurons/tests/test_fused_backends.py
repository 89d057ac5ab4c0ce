"""The fused backends against the plain loop in float64: outputs and every gradient."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_neurons import ATan, LIFNode, SpikingNode, launch, native_backend
from snn_neurons.native_build import no_compiler
from snn_neurons.native_threads import parallel_region
from snn_neurons.reference import run_reference

BACKENDS = ["torch", pytest.param("native", marks=pytest.mark.skipif(bool(no_compiler()), reason="no C compiler"))]
SHAPES = [(0, 2, 3), (1, 1), (5, 3, 7), (37, 2, 3, 5, 5), (19, 2, 300), (33, 1031)]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Every output is NaN before a kernel fills it."""

    def poison(tensors):
        for tensor in tensors:
            tensor.fill_(float("nan") if tensor.is_floating_point() else 77)

    monkeypatch.setattr(launch, "poison", poison)
    torch.manual_seed(0)


def options(name, size):
    return {
        "plain": {},
        "soft": {"v_reset": None},
        "detached": {"detach_reset": True, "decay_input": False},
        "scalars": {"learnable": ("tau", "v_threshold", "v_reset"), "v_reset": -0.1},
        "neurons": {
            "tau": torch.rand(size) + 1.5,
            "v_threshold": 0.5 + torch.rand(size),
            "learnable": ("tau", "v_threshold"),
        },
        "v_seq": {"store_v_seq": True, "surrogate": ATan(1.5)},
    }[name]


def outcome(node, x, v, backend, dtype, grads):
    """Output, last memory and the gradients of x, the initial memory and all parameters."""
    node = copy.deepcopy(node).to(dtype)
    node.step_mode = "m"
    x, v = (a.detach().to(dtype).requires_grad_() for a in (x, v))
    if backend == "reference":
        (y,), (last,), v_seq = run_reference(node, x, [v])
    else:
        node.backend, node.v = backend, v
        y = node(x)
        last, v_seq = node.v, node.v_seq
    loss = (y * grads[0].to(dtype)).sum() + (last * grads[1].to(dtype)).sum()
    if node.store_v_seq:
        loss = loss + (v_seq**2).sum()
    inputs = [x, v, *node.parameters()]
    # Without a step the loop has no use for x and the parameters.
    gradients = torch.autograd.grad(loss, inputs, allow_unused=len(x) == 0, materialize_grads=len(x) == 0)
    return [a.double() for a in (y, last, *gradients)]


def check(node, x, backend, dtype):
    v, grads = torch.rand(x.shape[1:]), (torch.randn(x.shape), torch.randn(x.shape[1:]))
    expected = outcome(node, x, v, "reference", torch.float64, grads)
    found = outcome(node, x, v, backend, dtype, grads)
    tolerance = 1e-11 if dtype == torch.float64 else 3e-5
    for a, b in zip(found, expected, strict=True):
        scale = 1 + (b.abs().max().item() if b.numel() else 0)
        torch.testing.assert_close(a / scale, b / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["plain", "soft", "detached", "scalars", "neurons", "v_seq"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_all_gradients_match_the_loop(shape, kind, backend):
    node = LIFNode(**options(kind, shape[-1]))
    check(node, torch.randn(shape) * 1.5 + 0.5, backend, torch.float64)
    if backend == "native":
        check(node, torch.randn(shape) * 1.5 + 0.5, backend, torch.float32)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=15)
@given(
    T=st.integers(1, 40), N=st.integers(1, 4), F=st.integers(1, 9), per_neuron=st.booleans(), seed=st.integers(0, 99)
)
def test_any_size(backend, T, N, F, per_neuron, seed):
    torch.manual_seed(seed)
    node = LIFNode(tau=torch.rand(F) + 1.5 if per_neuron else 1.7, learnable="tau")
    check(node, torch.randn(T, N, F) + 0.5, backend, torch.float64)


def layouts():
    x = torch.randn(6, 2, 3, 4, 5) + 0.5
    return {
        "channels_last": x.flatten(0, 1).contiguous(memory_format=torch.channels_last).view(6, 2, 3, 4, 5),
        "transposed": x.transpose(1, 2).contiguous().transpose(1, 2),
        "time_last": x.permute(1, 2, 3, 4, 0).contiguous().permute(4, 0, 1, 2, 3),
        "strided": torch.randn(6, 2, 3, 4, 10)[..., ::2],
        "skipped_steps": torch.randn(12, 2, 3, 4, 5)[::2],
        "constant": torch.rand(1, 2, 3, 4, 5).expand(6, -1, -1, -1, -1),
    }


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(layouts()))
def test_any_layout(name, backend):
    node = LIFNode(tau=torch.rand(3, 1, 1) + 1.5, v_threshold=torch.rand(4, 1) + 0.4, learnable=("tau", "v_threshold"))
    check(node, layouts()[name], backend, torch.float64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(19,), (19, 1), (19, 3), (19, 3, 16)])
def test_the_gradient_of_a_sum(shape, backend):
    """One number for all elements, forward and in the last memory: it has no memory for each of them."""
    x = (torch.randn(shape, dtype=torch.float64) + 0.5).requires_grad_()
    node = LIFNode(step_mode="m", backend=backend)
    y = node(x)
    (spikes,), (last,), _ = run_reference(LIFNode(), x, [torch.zeros_like(x[0])])
    found = [torch.autograd.grad(o.sum() + v.sum(), x)[0] for o, v in ((y, node.v), (spikes, last))]
    assert found[1].abs().sum() > 0
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dense_layout_is_kept(backend):
    x = layouts()["channels_last"].requires_grad_()
    node = LIFNode(step_mode="m", backend=backend)
    y = node(x)
    assert y.stride() == x.stride()
    y.backward(torch.ones_like(y))
    assert x.grad.stride() == x.stride()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_memory_in_float32(dtype, backend):
    x = (torch.randn(20, 3, 50) + 0.5).to(dtype).requires_grad_()
    node, exact = LIFNode(step_mode="m", backend=backend), LIFNode(step_mode="m", backend="torch")
    y = node(x)
    wide = x.detach().float().requires_grad_()
    expected = exact(wide)
    assert y.dtype == dtype
    assert node.v.dtype == torch.float32
    torch.testing.assert_close(y.float(), expected)
    torch.testing.assert_close(node.v, exact.v)
    y.backward(torch.ones_like(y))
    expected.sum().backward()
    torch.testing.assert_close(x.grad.float(), wide.grad, rtol=1e-2, atol=1e-3)


@pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")
@pytest.mark.parametrize("zero", ["v_reset", "v_threshold"])
def test_a_native_kernel_without_a_parameter_that_is_zero_gives_the_same(zero):
    """A float of 0 takes its operations with it; a tensor is read when the kernel runs."""
    x = torch.randn(40, 3, 50).requires_grad_()
    found = []
    for value in (0.0, torch.tensor(0.0)):
        node = LIFNode(step_mode="m", backend="native", learnable="tau", **{zero: value})
        y = node(x)
        found.append((y, node.v, *torch.autograd.grad((y * x.detach()).sum() + node.v.sum(), [x, node.tau])))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_native_conversions_of_every_half(dtype):
    class Same(SpikingNode):
        def step(self, x, state, p):
            return x, state._replace(v=x)

    bits = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype).unsqueeze(0)
    node = Same(step_mode="m", backend="native")
    y = node(x)
    torch.testing.assert_close(y, x, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(node.v, x[0].float(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_small_spikes(dtype, backend):
    x = torch.randn(9, 3, 70) + 0.5
    plain = LIFNode(step_mode="m")(x)
    small = LIFNode(step_mode="m", backend=backend, spike_dtype=dtype)(x.requires_grad_())
    assert small.dtype == dtype
    assert not small.requires_grad
    assert torch.equal(small.float(), plain)


class Everything(SpikingNode):
    """Uses every operation of the kernels; two memories and two outputs."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register_param("q", 0.7)
        self.register_memory("a", 0.1)

    def step(self, x, state, p):
        h = 0.5 * state.v + torch.sin(x) + torch.cos(state.a) * p.q
        s = self.fire(h - p.v_threshold, p)
        b = torch.tanh(x) + torch.sigmoid(h) + torch.exp(-h.abs()) + torch.log1p(h * h) + torch.sqrt(1 + h * h)
        b = b + torch.where((x > 0) & ~(h < 0.3), x, -h) + torch.clamp(h, -0.5, 0.5) + torch.erf(x) + torch.atan(h)
        b = (
            b
            + torch.maximum(x, h)
            - torch.minimum(x, p.q * h)
            + torch.relu(x)
            + torch.expm1(0.1 * h)
            + h**3
            + (1 + h * h) ** 0.3
        )
        b = (
            b
            + torch.floor(x).detach()
            + torch.round(x).detach()
            + torch.sign(x)
            + torch.rsqrt(2 + x * x)
            + torch.log(2 + h * h)
        )
        b = b + torch.nn.functional.softplus(h) + torch.nn.functional.leaky_relu(x, 0.1) + torch.fmod(x, 0.4).detach()
        return (s, 0.01 * b), state._replace(v=self.reset_membrane(h, s, p), a=0.9 * state.a + 0.1 * b.tanh())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_operation_and_several_outputs(backend, dtype):
    x = torch.randn(40, 3, 90, dtype=dtype)
    results = []
    for b, d in ((backend, dtype), ("reference", torch.float64)):
        node = Everything(step_mode="m", learnable=("q", "v_threshold"), backend="torch" if b == "reference" else b).to(
            d
        )
        xs = x.to(d).requires_grad_()
        if b == "reference":
            outs, last, _ = run_reference(node, xs, [torch.zeros(3, 90, dtype=d), torch.full((3, 90), 0.1, dtype=d)])
        else:
            outs = node(xs)
            last = [node.v, node.a]
        loss = sum((o * torch.linspace(0, 1, 90, dtype=d)).sum() for o in outs) + last[0].sum() + (last[1] ** 2).sum()
        results.append([a.double() for a in (*outs, *last, *torch.autograd.grad(loss, [xs, node.q, node.v_threshold]))])
    for a, e in zip(*results, strict=True):
        scale = 1 + e.abs().max()
        torch.testing.assert_close(a / scale, e / scale, rtol=0, atol=1e-11 if dtype == torch.float64 else 1e-4)


@pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")
@pytest.mark.skipif(not torch.backends.openmp.is_available(), reason="this PyTorch has no OpenMP")
def test_native_kernels_run_on_the_threads_of_pytorch(monkeypatch):
    assert parallel_region() != 0
    x = torch.randn(5, 400_000)
    monkeypatch.setattr(native_backend, "_threads", lambda work: 3)
    many = LIFNode(step_mode="m", backend="native")(x)
    monkeypatch.setattr(native_backend, "parallel_region", lambda: 0)
    assert torch.equal(LIFNode(step_mode="m", backend="native")(x), many)


@pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_does_not_wait_for_the_threads_of_its_parent():
    # Small enough for PyTorch's own operations, which would wait, to take one thread.
    script = """
import os, sys, torch
from snn_neurons import LIFNode, native_backend
native_backend._threads = lambda work: 3
x = torch.rand(5, 4000)
expected = LIFNode(step_mode="m", backend="native")(x)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(LIFNode(step_mode="m", backend="native")(x), expected) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


@pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")
def test_native_is_the_same_for_any_number_of_threads():
    x = torch.randn(64, 4, 20000)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            node = LIFNode(step_mode="m", backend="native", learnable="tau")
            xs = x.clone().requires_grad_()
            y = node(xs)
            y.backward(torch.ones_like(y))
            found.append((y.detach(), xs.grad, node.tau.grad))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_saved_for_backward_is_the_input_and_a_quarter_byte(backend):
    x = torch.randn(64, 4, 256, requires_grad=True)
    node = LIFNode(step_mode="m", backend=backend)
    saved = {}

    def pack(t):
        saved[t.data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        node(x)
    beyond = sum(t.numel() * t.element_size() for t in saved.values() if t.data_ptr() != x.data_ptr())
    initial = 4 * 256 * 4
    assert beyond - initial <= 0.25 * x.numel()


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_derivatives_are_those_of_the_loop(backend):
    node = LIFNode(step_mode="m", backend=backend, learnable="tau").double()
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)

    def twice(y):
        (g,) = torch.autograd.grad((y.sum(0) ** 2).sum(), x, create_graph=True)
        return torch.autograd.grad((g**2).sum(), [x, node.tau])

    found = twice(node(x))
    expected = twice(run_reference(node, x, [torch.zeros(2, 3, dtype=torch.float64)])[0][0])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_chunks_with_gradient_through_the_memory_equal_one_pass(backend):
    node = LIFNode(step_mode="m", backend=backend)
    x = torch.randn(50, 3, 4, dtype=torch.float64, requires_grad=True)
    (whole,) = torch.autograd.grad(node(x).cumsum(0).sum(), x)
    node.reset()
    y = torch.cat([node(part) for part in x.split(7)])
    (parts,) = torch.autograd.grad(y.cumsum(0).sum(), x)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_nothing(backend):
    x = torch.randn(8, 3, 4) + 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LIFNode(step_mode="m", backend=backend)(x)
    assert torch.equal(inside, LIFNode(step_mode="m", backend=backend)(x))


def test_a_parameter_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"shape \(5,\) does not broadcast over neurons of shape \(3, 4\)"):
        LIFNode(step_mode="m", tau=torch.full((5,), 2.0))(torch.randn(2, 1, 3, 4))

"""Every neuron in every backend of this machine against the plain loop in float64: outputs and all gradients.

LIF goes through the full cross of reset, detached reset and surrogate in two dtypes; the other neurons and surrogates
through each backend once, since a kernel is compiled for each.
"""

import copy
import functools

import pytest
import torch

import snn_neurons
from snn_neurons import LIFNode, SpikingNode
from snn_neurons.launch import backend_module
from snn_neurons.reference import run_reference

TOLERANCE = {torch.float64: 1e-9, torch.float32: 3e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
SURROGATES = [
    *(snn_neurons.ArcTan(), snn_neurons.Erf(), snn_neurons.FastSigmoid(), snn_neurons.Gaussian(), snn_neurons.Slayer()),
    *(snn_neurons.LeakyReLU(), snn_neurons.MultiGaussian(), snn_neurons.PiecewiseExp(), snn_neurons.QPseudoSpike()),
    *(snn_neurons.PiecewiseQuadratic(), snn_neurons.Rectangle(), snn_neurons.StraightThrough(), snn_neurons.Triangle()),
    *(snn_neurons.RoundClip(2), snn_neurons.FloorClip(2), snn_neurons.SuperSpike()),
]


@functools.cache
def why_not(backend):
    return backend_module(backend).unavailable(torch.zeros(1))


@pytest.fixture(params=["torch", "native"])
def backend(request):
    reason = why_not(request.param)
    if reason:
        pytest.skip(f"{request.param}: {reason}")
    return request.param


def check(node, dtype, shape=(7, 3, 5), seed=0):
    """Compare one pass of ``node`` with the loop over its step in float64, from the same memories."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return torch.randn(size, generator=generator, dtype=torch.float64)

    x_seq = (0.6 + 1.3 * draw(*shape)).to(dtype)
    node.step_mode = "m"
    memory_dtype = node.memory_dtype(x_seq)
    states = [(0.4 * draw(*shape[1:]) + (n == "count")).to(memory_dtype) for n in node.memory_names]
    if dtype == torch.float64:
        node.double()
    names = [n for n, p in node.named_parameters() if p.requires_grad]

    exact = copy.deepcopy(node).double()
    x_exact = x_seq.double().requires_grad_()
    s_exact = [s.double().requires_grad_() for s in states]
    (y_exact,), last_exact, _ = run_reference(exact, x_exact, s_exact)

    x_leaf, s_leaf = x_seq.clone().requires_grad_(), [s.clone().requires_grad_() for s in states]
    node.set_memories(dict(zip(node.memory_names, s_leaf, strict=True)))
    y = node(x_leaf)
    last = [node.memories[n] for n in node.memory_names]

    assert y.dtype == dtype
    tolerance = TOLERANCE[dtype]
    near = functools.partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)
    near(y.double(), y_exact)
    for name, a, e in zip(node.memory_names, last, last_exact, strict=True):
        assert a.dtype == memory_dtype
        near(a.double(), e, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"last {name}: {text}")

    cotangents = [draw(*r.shape).to(dtype) for r in (y, *last)]
    pairs = [t for t in zip((y, *last), (y_exact, *last_exact), cotangents, strict=True) if t[1].requires_grad]
    leaves = [x_leaf, *s_leaf, *(getattr(node, n) for n in names)]
    exact_leaves = [x_exact, *s_exact, *(getattr(exact, n) for n in names)]
    actual = torch.autograd.grad(
        [r for r, _, _ in pairs], leaves, [g.to(r.dtype) for r, _, g in pairs], allow_unused=True
    )
    right = torch.autograd.grad(
        [r for _, r, _ in pairs], exact_leaves, [g.double() for _, _, g in pairs], allow_unused=True
    )
    for name, a, e in zip(["x", *node.memory_names, *names], actual, right, strict=True):
        if a is None and e is None:
            continue
        a, e = torch.zeros_like(e) if a is None else a.double(), torch.zeros_like(a) if e is None else e
        scale = max(1.0, e.abs().max().item())
        near(a / scale, e.double() / scale, msg=lambda text, name=name: f"gradient of {name}: {text}")


# Every combination in float32 and bfloat16, a soft reset in the other two.
LIF_CASES = [
    (v_reset, detach, surrogate, dtype)
    for v_reset in (None, -0.1)
    for detach in (False, True)
    for surrogate in (snn_neurons.ATan(), snn_neurons.Sigmoid())
    for dtype in TOLERANCE
    if dtype in (torch.float32, torch.bfloat16) or (v_reset, detach, surrogate) == (None, False, snn_neurons.ATan())
]


@pytest.mark.parametrize(("v_reset", "detach", "surrogate", "dtype"), LIF_CASES, ids=str)
def test_lif(backend, v_reset, detach, surrogate, dtype):
    node = LIFNode(
        1.7,
        v_reset=v_reset,
        detach_reset=detach,
        surrogate=surrogate,
        backend=backend,
        learnable=("tau", "v_threshold", *(() if v_reset is None else ("v_reset",))),
    )
    check(node, dtype)


def test_every_neuron(backend, build, neuron):
    # A soft reset for one half, a hard one for the other: each neuron's equation is compared in both elsewhere.
    hard = len(neuron) % 2 == 0
    options = {"v_reset": -0.1 if hard else None, "backend": backend}
    check(build(neuron, learn=True, shape=(5,), **options), torch.float32)


@pytest.mark.parametrize("name", ["ALIF", "LIAF", "I-LIF", "OTTT"])
def test_half_precision_keeps_memories_in_float32(backend, build, name):
    check(build(name, backend=backend), torch.bfloat16)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: type(s).__name__)
def test_every_surrogate(backend, surrogate):
    check(LIFNode(v_reset=None, surrogate=surrogate, backend=backend), torch.float32)


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 1, 1), (2, 0, 3), (33, 2, 17), (5, 2, 3, 4, 2)], ids=str)
def test_odd_sizes(backend, shape):
    if 0 in shape:
        x_seq = torch.zeros(shape, requires_grad=True)
        node = LIFNode(backend=backend, step_mode="m")
        node(x_seq).sum().backward()
        assert x_seq.grad.shape == shape
        later = torch.rand(3, *shape[1:]) * 2
        assert torch.equal(node(later), LIFNode(backend=backend, step_mode="m")(later))
    else:
        check(LIFNode(backend=backend, learnable=("tau",)), torch.float32, shape)


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 1), (2, 4, 3)], ids=str)
def test_a_learned_sharpness_and_parameters_of_every_shape(backend, shape):
    def value(x):
        return torch.full(shape, x)

    node = LIFNode(
        value(1.6),
        v_threshold=value(0.9),
        v_reset=value(-0.1),
        surrogate=snn_neurons.Sigmoid(value(2.5)),
        learnable=("tau", "v_threshold", "v_reset", "surrogate_alpha"),
        backend=backend,
    )
    check(node, torch.float32, (5, 2, 2, 4, 3))


@pytest.mark.parametrize("constant", [float(n) for n in range(8)])
def test_a_constant_is_not_taken_for_the_value_of_the_same_number(constant, backend):
    class Mixed(SpikingNode):
        def charge(self, x, state, p):
            below = torch.where(state.v - 0.3 >= x, constant - state.v, constant + p.v_threshold)
            return state.v * p.v_threshold + state.v * constant + x * constant + constant * below

    x = torch.rand(3, 50, generator=torch.Generator().manual_seed(0)) - 0.5
    fused, loop = (
        Mixed(v_threshold=1.5, v_reset=None, step_mode=m, backend=b) for m, b in (("m", backend), ("s", "torch"))
    )
    torch.testing.assert_close(fused(x), torch.stack([loop(step) for step in x]))
    torch.testing.assert_close(fused.v, loop.v)

"""Random steps, as users may write them: every backend computes what the plain loop does, outputs and gradients.

``SNN_RANDOM_STEPS`` sets the number of steps drawn for the backend ``"torch"``, 60 by default; those that compile two
kernels for each get a sixth of them. A failing one is shown as it was drawn: to simplify it would take minutes.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from snn_neurons import SpikingNode
from snn_neurons.native_build import no_compiler
from snn_neurons.reference import run_reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NO_TRITON = pytest.mark.skipif(
    DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1",
    reason="no CUDA device, and TRITON_INTERPRET=1 is not set",
)
STEPS = int(os.environ.get("SNN_RANDOM_STEPS", "60"))
NAMES = ("x", "v", "w", "h", "s", "gain", "bias", "threshold")
# Whole numbers are also the numbers of values in a program.
LEAVES = st.one_of(st.sampled_from(NAMES), st.sampled_from([float(n) for n in range(-2, 10)] + [0.5, 0.3]))
ONE = {
    "neg": torch.neg, "abs": torch.abs, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu,
    "square": torch.square, "exp": lambda a: torch.exp(-torch.square(a)), "over": lambda a: 1 / (1 + torch.square(a)),
    "sin": torch.sin, "cos": torch.cos, "erf": torch.erf, "atan": torch.atan, "sqrt": lambda a: torch.sqrt(1 + a * a),
    "log1p": lambda a: torch.log1p(a * a), "expm1": lambda a: torch.expm1(-a.abs()),
    "power": lambda a: (1 + a * a) ** -1.5,
    "softplus": F.softplus, "silu": F.silu, "elu": F.elu, "leaky": F.leaky_relu, "clamp": lambda a: a.clamp(-0.4, 0.7),
    "floor": lambda a: a - torch.floor(a), "round": lambda a: a * torch.round(a), "sign": lambda a: a + torch.sign(a),
    "between": lambda a: a.masked_fill((a > 0.1) & ~(a >= 0.6) | (a < -0.5), 0.25),
}  # fmt: skip
TWO = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": lambda a, b: a / (1 + torch.square(b)),
    "max": torch.maximum, "min": torch.minimum, "keep": lambda a, b: a * (1 - (b >= 0.2).to(a.dtype)),
    "branch": lambda a, b: torch.where(a - b >= 0, a, 0.5 * b), "above": lambda a, b: torch.where(a > b, b, a - b),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3), "scaled": lambda a, b: torch.addcmul(a, b, b, value=-0.7),
}  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(sorted(ONE)), inner), st.tuples(st.sampled_from(sorted(TWO)), inner, inner)
    ),
    max_leaves=8,
)


def value(tree, names):
    if isinstance(tree, tuple):
        name, *inner = tree
        return {**ONE, **TWO}[name](*[value(t, names) for t in inner])
    return names[tree] if isinstance(tree, str) else torch.full_like(names["x"], tree)


class RandomNode(SpikingNode):
    def __init__(self, trees, **options):
        super().__init__(v_threshold=0.7, learnable=("v_threshold",), **options)
        self.trees = trees
        self.register_memory("w", 0.25)
        self.register_param("gain", 1.25, learnable=True)
        self.register_param("bias", torch.tensor([0.1, -0.2, 0.3]), learnable=True)

    def step(self, x, state, p):
        names = {"x": x, "v": state.v, "w": state.w, "gain": p.gain, "bias": p.bias, "threshold": p.v_threshold}
        names |= {name: torch.zeros_like(x) + names[name] for name in ("gain", "bias", "threshold")}
        charge, *trees = self.trees
        names["h"], names["s"] = state.v + x, state.w
        names["h"] = torch.tanh(value(charge, names)) + 0.9 * x
        names["s"] = self.fire(names["h"] - p.v_threshold, p)
        v, w = (torch.tanh(value(tree, names)) for tree in trees)
        return names["s"], state._replace(v=v, w=w)


@pytest.mark.parametrize(
    ("backend", "examples"),
    [
        ("torch", STEPS),
        pytest.param("native", STEPS // 6, marks=pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")),
        pytest.param("triton", STEPS // 6, marks=[pytest.mark.kernels, NO_TRITON]),
    ],
)
def test_random_steps(backend, examples):
    device = DEVICE if backend == "triton" else "cpu"

    @given(trees=st.tuples(TREES, TREES, TREES), seed=st.integers(0, 99))
    @settings(max_examples=examples, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None)
    def agree(trees, seed):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(shape, dtype=torch.float64, generator=generator).to(device)

        x = draw(19, 2, 3).requires_grad_()
        exact, node = (RandomNode(trees, step_mode="m", backend=b).to(x) for b in ("torch", backend))
        state = [draw(2, 3).requires_grad_() for _ in range(2)]
        outs, last, _ = run_reference(exact, x, state)
        right = [*outs, *last]
        node.set_memories(dict(zip(("v", "w"), state, strict=True)))
        found = [node(x), node.v, node.w]
        torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-9)
        weights = [draw(*r.shape) for r in right]
        both = gradients(node, found, weights, x, state), gradients(exact, right, weights, x, state)
        for mine, other in zip(*both, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-8 * max(1.0, float(other.abs().max())))

    agree()


def gradients(node, results, weights, x, state):
    leaves = [x, *state, *node.parameters()]
    pairs = [(r, w) for r, w in zip(results, weights, strict=True) if r.requires_grad]
    found = torch.autograd.grad([r for r, _ in pairs], leaves, [w for _, w in pairs], allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]

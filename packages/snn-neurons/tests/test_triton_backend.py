"""The Triton kernels against the step repeated in float64 with autograd."""

import importlib.util
import os
import re
import subprocess
import sys
from collections import namedtuple

import pytest
import torch

from snn_neurons.builder import GraphBuilder
from snn_neurons.call import Call
from snn_neurons.layout import Periodic
from snn_neurons.node_program import node_program
from snn_neurons.nodes import IFNode, LIFNode
from snn_neurons.program import COMPARE, UNARY, Program
from snn_neurons.spiking_node import SpikingNode

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no CUDA device, and TRITON_INTERPRET=1 is not set", allow_module_level=True)

from snn_neurons import triton_backend

# The interpreter computes with NumPy, which warns where IEEE arithmetic gives an infinity.
pytestmark = [
    pytest.mark.kernels,
    pytest.mark.filterwarnings("ignore:(overflow|divide by zero|invalid value) encountered:RuntimeWarning"),
]


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}


class Adaptive(SpikingNode):
    """Two memories, and a second output without a spike."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register_param("rho", 0.9)
        self.register_param("beta", torch.tensor(0.3))
        self.register_memory("a", 0.0)

    def step(self, x, state, p):
        h = 0.6 * state.v + x
        theta = p.v_threshold + p.beta * state.a
        s = self.fire(h - theta, p)
        new = state._replace(v=self.reset_membrane(h, s, p), a=p.rho * state.a + (1 - p.rho) * s)
        return (s, torch.tanh(h) * theta), new


class Exponential(SpikingNode):
    """Transcendental charge, and clipping."""

    def charge(self, x, state, p):
        return state.v + (x - state.v + 0.2 * torch.exp((state.v - 0.8).clamp(max=2.0))) / 3.0


class Synaptic(SpikingNode):
    """Four memories: chunks of four steps."""

    def __init__(self, **options):
        super().__init__(**options)
        for name in ("c", "d", "e"):
            self.register_memory(name, 0.0)

    def step(self, x, state, p):
        c = 0.5 * state.c + x
        d = 0.7 * state.d + 0.3 * c
        e = torch.where(c > 0, state.e + d, 0.5 * state.e)
        h = 0.8 * state.v + d
        s = self.fire(h - p.v_threshold, p)
        return s, state._replace(v=self.reset_membrane(h, s, p), c=c, d=d, e=e * 0.9)


NODES = {
    "if": IFNode,
    "lif": LIFNode,
    "lif soft, input not decayed": lambda: LIFNode(v_reset=None, decay_input=False),
    "lif detached": lambda: LIFNode(detach_reset=True, v_reset=-0.2),
    "adaptive": Adaptive,
    "exponential": Exponential,
    "synaptic": Synaptic,
}


class Case:
    """A node's program with an input, states, parameters and incoming gradients, all in storage order."""

    def __init__(self, node, T, M, dtype=torch.float32, params=None):
        generator = torch.Generator().manual_seed(T * 1000 + M)

        def random(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.node, self.program = node, node_program(node)
        self.memory = torch.float64 if dtype == torch.float64 else torch.float32
        given = params or {}
        self.params = [given.get(n, getattr(node, n)) for n in self.program.params]
        self.params = [p.to(DEVICE) if isinstance(p, torch.Tensor) else p for p in self.params]
        self.params = [p.to(self.memory) if isinstance(p, torch.Tensor) else p for p in self.params]
        # Neurons whose spikes do not hang on rounding, of more than enough.
        x = (random(T, 2 * M + 20) * 0.7 + 0.5).to(dtype).to(DEVICE)
        states = [(random(2 * M + 20) * 0.3).to(DEVICE, self.memory) for _ in self.program.states]
        if not any(isinstance(p, Periodic) for p in self.params):
            kept = self.firm(x, states).nonzero()[:M, 0]
            x, states = x[:, kept].contiguous(), [s[kept] for s in states]
        self.x, self.states = x[:, :M].contiguous(), [s[:M].contiguous() for s in states]
        assert self.x.shape[1] == M
        self.T, self.M = T, M
        self.g_outs = [random(T, M).to(DEVICE, dtype) for _ in range(self.program.n_outputs)]
        self.g_lasts = [random(M).to(DEVICE, self.memory) for _ in self.program.states]

    def loop(self, x, states, params):
        names = self.program.params
        p = namedtuple("Params", self.node.param_names)(
            *[dict(zip(names, params, strict=True)).get(n) for n in self.node.param_names]
        )
        state, steps = namedtuple("State", self.program.states)(*states), []
        for t in range(x.shape[0]):
            out, state = self.node.step(x[t], state, p)
            steps.append(out if isinstance(out, tuple) else (out,))
        return [torch.stack(o) for o in zip(*steps, strict=True)], list(state)

    def values(self, leaves, M):
        return [
            v[torch.arange(M, device=DEVICE) // p.inner % p.values.numel()] if isinstance(p, Periodic) else v
            for p, v in zip(self.params, leaves, strict=True)
        ]

    def leaves(self):
        source = [
            p.values if isinstance(p, Periodic) else torch.as_tensor(p, dtype=torch.float64, device=DEVICE)
            for p in self.params
        ]
        return [s.double().requires_grad_() for s in source]

    def firm(self, x, states):
        runs = []
        for shift in (-1e-4, 0.0, 1e-4):
            outs, _ = self.loop(
                x.double() + shift, [s.double() for s in states], self.values(self.leaves(), x.shape[1])
            )
            runs.append(outs[0].detach())
        return ((runs[0] == runs[1]) & (runs[1] == runs[2])).all(0)

    def reference(self):
        leaves = self.leaves()
        x, states = self.x.double().requires_grad_(), [s.double().requires_grad_() for s in self.states]
        outs, lasts = self.loop(x, states, self.values(leaves, self.M))
        grads = torch.autograd.grad(
            [*outs, *lasts],
            [x, *states, *leaves],
            [g.double() for g in (*self.g_outs, *self.g_lasts)],
            allow_unused=True,
        )
        grads = [torch.zeros_like(v) if g is None else g for g, v in zip(grads, [x, *states, *leaves], strict=True)]
        return [o.detach() for o in outs], [v.detach() for v in lasts], grads

    def poisoned(self, *shape, dtype=None):
        dtype = dtype or self.memory
        return torch.full(shape, float("nan") if dtype.is_floating_point else 77, dtype=dtype, device=DEVICE)

    def call(self, every):
        return Call(self.program, self.x, self.M, self.states, self.params, every)

    def forward(self, save=True, out_dtype=None):
        every = triton_backend.checkpoint_every(self.program, self.x)
        outs = [self.poisoned(self.T, self.M, dtype=out_dtype or self.x.dtype) for _ in self.g_outs]
        lasts = [self.poisoned(self.M) for _ in self.states]
        count = max(0, -(-self.T // every) - 1)
        saved = [self.poisoned(count * self.M + 2) for _ in self.states] if save else None
        triton_backend.forward(self.call(every), outs, lasts, saved)
        return outs, lasts, saved, every

    def backward(self, saved, every, want=None, want_x=True, g_outs=None, g_lasts=None):
        g_x = self.poisoned(self.T, self.M, dtype=self.x.dtype) if want_x else None
        g_states = [self.poisoned(self.M) for _ in self.states]
        want = [True] * len(self.params) if want is None else want
        g_outs = self.g_outs if g_outs is None else g_outs
        g_lasts = self.g_lasts if g_lasts is None else g_lasts
        found = triton_backend.backward(self.call(every), saved, g_outs, g_lasts, g_x, g_states, want)
        return g_x, g_states, found


def check(case):
    outs, lasts, saved, every = case.forward()
    g_x, g_states, g_params = case.backward(saved, every)
    r_outs, r_lasts, r_grads = case.reference()
    tight, loose = TOLERANCE[case.memory], TOLERANCE[case.x.dtype]
    for a, b in zip(outs, r_outs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=loose, atol=loose)
    for a, b in zip([*lasts, *g_states], [*r_lasts, *r_grads[1 : 1 + len(g_states)]], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=tight, atol=tight)
    torch.testing.assert_close(g_x.double(), r_grads[0], rtol=loose, atol=loose)
    for a, b in zip(g_params, r_grads[1 + len(g_states) :], strict=True):
        torch.testing.assert_close(a.double(), b, rtol=10 * tight, atol=tight * (case.T * case.M) ** 0.5 * 5)


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize(("T", "M"), [(1, 1), (5, 37), (19, 144)])
def test_outputs_and_every_gradient(name, T, M):
    check(Case(NODES[name](), T, M))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("T", [4, 17])
def test_dtypes(dtype, T):
    check(Case(LIFNode(v_reset=0.1), T, 130, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_of_every_kind(dtype):
    M = 2 * 3 * 10
    params = {
        "v_threshold": Periodic(torch.tensor([0.61, 0.83, 1.07], device=DEVICE), 10),
        "v_reset": torch.tensor(0.11),
        "tau": Periodic(torch.linspace(1.3, 3.1, M // 2, device=DEVICE), 1),
    }
    check(Case(LIFNode(), 18, M, dtype, params))


def test_first_memories_alone_when_there_is_no_step():
    case = Case(LIFNode(), 3, 5)
    case.x, case.T, case.g_outs = case.x[:0], 0, [case.g_outs[0][:0]]
    outs, lasts, saved, every = case.forward()
    g_x, g_states, g_params = case.backward(saved, every)
    assert outs[0].shape == g_x.shape == (0, 5)
    assert torch.equal(lasts[0], case.states[0])
    assert torch.equal(g_states[0], case.g_lasts[0])
    assert all(g == 0 for g in g_params)


@pytest.mark.parametrize("kind", ["slice", "same step"])
def test_strides(kind):
    case = Case(LIFNode(), 19, 48)
    if kind == "slice":
        wide = torch.full((19, 61), float("nan"), device=DEVICE)
        wide[:, 3:51] = case.x
        case.x = wide[:, 3:51]
    else:
        case.x = case.x[:1].expand(19, 48)
        keep = case.firm(case.x, case.states).nonzero()[:24, 0].repeat(2)
        case.x, case.states = case.x[:1, keep].expand(19, 48), [s[keep] for s in case.states]
    check(case)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_spikes_as_bytes(dtype):
    case = Case(LIFNode(), 5, 50)
    expected, _, _, _ = case.forward()
    (spikes,), _, _, _ = case.forward(out_dtype=dtype)
    assert spikes.dtype == dtype
    assert 0 < expected[0].sum() < expected[0].numel()
    assert torch.equal(spikes.float(), expected[0])


def test_inference_keeps_nothing_and_gives_the_same():
    case = Case(LIFNode(), 35, 40)
    outs, lasts, saved, _ = case.forward(save=True)
    assert [s[:80].isfinite().all() and s[80:].isnan().all() for s in saved] == [True]  # two checkpoints of 40
    bare = case.forward(save=False)
    assert torch.equal(outs[0], bare[0][0])
    assert torch.equal(lasts[0], bare[1][0])


def test_only_wanted_gradients():
    case = Case(LIFNode(), 9, 40)
    _, _, saved, every = case.forward()
    g_x, g_states, g_params = case.backward(saved, every)
    some_x, some_states, some_params = case.backward(saved, every, want=[True, False, False], want_x=False)
    assert some_x is None
    assert some_params[1] is some_params[2] is None
    torch.testing.assert_close(some_params[0], g_params[0])
    assert torch.equal(some_states[0], g_states[0])
    zeros = [torch.zeros_like(g) for g in case.g_lasts]
    absent = case.backward(saved, every, g_lasts=[None])
    given = case.backward(saved, every, g_lasts=zeros)
    torch.testing.assert_close(absent[0], given[0])
    silent = case.backward(saved, every, g_outs=[None])
    torch.testing.assert_close(silent[0], case.backward(saved, every, g_outs=[torch.zeros_like(case.x)])[0])
    assert not torch.equal(silent[0], g_x)


def test_two_runs_are_equal_to_the_bit():
    case = Case(Adaptive(), 9, 200)
    first, second = [(case.forward(), case.backward(*case.forward()[2:])) for _ in range(2)]
    for a, b in zip(first[0][0] + first[1][2], second[0][0] + second[1][2], strict=True):
        assert torch.equal(a, b)


def test_one_kernel_for_all_lengths_and_sizes():
    triton_backend._kernel.cache_clear()
    for T, M in ((17, 48), (33, 16), (128, 32)):
        Case(IFNode(), T, M).forward()
    assert triton_backend._kernel.cache_info().currsize == 1


def test_every_operation():
    """One program whose outputs are all operations of the language, on values of both signs."""
    build = GraphBuilder(2)
    x, y = 0, 1
    positive = build("add", build("abs", x), 0.5)
    domain = {"sqrt": positive, "rsqrt": positive, "log": positive, "log1p": positive}
    results = [build(n, domain.get(n, x)) for n in UNARY]
    results += [build(n, x, y) for n in ("add", "sub", "mul", "div", "maximum", "minimum", "fmod")]
    results += [build("pow", positive, y), build("pow", x, build("round", y))]
    results += [build("float", build(n, x, build("round", y))) for n in COMPARE]
    low, high = build("lt", x, 1.0), build("gt", x, -1.0)
    results += [build("float", build(n, low, high)) for n in ("and", "or")]
    results += [build("float", build("not", low)), build("where", low, 2.5, x)]
    step = build.build([*results, y])
    program = Program(("y",), (), len(results), 0, step, step)

    values = torch.cat([torch.arange(-4, 4, 0.25), torch.linspace(-9, 9, 37), torch.tensor([1e-4, -1e-4, 30.0, -30.0])])
    X, Y = (
        g.flatten().to(DEVICE, torch.float32)
        for g in torch.meshgrid(values, torch.tensor([-1.5, 0.7, 2.0]), indexing="ij")
    )
    outs = [torch.full((1, X.numel()), float("nan"), device=DEVICE) for _ in results]
    last = torch.empty_like(Y)
    triton_backend.forward(Call(program, X[None], X.numel(), [Y], [], 1), outs, [last], None)

    X, Y = X.double(), Y.double()
    P = X.abs() + 0.5
    rounded = Y.round()
    expected = [getattr(torch, n)(P if n in domain else X) for n in UNARY]
    expected += [X + Y, X - Y, X * Y, X / Y, torch.maximum(X, Y), torch.minimum(X, Y), torch.fmod(X, Y)]
    expected += [P**Y, X**rounded]
    expected += [getattr(torch, n)(X, rounded).double() for n in COMPARE]
    expected += [((X < 1) & (X > -1)).double(), torch.ones_like(X), (X >= 1).double(), torch.where(X < 1, 2.5, X)]
    names = [*UNARY, "add", "sub", "mul", "div", "maximum", "minimum", "fmod", "pow", "pow of whole", *COMPARE]
    for i, (out, value) in enumerate(zip(outs, expected, strict=True)):
        name = names[i] if i < len(names) else f"logic {i - len(names)}"
        torch.testing.assert_close(
            out[0].double(), value, rtol=2e-5, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")
def test_captured_in_a_cuda_graph():
    case = Case(LIFNode(), 16, 4096)
    expected = case.forward()
    case.backward(*expected[2:])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outs, _, saved, every = case.forward()
        g_x, _, g_params = case.backward(saved, every)
    graph.replay()
    assert torch.equal(outs[0], expected[0][0])
    eager = case.backward(*expected[2:])
    assert torch.equal(g_x, eager[0])
    assert torch.equal(g_params[0], eager[2][0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device with 20 GB")
def test_more_elements_than_32_bits_count():
    if torch.cuda.mem_get_info()[0] < 20e9:
        pytest.skip("needs 20 GB of CUDA memory")
    T, M = 9, 1 << 28
    x = torch.full((T, M), 0.6, dtype=torch.bfloat16, device="cuda")
    out, v = torch.empty_like(x), torch.zeros(M, device="cuda")
    last = torch.empty_like(v)
    program = node_program(IFNode())
    triton_backend.forward(Call(program, x, M, [v], [1.0, 0.0], 16), [out], [last], None)
    assert (out.sum(1, dtype=torch.float64) == torch.tensor([0, M] * 4 + [0], device="cuda")).all()


COMPILE = """
import re, subprocess, tempfile
from triton import knobs
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from snn_neurons import triton_backend
from snn_neurons.node_program import node_program
from snn_neurons.nodes import LIFNode
from snn_neurons.triton_source import Variant

program = node_program(LIFNode())
kinds = ("value",) * len(program.params)
train = dict(params=kinds, checkpoints=True, aligned=True)
variants = {"forward": Variant(16, **train),
            "backward": Variant(16, **train, g_outs=(True,), g_lasts=(False,), want=(False,) * len(kinds))}
for name, variant in variants.items():
    kernel = triton_backend._kernel(program, variant, name)
    kind = lambda a: ("constexpr" if a == "BLOCK" else "*fp32" if a.endswith("_ptr") else
                      "fp32" if re.fullmatch(r"p[0-9]+", a) else "i32")
    source = ASTSource(kernel, {a: kind(a) for a in kernel.arg_names}, {"BLOCK": 128},
                       {(i,): [["tt.divisibility", 16]] for i, a in enumerate(kernel.arg_names) if "_" in a})
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=triton_backend._OPTIONS).asm["cubin"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        usage = subprocess.run([knobs.nvidia.cuobjdump.path, "-res-usage", file.name], capture_output=True, text=True)
    print(name, *re.search(r"REG:(\\d+) STACK:(\\d+).*?LOCAL:(\\d+)", usage.stdout).groups())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton's compiler is there on Linux only")
def test_compiles_for_hopper_without_spills():
    env = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.findall(r"^(\w+) (\d+) (\d+) (\d+)$", done.stdout, re.MULTILINE)
    assert [f[0] for f in found] == ["forward", "backward"]
    assert all(int(registers) < 255 and stack == local == "0" for _, registers, stack, local in found)


def test_the_gradient_of_a_sum():
    """One number for all elements: it has no memory for each of them."""
    x = (torch.randn(19, 3, 16, device=DEVICE) + 0.5).requires_grad_()
    found = [
        torch.autograd.grad(LIFNode(step_mode="m", backend=backend)(x).sum(), x)[0] for backend in ("triton", "torch")
    ]
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_node_on_channels_last_input(dtype):
    """Per-channel parameters, memories of every step, through the module: as the plain PyTorch backend."""
    torch.manual_seed(0)
    x = torch.randn(6, 2, 4, 5, 3, device=DEVICE).to(dtype).permute(0, 1, 4, 2, 3).requires_grad_()
    weight = torch.randn(x.shape, device=DEVICE).to(dtype)
    found = []
    for backend in ("triton", "torch"):
        tau = torch.tensor([1.5, 2.0, 3.0], device=DEVICE).view(3, 1, 1)
        node = LIFNode(tau=tau, learnable=("tau",), step_mode="m", backend=backend, store_v_seq=True).to(DEVICE)
        y = node(x)
        gradients = torch.autograd.grad((y * weight).sum() + (node.v + node.v_seq).sum(), [x, node.tau])
        assert y.stride() == x.stride()
        found.append((y.detach(), node.v_seq.detach(), *gradients))
    assert found[0][0].sum() > 0
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5 if a.dtype == torch.float32 else 1e-2, atol=1e-5)

"""Programs: what is traced, what is refused, how it is written and read."""

import math
import subprocess
import sys

import pytest
import torch

from snn_neurons import ATan, LIFNode, NotFusableError, SpikingNode
from snn_neurons.builder import GraphBuilder
from snn_neurons.node_program import node_program
from snn_neurons.passes import merge
from snn_neurons.program import program_from_text
from snn_neurons.torch_source import runner


def test_a_program_is_read_as_it_was_written():
    program = node_program(LIFNode(surrogate=ATan(3.0)))
    assert program_from_text(program.text) == program
    assert program.states == ("v",)
    assert set(program.params) == {"v_threshold", "v_reset", "tau"}


@pytest.mark.parametrize(
    "text", ["", "[]", "[2,[],[],1,0,[1,[],[]],[1,[],[]]]", '[1,[],[],1,0,[1,[["evil",0]],[1]],[1,[],[]]]']
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="not a neuron program"):
        program_from_text(text)


def test_one_program_serves_all_values():
    assert node_program(LIFNode(tau=2.0)) == node_program(LIFNode(tau=7.0, v_threshold=torch.rand(3)))
    assert node_program(LIFNode()) != node_program(LIFNode(decay_input=False))


def test_a_changed_attribute_is_traced_again():
    node = LIFNode()
    before = node_program(node)
    node.decay_input = False
    assert node_program(node) == node_program(LIFNode(decay_input=False)) != before
    node.surrogate = ATan(9.0)
    assert node_program(node) != node_program(LIFNode(decay_input=False))


def matmul(x, state):
    return x.unsqueeze(0) @ x.unsqueeze(1)


def branch(x, state):
    return x if (x > 0).any() else state.v


@pytest.mark.parametrize(
    ("charge", "named"),
    [
        (lambda x, state: state.v + x.cumsum(0), "aten.cumsum"),
        (lambda x, state: state.v + x.mean(), "aten.mean"),
        (lambda x, state: state.v + x.flip(0), "aten.flip"),
        (branch, "aten.any"),
        (lambda x, state: x if torch.isnan(x.detach()[0]) else state.v, "aten.select"),
        (lambda x, state: x if x.new_zeros(()) < x else state.v, "branch"),
        (lambda x, state: state.v + x.detach().tolist()[0], "Tensor.tolist"),
        (lambda x, state: state.v + float(x.detach().numpy()[0]), "Tensor.numpy"),
        (matmul, "aten.mm|not pointwise|shape"),
    ],
    ids=["cumsum", "mean", "flip", "any", "item", "branch", "tolist", "numpy", "matmul"],
)
def test_what_cannot_be_fused_is_named_and_runs_as_a_loop(charge, named):
    class Odd(SpikingNode):
        def charge(self, x, state, p):
            return charge(x, state)

    with pytest.raises(NotFusableError, match=named):
        node_program(Odd())
    with pytest.raises(NotFusableError, match="Odd cannot run with backend='native'"):
        Odd(step_mode="m", backend="native")(torch.rand(4, 3))
    if charge is not matmul:
        assert Odd(step_mode="m", backend="torch")(torch.rand(4, 1)).shape == (4, 1)


def test_tracing_is_quick_because_it_imports_no_compiler():
    code = """
import sys, torch
from snn_neurons import LIFNode
x = torch.rand(4, 2, requires_grad=True)
LIFNode(step_mode="m", backend="torch")(x).sum().backward()
print([name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_builder_folds_shares_and_drops():
    build = GraphBuilder(3, uniform=frozenset({2}))
    a = build("add", 0, build("mul", 1, 1.0))
    assert build("add", 1, 0) == a
    assert build("mul", a, 0.0) == 0.0
    assert build("neg", build("neg", a)) == a
    build("exp", a)
    quotient = build("div", a, 2)
    graph = build.build([quotient])
    assert [op.name for op in graph.ops] == ["add", "reciprocal", "mul"]
    assert 4 in graph.depends_only_on(frozenset({2}))


def test_tracing_ignores_the_callers_modes():
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        inside = node_program(LIFNode())
    assert inside == node_program(LIFNode())


def test_a_tensor_of_the_module_must_be_declared():
    class Hidden(SpikingNode):
        def __init__(self, **options):
            super().__init__(**options)
            self.gain = torch.nn.Parameter(torch.tensor(2.0))

        def charge(self, x, state, p):
            return state.v + self.gain * x

    with pytest.raises(NotFusableError, match="register_param"):
        node_program(Hidden())
    node = Hidden(step_mode="m")
    node(torch.rand(4, 3)).sum().backward()
    assert node.gain.grad is not None


def test_a_constant_made_in_the_step_is_taken():
    class Literal(SpikingNode):
        def charge(self, x, state, p):
            return state.v + torch.tensor(0.5) * x

    assert "0.5" in node_program(Literal()).text


def test_a_product_is_added_in_one_pass_where_no_spike_depends_on_its_rounding():
    # x * 0.3 + v decides a comparison, and so does a step's result, the state of the next.
    build = GraphBuilder(2)
    h = build("add", 1, build("mul", 0, 0.3))
    graph = build.build([build("float", build("ge", h, 1.0)), h])
    assert [op.name for op in merge(graph, exact=True).ops] == ["mul", "add", "float_ge"]
    assert [op.name for op in merge(graph, exact=False).ops] == ["mul", "add", "float_ge"]
    gradient = build.build([h])
    assert [op.name for op in merge(gradient, exact=True).ops] == ["mul", "add"]
    assert [op.name for op in merge(gradient, exact=False).ops] == ["add_scaled"]
    halved = build.build([build("add", 1, build("mul", 0, 0.5))])
    assert [op.name for op in merge(halved, exact=True).ops] == ["add_scaled"]


def test_constants_and_reciprocals_go_into_the_call_that_adds():
    # b / ((pi a)^2 + 1) + a as in the gradient of ATan, and a (1 - [b >= 1]) as in a hard reset.
    build = GraphBuilder(2)
    scaled = build("mul", 0, math.pi)
    below = build("reciprocal", build("add", build("mul", scaled, scaled), 1.0))
    kept = build("mul", 0, build("sub", 1.0, build("float", build("ge", 1, 1.0))))
    graph = build.build([build("add", build("mul", 1, below), 0), kept])
    merged = merge(graph, exact=False)
    assert [op.name for op in merged.ops] == ["add_product", "float_lt", "mul", "add_quotient"]
    a, b = torch.randn(2, 100, generator=torch.Generator().manual_seed(0)).double() + 1
    found = [torch.empty_like(a) for _ in range(2)]
    runner(merged, a, {}, [True, True])([a, b], found)
    torch.testing.assert_close(found[0], b / ((math.pi * a) ** 2 + 1) + a)
    assert torch.equal(found[1], a * (b < 1))


def test_a_factor_that_is_used_elsewhere_keeps_its_own_pass():
    build = GraphBuilder(2)
    scaled = build("mul", 0, 3.0)
    graph = build.build([build("sub", 1, build("mul", scaled, 1)), scaled])
    merged = merge(graph, exact=False)
    assert [op.name for op in merged.ops] == ["mul", "add_product"]
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).double()
    found = [torch.empty_like(a) for _ in range(2)]
    runner(merged, a, {}, [True, True])([a, b], found)
    torch.testing.assert_close(found, [b - 3 * a * b, 3 * a])


def test_single_steps_and_the_blocked_loop_round_alike():
    x = torch.randn(20, 5000, generator=torch.Generator().manual_seed(0))
    single, multi = (LIFNode(step_mode=mode, backend="torch") for mode in ("s", "m"))
    assert torch.equal(torch.stack([single(step) for step in x]), multi(x))
    assert torch.equal(single.v, multi.v)

"""Fused neurons inside compiled and exported programs."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from snn_neurons import LIFNode

BACKENDS = ["auto", "torch"]


def run(call, node, x):
    node.reset()
    y = call(x)
    v = node.v
    return y, v, *torch.autograd.grad((y * y.cos()).sum() + (v * v).sum(), [x, node.tau])


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_graph_for_every_number_of_steps_and_batch(backend):
    torch._dynamo.reset()
    torch.manual_seed(0)
    node = LIFNode(step_mode="m", backend=backend, learnable="tau", v_reset=-0.1)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(node, fullgraph=True, backend=counter, dynamic=True)
    compiled(torch.randn(4, 3, 6, requires_grad=True))
    first = counter.frame_count
    for T, N in [(8, 5), (40, 2), (17, 4)]:
        x = torch.randn(T, N, 6, requires_grad=True)
        for a, b in zip(run(compiled, node, x), run(node, node, x), strict=True):
            torch.testing.assert_close(a, b)
    assert counter.frame_count == first


@pytest.mark.filterwarnings("ignore:The tensor attribute:UserWarning")
def test_export_holds_the_neuron_as_one_operation():
    node = LIFNode(step_mode="m")
    program = torch.export.export(node, (torch.rand(4, 2, 8),))
    assert "snn_neurons.forward" in str(program.graph)
    x = torch.rand(4, 2, 8) * 2
    y = program.module()(x)
    node.reset()
    assert torch.equal(y, node(x))


def test_a_second_derivative_of_a_compiled_neuron_is_refused():
    node = LIFNode(step_mode="m")
    x = torch.rand(4, 2, 8, requires_grad=True)
    spec = __import__("snn_neurons.fused", fromlist=["plan"]).plan(node, "cpu", torch.float32)[0]
    params = [torch.tensor(v) for v in (1.0, 0.0, 2.0)]
    y = torch.ops.snn_neurons.forward(spec, x, [torch.zeros(2, 8)], params, [False] * 3, True)[0]
    (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        g.sum().backward()


def test_transforms_run_the_plain_loop():
    node = LIFNode(step_mode="m", learnable="tau")
    weight = torch.arange(6.0).view(-1, 1, 1)

    def loss(tau, x):
        node.reset()
        return (torch.func.functional_call(node, {"tau": tau}, (x,)) * weight).sum()

    x = torch.randn(6, 5, 2, 3)
    tau = node.tau.detach()
    mapped = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(tau, x)
    single = torch.stack([torch.func.grad(loss)(tau, x[:, i]) for i in range(5)])
    torch.testing.assert_close(mapped, single)
    node.reset()

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from snn_base import MemoryModule, functional_call, reset_net


class Composite(MemoryModule):
    """Children with memories of their own inside one step."""

    def __init__(self, inner, other):
        super().__init__("m")
        self.inner, self.body = inner, nn.Sequential(nn.Linear(3, 3), other)
        self.register_memory("y", 0.0)

    def single_step_forward(self, x):
        self.y = self.body(self.inner(x + self.y))
        return self.y


@pytest.fixture(params=["all kinds", "composite"])
def net(request, leaky, all_kinds):
    torch._dynamo.reset()
    if request.param == "all kinds":
        return nn.Sequential(leaky(), all_kinds())
    return Composite(leaky(step_mode="s"), all_kinds(step_mode="s"))


LENGTHS_AND_BATCHES = [(4, 5), (8, 5), (5, 6), (7, 2), (9, 4)]


def test_one_graph_for_all_lengths_and_batches_in_inference(net):
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend=counter)
    with torch.no_grad():
        for steps, batch in LENGTHS_AND_BATCHES:
            x = torch.randn(steps, batch, 3)
            reset_net(net)
            torch.testing.assert_close(compiled(x), functional_call(net, None, x)[0])
    assert counter.frame_count == 1


def assert_gradients_agree(net, compiled):
    for steps, batch in LENGTHS_AND_BATCHES[:3]:
        x = torch.randn(steps, batch, 3, requires_grad=True)
        wanted = [x, *net.parameters()]
        reset_net(net)
        y = compiled(x)
        expected, _ = functional_call(net, None, x)
        torch.testing.assert_close(y, expected)
        grads = torch.autograd.grad(y.square().sum(), wanted)
        for a, b in zip(grads, torch.autograd.grad(expected.square().sum(), wanted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_gradients_for_several_lengths(net):
    assert_gradients_agree(net, torch.compile(net, fullgraph=True, backend="aot_eager"))


@pytest.mark.slow
def test_inductor_agrees_in_training_and_inference(leaky):
    torch._dynamo.reset()
    net = leaky()
    compiled = torch.compile(net, fullgraph=True)
    assert_gradients_agree(net, compiled)
    with torch.no_grad():
        for steps, batch in LENGTHS_AND_BATCHES:
            x = torch.randn(steps, batch, 3)
            reset_net(net)
            torch.testing.assert_close(compiled(x), functional_call(net, None, x)[0])
            torch.testing.assert_close(net.v, functional_call(net, None, x)[1][""]["v"])


def test_carried_memories_are_checked_while_compiled(leaky):
    torch._dynamo.reset()
    net = leaky()
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="aot_eager")
    x = torch.randn(4, 2, 3)
    y = torch.cat([compiled(x[:3]), compiled(x[3:])])
    torch.testing.assert_close(y, functional_call(net, None, x)[0])

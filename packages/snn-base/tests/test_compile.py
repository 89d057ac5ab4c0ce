import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from snn_base import MemoryModule, functional_call, reset_net
from snn_base.testing import assert_step_modes_agree


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


def test_one_graph_for_all_lengths_and_batches(net):
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend=counter)
    frames = []
    for steps, batch in [(4, 5), (8, 5), (5, 6), (7, 2), (9, 4)]:
        x = torch.randn(steps, batch, 3, requires_grad=True)
        reset_net(net)
        y = compiled(x)
        grads = torch.autograd.grad(y.square().sum(), [x, *net.parameters()])
        expected, _ = functional_call(net, None, x)
        torch.testing.assert_close(y, expected)
        for a, b in zip(grads, torch.autograd.grad(expected.square().sum(), [x, *net.parameters()]), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        frames.append(counter.frame_count)
    assert frames == [1] * 5


@pytest.mark.slow
def test_inductor_agrees(leaky):
    torch._dynamo.reset()
    assert_step_modes_agree(leaky(), torch.randn(5, 2, 3), chunks=(), compiled=True, dynamic=True)


def test_carried_memories_are_checked_while_compiled(leaky):
    torch._dynamo.reset()
    net = leaky()
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend="aot_eager")
    x = torch.randn(4, 2, 3)
    y = torch.cat([compiled(x[:3]), compiled(x[3:])])
    torch.testing.assert_close(y, functional_call(net, None, x)[0])

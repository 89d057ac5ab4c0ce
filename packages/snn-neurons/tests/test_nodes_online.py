"""Online training: no graph through time, and the trace in place of the spike in the weights' gradient."""

import pytest
import torch
from torch import nn

from snn_neurons import LIFNode, OTTTLIFNode, OTTTSequential, SLTTLIFNode, trace_gradient


def steps(T=6, N=3, C=4):
    generator = torch.Generator().manual_seed(0)
    return (0.6 + 1.2 * torch.randn(T, N, C, generator=generator, dtype=torch.float64)).unbind()


@pytest.mark.parametrize("node", [SLTTLIFNode(), OTTTLIFNode()], ids=lambda n: type(n).__name__)
def test_no_memory_keeps_a_graph(node):
    for x in steps():
        node(x.requires_grad_())
        assert not any(m.requires_grad for m in node.memories.values())


@pytest.mark.parametrize(
    ("online", "plain"),
    [(SLTTLIFNode(1.7), LIFNode(1.7)), (OTTTLIFNode(1.7), LIFNode(1.7, decay_input=False, v_reset=None))],
    ids=["SLTT", "OTTT"],
)
def test_the_spikes_are_those_of_lif(online, plain):
    x_seq = torch.stack(steps())
    online.step_mode = plain.step_mode = "m"
    assert torch.equal(online(x_seq), plain(x_seq))


def test_the_gradient_of_a_step_is_that_of_the_step_alone():
    node, v = SLTTLIFNode(2.0), torch.zeros(3, 4, dtype=torch.float64)
    for x in steps():
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(node(x).sum(), x)
        h = v + (x.detach() - v) / 2
        torch.testing.assert_close(gradient, node.surrogate.derivative(h - 1) / 2)
        v = torch.where(h >= 1, 0.0, h)


def test_the_weights_learn_from_the_trace_as_in_the_paper():
    # One hidden layer: the gradient of the second weight is sum_t g[t] trace[t]^T, that of the first
    # sum_t (W2^T g[t]) g'(h[t] - theta) x[t]^T; the first layer's input has no trace.
    torch.manual_seed(0)
    first, second = nn.Linear(4, 5, bias=False).double(), nn.Linear(5, 2, bias=False).double()
    node = OTTTLIFNode(2.0, v_threshold=0.3)
    net = OTTTSequential(first, node, second)
    v = trace = torch.zeros(3, 5, dtype=torch.float64)
    by_first, by_second = torch.zeros_like(first.weight), torch.zeros_like(second.weight)
    generator = torch.Generator().manual_seed(1)
    for x in steps():
        g = torch.randn(3, 2, generator=generator, dtype=torch.float64)
        y = net(x)
        (y * g).sum().backward()
        with torch.no_grad():
            h = v / 2 + first(x)
            s = (h >= 0.3).double()
            v, trace = h - 0.3 * s, trace / 2 + s
            torch.testing.assert_close(y, second(s))
            by_second += g.T @ trace
            by_first += ((g @ second.weight) * node.surrogate.derivative(h - 0.3)).T @ x
    torch.testing.assert_close(second.weight.grad, by_second)
    torch.testing.assert_close(first.weight.grad, by_first)


def test_a_layer_without_parameters_gets_the_spike():
    net = OTTTSequential(OTTTLIFNode(v_threshold=0.5), nn.Flatten(), nn.Linear(4, 2).double())
    assert net(steps()[0]).shape == (3, 2)


def test_trace_gradient_leaves_the_output_alone():
    layer, s, trace = nn.Linear(3, 2), torch.tensor([[1.0, 0.0, 1.0]], requires_grad=True), torch.full((1, 3), 0.25)
    y = trace_gradient(layer, s, trace)
    assert torch.equal(y, layer(s))
    y.sum().backward()
    torch.testing.assert_close(layer.weight.grad, trace.expand(2, 3))
    torch.testing.assert_close(s.grad, layer.weight.detach().sum(0, keepdim=True))


def test_sequences_are_refused():
    with pytest.raises(ValueError, match="step_mode='s'"):
        OTTTSequential(OTTTLIFNode(step_mode="m"))(torch.zeros(2, 1, 3))

"""The recurrent LIF against its equation written a second time."""

import pytest
import torch

from snn_neurons import LIFNode
from snn_neurons.native_build import no_compiler
from snn_neurons.nodes.recurrent_lif import RecurrentLIFNode


@pytest.fixture
def node():
    torch.manual_seed(0)
    return RecurrentLIFNode(5, tau=1.7, step_mode="m").double()


def test_it_is_a_lif_that_hears_its_spikes(node):
    x = torch.randn(9, 2, 5, dtype=torch.float64, requires_grad=True)
    plain = LIFNode(tau=1.7)
    s, steps = torch.zeros(2, 5, dtype=torch.float64), []
    for step in x:
        s = plain(step + s @ node.weight.T)
        steps.append(s)
    expected = torch.stack(steps)
    found = node(x)
    assert found.any()
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    torch.testing.assert_close(
        torch.autograd.grad((found * weight).sum(), [x, node.weight]),
        torch.autograd.grad((expected * weight).sum(), [x, node.weight]),
    )


@pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")
@pytest.mark.parametrize("options", [{}, {"v_reset": None, "store_v_seq": True}, {"detach_reset": True}])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("T", [1, 2, 23])
def test_one_call_equals_the_loop(T, dtype, options):
    torch.manual_seed(1)
    x = (torch.randn(T, 3, 2, 5, dtype=dtype) + 0.5).requires_grad_()
    memories = [torch.rand(3, 2, 5, dtype=dtype, requires_grad=True) for _ in range(2)]
    results = []
    for backend in ("native", "torch"):
        torch.manual_seed(2)
        tau = torch.rand(5, dtype=dtype) + 1.5
        node = RecurrentLIFNode(5, tau, step_mode="m", backend=backend, learnable=("tau", "v_threshold"), **options)
        node.to(dtype)
        node.v, node.s = memories
        y = node(x)
        weight = torch.linspace(-1, 1, y.numel(), dtype=dtype).view_as(y)
        loss = (y * weight).sum() + (node.v * node.v).sum() + (node.s * weight[0]).sum()
        if node.store_v_seq:
            loss = loss + node.v_seq.square().sum()
        results.append([y, node.v, *torch.autograd.grad(loss, [x, *memories, *node.parameters()])])
    assert 0 < results[0][0].mean() < 1
    rtol = 2e-4 if dtype == torch.float32 else 1e-9
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol / 2)


@pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")
def test_the_gradient_of_a_sum(node):
    """One number for all elements: it has no memory for each of them."""
    x = torch.randn(9, 2, 5, dtype=torch.float64, requires_grad=True)
    found = []
    for backend in ("native", "torch"):
        node.reset()
        node.backend = backend
        found.append(torch.autograd.grad(node(x).sum() + node.v.sum(), [x, node.weight]))
    assert found[0][0].abs().sum() > 0
    torch.testing.assert_close(*found)


@pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")
def test_steps_equal_the_sequence_and_a_second_derivative_is_refused(node):
    node.backend = "native"
    x = torch.randn(6, 2, 5, dtype=torch.float64, requires_grad=True)
    y = node(x)
    node.reset()
    node.step_mode = "s"
    assert torch.equal(torch.stack([node(step) for step in x]), y)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_a_wrong_size_is_named(node):
    with pytest.raises(ValueError, match="features=5"):
        node(torch.randn(3, 2, 4))
    with pytest.raises(ValueError, match="features must be at least 1"):
        RecurrentLIFNode(0)

"""The recurrent LIF against its equation written a second time."""

import pytest
import torch

from snn_neurons import BackendError, LIFNode
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


def test_kernels_refuse_it_and_a_wrong_size_is_named(node):
    node.backend = "native"
    with pytest.raises(BackendError, match="cannot run with backend='native'"):
        node(torch.randn(3, 2, 5, dtype=torch.float64))
    with pytest.raises(ValueError, match="features=5"):
        node(torch.randn(3, 2, 4))
    with pytest.raises(ValueError, match="features must be at least 1"):
        RecurrentLIFNode(0)

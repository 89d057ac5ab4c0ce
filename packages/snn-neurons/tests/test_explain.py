"""What `explain_backend` says."""

import pickle

import pytest
import torch

from snn_neurons import LIFNode, NotFusableError, SpikingNode, explain_backend, keep_freed_memory, neuron
from snn_neurons.native_build import no_compiler


def test_the_fastest_backend_and_why_not_another():
    report = explain_backend(LIFNode(), torch.zeros(2))
    assert report.backend == ("torch" if no_compiler() else "native")
    assert "CUDA" in report.obstacles["triton"]
    assert "not triton:" in str(report)


def test_an_operation_that_cannot_be_fused_is_named():
    class Odd(SpikingNode):
        def charge(self, x, state, p):
            return state.v + x.cumsum(0)

    report = explain_backend(Odd(), torch.zeros(2))
    assert report.backend == "reference"
    assert "cumsum" in report.obstacles["native"]
    assert explain_backend(Odd(backend="native"), torch.zeros(2)).backend == "none"


def test_a_refusal_says_how_to_write_the_step():
    class Branching(SpikingNode):
        def charge(self, x, state, p):
            return x if x.detach().tolist()[0] > 0 else state.v

    with pytest.raises(NotFusableError, match=r"Tensor.tolist; .* use torch.where, or use backend='torch'$") as caught:
        Branching(backend="native")(torch.zeros(2))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.remedy, str(again)) == (caught.value.remedy, str(caught.value))
    report = explain_backend(Branching(), torch.zeros(2))
    assert report.obstacles["torch"].endswith("use torch.where")


def test_other_modules_have_no_backend():
    with pytest.raises(TypeError, match="node must be a neuron"):
        explain_backend(torch.nn.ReLU(), torch.zeros(2))


def test_a_function_becomes_a_neuron():
    @neuron(memories={"v": 0.0, "w": 0.5}, params={"decay": 0.5})
    def Pair(x, state, p):
        """A pair."""
        v = p.decay * state.v + x
        return (v, state.w), state._replace(v=v, w=state.w + v)

    node = Pair(decay=0.9, learnable="decay", step_mode="m")
    v, w = node(torch.ones(3, 2))
    torch.testing.assert_close(v[:, 0], torch.tensor([1.0, 1.9, 2.71]))
    torch.testing.assert_close(w[:, 0], torch.tensor([0.5, 1.5, 3.4]))
    w.sum().backward()
    assert node.decay.grad is not None
    assert Pair.__doc__ == "A pair."
    with pytest.raises(ValueError, match="at least one memory"):
        neuron(memories={})


def test_the_limit_of_kept_memory_is_checked():
    with pytest.raises(ValueError, match="limit must be between"):
        keep_freed_memory(limit=0)

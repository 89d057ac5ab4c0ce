"""Which values of a step a backward pass keeps in place of its states."""

import pytest

from snn_neurons import IFNode, LIFNode, SpikingNode
from snn_neurons.node_program import node_program
from snn_neurons.recompute import recomputation


def inputs_used(graph):
    used = {a for op in graph.ops for a in op.args if isinstance(a, int)}
    return {i for i in [*used, *graph.outputs] if isinstance(i, int) and i < graph.n_inputs}


# h = v + ..., or, where only its distance from the threshold matters, h - v_threshold.
@pytest.mark.parametrize(
    ("node", "made_by"),
    [(IFNode(), "add"), (LIFNode(), "add"), (LIFNode(v_reset=None), "sub")],
    ids=["IF", "LIF", "soft"],
)
def test_the_potential_before_firing_is_kept(node, made_by):
    program = node_program(node)
    found = recomputation(program, (0, 1))
    assert len(found.again.outputs) == 2
    assert 0 not in inputs_used(found.back)
    kept = found.again.ops[found.again.outputs[1] - found.again.n_inputs]
    assert kept.name == made_by
    assert len(found.back.ops) < len(program.vjp.ops)


def test_nothing_is_kept_where_gradients_need_more_than_there_are_states():
    # The gradient of tau needs x - v, that of the threshold h.
    program = node_program(LIFNode())
    wanted = [0, 1, 2 + program.params.index("tau")]
    assert recomputation(program, tuple(wanted)) is None


def test_a_step_without_memory_of_the_input_keeps_nothing():
    class Forgetful(SpikingNode):
        def step(self, x, state, p):
            return self.fire(x - p.v_threshold, p), state._replace(v=0.5 * state.v)

    assert recomputation(node_program(Forgetful()), (0, 1)) is None

import pytest
import torch

from snn_base import MemoryModule, Recorder, checkpoint_sequence, multi_step_forward
from snn_base.outputs import join_chunks, stack_steps


class Two(MemoryModule):
    def __init__(self, step_mode="m"):
        super().__init__(step_mode)
        self.register_memory("v", 0.0)

    def single_step_forward(self, x):
        self.v = self.v + x
        return self.v, {"double": 2 * self.v}


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_step_with_several_outputs_gives_a_sequence_of_each(steps):
    x = torch.randn(steps, 2, 3)
    v, rest = Two()(x)
    assert torch.allclose(v, x.cumsum(0))
    assert torch.equal(rest["double"], 2 * v)


def test_chunks_and_loops_keep_the_structure():
    x = torch.randn(5, 2, 3)
    expected = Two()(x)
    for actual in (checkpoint_sequence(Two(), x, 2), multi_step_forward(x, Two("s"))):
        assert torch.equal(actual[0], expected[0])
        assert torch.equal(actual[1]["double"], expected[1]["double"])
    assert stack_steps([(x,), (x,)])[0].shape == (2, 5, 2, 3)
    assert join_chunks([[x], [x]])[0].shape == (10, 2, 3)


def test_a_recorder_numbers_the_parts_of_an_output():
    net = torch.nn.LSTM(3, 4)
    with Recorder(net, outputs="") as record:
        _, (_, c) = net(torch.randn(5, 2, 3))
    assert record.names() == ["[0]", "[1][0]", "[1][1]"]
    assert torch.equal(record["[1][1]"][0], c)

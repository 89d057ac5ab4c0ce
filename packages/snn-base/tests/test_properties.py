"""Whatever the shape, length, dtype and kind of memory: every way to run a sequence gives the same."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from snn_base import MemoryModule
from snn_base.testing import assert_step_modes_agree


class Base(MemoryModule):
    """v[t] = h (1 - s) or h - s with h = v / 2 + a x; the reset may be cut from the graph."""

    def __init__(self, hard, detach, dtype):
        super().__init__("m")
        self.hard, self.detach_reset = hard, detach
        self.a = nn.Parameter(torch.tensor(1.5, dtype=dtype))
        self.register_memory("v", 0.125)
        self.register_memory("count", lambda x: torch.zeros_like(x[:, :1]))
        self.register_memory("last", None)

    def single_step_forward(self, x):
        h = self.v * 0.5 + self.a * x
        s = torch.sigmoid(4 * (h - 1))
        r = s.detach() if self.detach_reset else s
        self.v = h * (1 - r) if self.hard else h - r
        self.count = self.count + s[:, :1]
        y = s if self.last is None else s + 0.5 * self.last
        self.last = s
        return y


def check(steps, batch, shape, dtype, hard, detach, seed=0, **compiled):
    torch.manual_seed(seed)
    net = nn.Sequential(Base(hard, detach, dtype), Base(not hard, detach, dtype))
    x_seq = torch.randn(steps, batch, *shape).to(dtype)
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    assert_step_modes_agree(net, x_seq, rtol=tolerance, atol=tolerance, **compiled)


@given(
    steps=st.integers(0, 7),
    batch=st.integers(1, 3),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    hard=st.booleans(),
    detach=st.booleans(),
    seed=st.integers(0, 99),
)
@example(steps=0, batch=2, shape=[3], dtype=torch.float32, hard=True, detach=False, seed=0)
@example(steps=1, batch=1, shape=[1], dtype=torch.float32, hard=False, detach=True, seed=0)
@settings(max_examples=25)
def test_all_ways_agree(steps, batch, shape, dtype, hard, detach, seed):
    check(steps, batch, shape, dtype, hard, detach, seed)


@pytest.mark.parametrize(("steps", "hard", "detach"), [(1, False, False), (5, True, True)])
def test_the_compiled_module_agrees(steps, hard, detach):
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = Base(hard, detach, torch.float64)
    x_seq = torch.randn(steps, 2, 3, dtype=torch.float64)
    assert_step_modes_agree(net, x_seq, chunks=(), compiled=True, dynamic=True, backend="aot_eager")


@given(
    steps=st.integers(2, 6),
    batch=st.integers(1, 4),
    data=st.data(),
)
@settings(max_examples=15)
def test_a_masked_reset_is_a_reset_of_those_samples(steps, batch, data):
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=batch, max_size=batch)))
    torch.manual_seed(0)
    x_seq = torch.randn(2, steps, batch, 3, dtype=torch.float64)
    nets = [Base(True, False, torch.float64) for _ in range(3)]
    for net in nets:
        net(x_seq[0])
    nets[0].reset(mask)
    nets[1].reset()
    nets[1].prepare_memories(x_seq[1])
    nets[1].last = torch.zeros_like(nets[1].v)
    y, fresh, running = (net(x_seq[1]) for net in nets)
    assert torch.equal(y[:, mask], fresh[:, mask])
    assert torch.equal(y[:, ~mask], running[:, ~mask])

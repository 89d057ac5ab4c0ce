"""Whatever the shape, length, dtype, reset and parameters: every way to run a neuron gives the same."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from snn_base.testing import assert_step_modes_agree
from snn_neurons import AdaptiveLIFNode, IFNode, LIFNode

NODES = [IFNode, LIFNode, AdaptiveLIFNode]


def node(kind, hard, detach, **options):
    return kind(v_reset=-0.25 if hard else None, detach_reset=detach, backend="torch", **options)


@given(
    kind=st.sampled_from(NODES),
    steps=st.integers(0, 7),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    hard=st.booleans(),
    detach=st.booleans(),
    seed=st.integers(0, 99),
)
@example(kind=LIFNode, steps=0, shape=[2, 3], dtype=torch.float32, hard=True, detach=False, seed=0)
@example(kind=AdaptiveLIFNode, steps=1, shape=[1], dtype=torch.bfloat16, hard=False, detach=True, seed=0)
@settings(max_examples=30)
def test_all_ways_agree(kind, steps, shape, dtype, hard, detach, seed):
    x_seq = 2 * torch.randn(steps, *shape, generator=torch.Generator().manual_seed(seed))
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    assert_step_modes_agree(node(kind, hard, detach), x_seq.to(dtype), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", NODES)
def test_the_compiled_neuron_agrees(kind):
    torch._dynamo.reset()
    x_seq = 2 * torch.randn(5, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_step_modes_agree(
        node(kind, hard=True, detach=False), x_seq, chunks=(), compiled=True, dynamic=True, backend="aot_eager"
    )

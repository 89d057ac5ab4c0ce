import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snn_layers import ChannelPool, LIPool, SpikeMaxPool

DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16])


@given(
    kernel=st.integers(1, 4),
    extra=st.integers(0, 2),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    steps=st.integers(1, 12),
    dtype=DTYPES,
    data=st.data(),
)
def test_lipool_sums_to_the_maximum_of_the_sums(kernel, extra, size, steps, dtype, data):
    padding = data.draw(st.integers(0, kernel // 2))
    s = (torch.rand(steps, 2, 3, *size, generator=torch.Generator().manual_seed(steps)) < 0.5).to(dtype)
    y = LIPool(kernel, kernel + extra, padding, step_mode="m")(s)
    assert y.dtype == dtype
    assert torch.equal(y.float().sum(0), F.max_pool2d(s.float().sum(0), kernel, kernel + extra, padding))


@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    steps=st.integers(1, 12),
    dtype=DTYPES,
    data=st.data(),
)
def test_spike_max_pool_sums_to_the_maximum_of_the_sums(kernel, stride, size, steps, dtype, data):
    padding = data.draw(st.integers(0, kernel // 2))
    s = (torch.rand(steps, 2, 3, *size, generator=torch.Generator().manual_seed(steps)) < 0.5).to(dtype)
    y = SpikeMaxPool(kernel, stride, padding, step_mode="m")(s)
    assert set(y.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(y.float().sum(0), F.max_pool2d(s.float().sum(0), kernel, stride, padding))


@pytest.mark.parametrize("cls", [LIPool, SpikeMaxPool])
def test_many_channels_pool_as_few_do(cls):
    s = (torch.rand(6, 2, 40, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    few = torch.cat([cls(2, step_mode="m")(part) for part in s.split(10, dim=2)], dim=2)
    assert torch.equal(cls(2, step_mode="m")(s), few)
    assert torch.equal(cls(2, step_mode="m")(s.transpose(-1, -2).contiguous().transpose(-1, -2)), few)


def test_long_trains_keep_the_count():
    s = torch.ones(1, 1, 2, 2)
    pool = SpikeMaxPool(2)
    pool.prepare_memories(s)
    pool.counts = pool.counts + 20000.0  # where adding 1000 times the count would have lost single spikes
    s = torch.zeros(1, 1, 2, 2)
    s[..., 0, 1] = 1
    pool.counts[..., 0, 1] += 1
    assert pool(s).item() == 1.0


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 4, 4, 4)])
def test_other_dims(shape):
    s = (torch.rand(6, *shape, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    pool = F.max_pool1d if len(shape) == 3 else F.max_pool3d
    for cls in (LIPool, SpikeMaxPool):
        assert torch.equal(cls(2, step_mode="m")(s).sum(0), pool(s.sum(0), 2))


def test_misuse():
    with pytest.raises(ValueError, match=r"stride must be at least kernel_size = 3.*got 2"):
        LIPool(3, 2)
    with pytest.raises(ValueError, match=r"padding must be in 0\.\.kernel_size // 2 = 1, got 2"):
        SpikeMaxPool(3, 1, 2)
    with pytest.raises(ValueError, match="kernel_size must be"):
        LIPool(0)
    with pytest.raises(ValueError, match="LIPool"):
        LIPool(2)(torch.ones(4, 4))
    for cls in (LIPool, SpikeMaxPool):
        with pytest.raises(ValueError, match=r"a window of kernel_size = 9, got shape \(2, 4, 6, 6\)"):
            cls(9)(torch.ones(2, 4, 6, 6))
    with pytest.raises(ValueError, match=r"ChannelPool: x must have at least 9 channels.*got \(2, 4, 6, 6\)"):
        ChannelPool(nn.AvgPool1d(9))(torch.ones(2, 4, 6, 6))
    with pytest.raises(ValueError, match="tuples of one length"):
        SpikeMaxPool((2, 2), (2,))

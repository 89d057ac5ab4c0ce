import pytest
import torch
from torch import nn

import snn_layers as sl
from snn_base import StepModule


def test_torch_checkpoints_load_and_outputs_are_torchs_own():
    x = torch.randn(3, 2, 4, 6, 6)
    for make in (
        lambda ns: ns.Conv2d(4, 6, 3, groups=2),
        lambda ns: ns.ConvTranspose2d(4, 6, 3),
        lambda ns: ns.BatchNorm2d(4),
        lambda ns: ns.GroupNorm(2, 4),
        lambda ns: ns.MaxPool2d(2),
        lambda ns: ns.AdaptiveAvgPool2d(2),
        lambda ns: ns.Flatten(),
        lambda ns: ns.Upsample(scale_factor=2.0),
        lambda ns: ns.Linear(6, 5),
    ):
        torch.manual_seed(0)
        theirs, ours = make(nn), make(sl)
        ours.load_state_dict(theirs.state_dict())
        assert isinstance(ours, type(theirs))
        assert isinstance(ours, StepModule)
        torch.testing.assert_close(ours(x[0]), theirs(x[0]))
        ours.step_mode = "m"
        torch.testing.assert_close(ours(x), theirs(x.flatten(0, 1)).unflatten(0, (3, 2)))


def test_every_exported_name_is_there():
    for name in sl.__all__:
        assert hasattr(sl, name), name
    assert len(set(sl.__all__)) == len(sl.__all__)


def test_the_factory_wraps_any_stateless_class(decay):
    class Double(nn.Module):
        def __init__(self, k):
            super().__init__()
            self.k = k

        def forward(self, x):
            return self.k * x

    layer = sl.stepwise(Double)(3.0, step_mode="m")
    assert torch.equal(layer(torch.ones(2, 2, 1)), torch.full((2, 2, 1), 3.0))
    assert sl.stepwise(Double) is sl.stepwise(Double)
    with pytest.raises(TypeError, match="has a step mode already"):
        sl.stepwise(decay)
    with pytest.raises(TypeError, match="LSTM carries state over time"):
        sl.stepwise(nn.LSTM)
    with pytest.raises(ValueError, match=r"\[T, N, C, H, W\]"):
        sl.Conv2d(1, 1, 1, step_mode="m")(torch.ones(2, 1, 3, 3))


def test_time_fold_takes_tuples_and_refuses_memories(decay):
    class Pair(nn.Module):
        def forward(self, a, b):
            return a + b, a * b

    a, b = torch.randn(2, 3, 4, 5)
    y, z = sl.TimeFold(Pair())(a, b)
    assert torch.equal(y, a + b)
    assert torch.equal(z, a * b)
    with pytest.raises(ValueError, match=r"TimeFold: '1' is a stateful Decay"):
        sl.TimeFold(nn.Linear(2, 2), decay())
    fold = sl.TimeFold(nn.Sequential(nn.Linear(5, 5)))
    fold.module.append(decay())
    with pytest.raises(ValueError, match="stateful Decay"):
        fold(a)


def test_multi_step_is_the_loop(decay):
    x = torch.randn(4, 3, 5)
    layer = sl.MultiStep(nn.Linear(5, 2), decay())
    y = layer(x)
    layer.module[1].reset()
    torch.testing.assert_close(y, torch.stack([layer.module(step) for step in x]))
    with pytest.raises(ValueError, match="T of at least 1"):
        layer(x[:0])


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_both_orders_of_a_mixed_sequence_agree(decay, chunk):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3), decay(), nn.Flatten(), sl.Linear(32, 4), nn.Sequential(nn.Linear(4, 4), decay())]
    fast = sl.SpikingSequential(*layers, step_mode="m")
    x = torch.randn(5, 2, 1, 6, 6)
    y = fast(x)
    for m in (layers[1], layers[4][1]):
        m.reset()
    small = sl.SpikingSequential(*layers, order="step", chunk=chunk, step_mode="m")
    torch.testing.assert_close(small(x), y)
    with pytest.raises(ValueError, match="order"):
        sl.SpikingSequential(order="other")
    with pytest.raises(ValueError, match="chunk"):
        sl.SpikingSequential(chunk=0)

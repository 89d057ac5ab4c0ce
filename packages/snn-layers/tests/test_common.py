"""What every layer promises: both step modes, chunks, copies, state_dict, half precision, layouts, compilation."""

import copy

import pytest
import torch
from torch import nn

import snn_layers as sl
from snn_base import MemoryModule, MemoryShapeError, reset_net, set_step_mode
from snn_base.testing import assert_state_is_kept_apart, assert_step_modes_agree


class Smooth(MemoryModule):
    def __init__(self):
        super().__init__("m")
        self.register_memory("v", 0.0)

    def single_step_forward(self, x):
        self.v = self.v * 0.5 + x
        return torch.tanh(self.v)


IMAGE, ROW = (3, 4, 6, 6), (3, 5)
LAYERS = {
    "NeuNorm": (lambda: sl.NeuNorm(4, 6, 6), IMAGE),
    "NeuNorm mean": (lambda: sl.NeuNorm(4, 6, 6, 0.5, True, scale="mean"), IMAGE),
    "DCT2d": (lambda: sl.DCT2d(3), IMAGE),
    "AXAT": (lambda: sl.AXAT(6, 4), IMAGE),
    "SynapseFilter": (lambda: sl.SynapseFilter(3.0), ROW),
    "SynapseFilter linear": (lambda: sl.SynapseFilter(3.0, kind="linear", learnable=True), ROW),
    "ChannelPool": (lambda: sl.ChannelPool(nn.MaxPool1d(2)), IMAGE),
    "MaskedLinear": (lambda: sl.MaskedLinear(torch.randn(4, 5), torch.eye(4, 5)), ROW),
    "LIPool": (lambda: sl.LIPool(2), IMAGE),
    "SpikeMaxPool": (lambda: sl.SpikeMaxPool(3, 2, 1), IMAGE),
    "LayerNorm": (lambda: sl.LayerNorm(4, data_format="channels_first"), IMAGE),
    "Dropout": (lambda: sl.Dropout(0.0), ROW),
    "tdBN": (lambda: sl.ThresholdDependentBatchNorm2d(4, v_threshold=0.5).eval(), IMAGE),
    "TEBN": (lambda: sl.TemporalEffectiveBatchNorm2d(4, 12).eval(), IMAGE),
    "BNTT": (lambda: sl.BNTT2d(4, 12).eval(), IMAGE),
    "VotingLayer": (lambda: sl.VotingLayer(5), ROW),
    "WTALayer": (lambda: sl.WTALayer(2).eval(), ROW),
    "LatencyEncoder": (lambda: sl.LatencyEncoder(6), ROW),
    "WeightedPhaseEncoder": (lambda: sl.WeightedPhaseEncoder(3), ROW),
    "DeltaEncoder": (lambda: sl.DeltaEncoder(0.1), ROW),
    "DeltaEncoder track": (lambda: sl.DeltaEncoder(0.1, track=True), ROW),
    "ElementwiseRecurrent": (lambda: sl.ElementwiseRecurrent(nn.Linear(5, 5), torch.mul), ROW),
    "LinearRecurrent": (lambda: sl.LinearRecurrent(nn.Linear(5, 2), 5, 2), ROW),
    "ConvBatchNorm2d": (lambda: sl.ConvBatchNorm2d(4, 6, 3).eval(), IMAGE),
    "Conv2d": (lambda: sl.Conv2d(4, 6, 3), IMAGE),
    "DropConnectLinear": (lambda: sl.DropConnectLinear(5, 2, activation=None).eval(), ROW),
    "SpikingSequential": (lambda: sl.SpikingSequential(nn.Linear(5, 4), Smooth(), sl.Linear(4, 2)), ROW),
    "SpikingSequential step": (
        lambda: sl.SpikingSequential(nn.Linear(5, 4), Smooth(), order="step", chunk=2),
        ROW,
    ),
    "SpikingSelfAttention": (lambda: sl.SpikingSelfAttention(6, Smooth, 2).eval(), (3, 4, 6)),
    "SpikingAttentionBlock": (lambda: sl.SpikingAttentionBlock(6, Smooth, 2).eval(), (3, 4, 6)),
}
STATEFUL = ["NeuNorm", "SynapseFilter", "LIPool", "SpikeMaxPool", "DeltaEncoder", "LinearRecurrent", "BNTT"]


@pytest.fixture(params=LAYERS)
def case(request):
    torch.manual_seed(0)
    make, shape = LAYERS[request.param]
    return request.param, make(), torch.rand(5, *shape, generator=torch.Generator().manual_seed(1))


def test_single_multi_chunked_and_functional_agree(case):
    _, layer, x = case
    assert_step_modes_agree(layer, x, rtol=1e-4, atol=1e-5)


def test_nothing_returned_ever_changes(case):
    _, layer, x = case
    set_step_mode(layer, "m")
    assert_state_is_kept_apart(layer, x)


def test_copies_and_state_dicts_do_the_same(case):
    _, layer, x = case
    set_step_mode(layer, "m")
    twin = copy.deepcopy(layer)
    other = LAYERS[case[0]][0]()
    other.load_state_dict(layer.state_dict())
    other.train(layer.training)
    set_step_mode(other, "m")
    y = layer(x)
    torch.testing.assert_close(twin(x), y)
    torch.testing.assert_close(other(x), y)
    torch.testing.assert_close(copy.deepcopy(layer)(x[:2]), layer(x[:2]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_layouts_and_autocast(case, dtype):
    name, layer, x = case
    set_step_mode(layer, "m")
    y = layer(x)
    strange = x.transpose(0, -1).contiguous().transpose(0, -1)
    assert not strange.is_contiguous()
    reset_net(layer)
    torch.testing.assert_close(layer(strange), y)
    if x.dim() == 5:
        reset_net(layer)
        last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
        torch.testing.assert_close(layer(last), y)
    reset_net(layer)
    with torch.autocast("cpu", dtype=dtype):
        low = layer(x)
    assert low.shape == y.shape
    if "Encoder" not in name and name != "WTALayer":
        torch.testing.assert_close(low.float(), y, rtol=0.1, atol=0.15)


def test_the_step_mode_shows_in_the_representation(case):
    _, layer, _ = case
    set_step_mode(layer, "m")
    assert "step_mode='m'" in repr(layer)
    with pytest.raises(ValueError, match="must be 's'"):
        layer.step_mode = "x"


def test_no_steps_give_no_steps(case):
    _, layer, x = case
    set_step_mode(layer, "m")
    y = layer(x)
    reset_net(layer)
    assert layer(x[:0]).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("name", STATEFUL)
def test_a_changed_batch_asks_for_a_reset(name):
    make, shape = LAYERS[name]
    layer = make()
    set_step_mode(layer, "m")
    layer(torch.rand(2, *shape))
    with pytest.raises(MemoryShapeError, match="reset_net"):
        layer(torch.rand(2, shape[0] + 1, *shape[1:]))
    reset_net(layer)
    layer(torch.rand(2, shape[0] + 1, *shape[1:]))


@pytest.mark.slow
def test_one_graph(case):
    _, layer, x = case
    torch._dynamo.reset()
    set_step_mode(layer, "m")
    y = layer(x)
    reset_net(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), y, rtol=1e-4, atol=1e-5)

"""The forms that work through a large input by pieces give what the forms for small inputs give."""

import pytest
import torch

import snn_layers as sl
from snn_base import reset_net, set_step_mode
from snn_base.testing import assert_state_is_kept_apart
from snn_layers._blocks import BLOCK, by_steps, in_blocks

LAYERS = {
    "saturating": lambda: sl.SynapseFilter(3.0),
    "linear": lambda: sl.SynapseFilter(3.0, kind="linear"),
    "learnable": lambda: sl.SynapseFilter(3.0, learnable=True),
    "LIPool": lambda: sl.LIPool(2),
    "SpikeMaxPool": lambda: sl.SpikeMaxPool(3, 2, 1),
    "LatencyEncoder": lambda: sl.LatencyEncoder(9),
    "WeightedPhaseEncoder": lambda: sl.WeightedPhaseEncoder(3),
    "DeltaEncoder": lambda: sl.DeltaEncoder(0.3),
}


@pytest.fixture
def large():
    x_seq = torch.rand(5, 2, 3, 32, 33, generator=torch.Generator().manual_seed(0))
    assert by_steps(x_seq)
    assert x_seq.numel() > 0.9 * BLOCK
    return x_seq


def stepped(layer, x_seq):
    set_step_mode(layer, "s")
    reset_net(layer)
    return torch.stack([layer(x) for x in x_seq])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("grad", [False, True])
def test_sequences_equal_single_steps(name, grad, dtype, large):
    layer = LAYERS[name]()
    x_seq = large.to(dtype) if "Encoder" in name else large.round().to(dtype)
    x_seq = torch.cat([x_seq, x_seq.flip(0)], dim=-1)  # beyond one block
    with torch.set_grad_enabled(grad):
        expected = stepped(layer, x_seq)
        set_step_mode(layer, "m")
        reset_net(layer)
        torch.testing.assert_close(layer(x_seq), expected)
        after = {key: value.clone() for key, value in layer.memories.items()}
        reset_net(layer)
        parts = torch.cat([layer(x_seq[:2]), layer(x_seq[2:])])
    torch.testing.assert_close(parts, expected)
    for key, value in layer.memories.items():
        torch.testing.assert_close(value, after[key])


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_returned_ever_changes(name, large):
    layer = LAYERS[name]()
    set_step_mode(layer, "m")
    assert_state_is_kept_apart(layer, large.round())


@pytest.mark.parametrize("name", ["saturating", "linear", "learnable", "LIPool", "SpikeMaxPool"])
def test_gradients_equal_those_of_single_steps(name, large):
    layer = LAYERS[name]().double()
    leaf = large.double().requires_grad_()
    weight = torch.rand(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = [leaf, *layer.parameters()]

    def gradients(y_seq):
        return torch.autograd.grad((y_seq.flatten(1).sum(1) * weight).sum(), inputs)

    expected = gradients(stepped(layer, leaf))
    set_step_mode(layer, "m")
    reset_net(layer)
    for got, wanted in zip(gradients(layer(leaf)), expected, strict=True):
        torch.testing.assert_close(got, wanted)


def test_a_still_input_has_one_latency(large):
    layer = sl.LatencyEncoder(9, step_mode="m")
    still = large[0].expand(9, *large[0].shape)
    s_seq = layer(still)
    reset_net(layer)
    assert torch.equal(s_seq, layer(still.contiguous()))
    assert torch.equal(s_seq.sum(0), torch.ones_like(large[0]))


@pytest.mark.parametrize("shape", [(3, 8, 40), (5, 3, 160, 176), (130, 24, 24)])
def test_dct_in_pieces_is_the_dct(shape):
    layer = sl.DCT2d(8).double()
    x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    leaf = x.clone().requires_grad_()
    whole = layer(leaf)
    gradient = torch.autograd.grad(whole.square().sum(), leaf)[0]
    torch.testing.assert_close(gradient, 2 * x, rtol=1e-6, atol=1e-6)  # the transform is orthogonal
    torch.testing.assert_close(layer(x), whole.detach())
    torch.testing.assert_close(layer(x.transpose(-1, -2)), whole.detach().transpose(-1, -2))
    mapped = torch.func.vmap(layer)(x.unsqueeze(1))
    torch.testing.assert_close(mapped.squeeze(1), whole.detach())
    tangent = torch.func.jvp(layer, (x,), (x,))[1]
    torch.testing.assert_close(tangent, whole.detach())


def test_blocks_are_put_together_in_order():
    x_seq = torch.arange(5.0 * BLOCK).view(5, 2, -1)
    seen = []

    def double(start, stop):
        seen.append((start, stop))
        return 2 * x_seq[start:stop]

    assert torch.equal(in_blocks(double, x_seq), 2 * x_seq)
    assert seen == [(t, t + 1) for t in range(5)]

"""Quantisation and synapses against slayer."""

import pytest
import torch

from snn_lava_bridge import (
    ConvSynapse,
    DenseSynapse,
    NXT_to_TNX,
    PoolSynapse,
    SumPool2d,
    TNX_to_NXT,
    integer_weights,
    quantize_8b,
    quantize_hook,
    step_floor,
    step_quantize,
)


@pytest.mark.parametrize("step", ["1", "0.5", "0.03125", "0.3"])
@pytest.mark.parametrize("mode", ["round", "floor"])
def test_steps_are_slayers(mode, step, golden):
    g, case = golden("quantize"), f"{mode}_step{step}"
    x = g.raw(f"{case}/x").clone().requires_grad_()
    y = (step_quantize if mode == "round" else step_floor)(x, g.settings[case]["step"])
    assert torch.equal(y, g.raw(f"{case}/y"))
    y.backward(torch.arange(1.0, len(x) + 1))
    assert torch.equal(x.grad, g.raw(f"{case}/grad"))


@pytest.mark.parametrize("scale", [1, 32, 64, 100, 512])
def test_weights_of_8_bits_are_slayers(scale, golden):
    g, case = golden("quantize"), f"w8_scale{scale}"
    w = g.raw(f"{case}/w").clone().requires_grad_()
    y = quantize_8b(w, scale)
    assert torch.equal(y, g.raw(f"{case}/wq"))
    assert torch.equal(quantize_8b(w, scale, descale=True), g.raw(f"{case}/wq_descaled"))
    y.sum().backward()
    assert torch.equal(w.grad, g.raw(f"{case}/grad"))


@pytest.mark.parametrize("bits", [6, 8])
def test_hook_is_slayers(bits, golden):
    g, case = golden("quantize"), f"hook_bits{bits}"
    assert torch.equal(quantize_hook(g.raw(f"{case}/x"), 64, bits), g.raw(f"{case}/y"))
    assert torch.equal(quantize_hook(g.raw(f"{case}/x"), 64, bits, descale=True), g.raw(f"{case}/y_descaled"))


@pytest.mark.parametrize("scale", [1, 3, 50, 64, 100, 1000])
def test_integer_weights_are_even_in_range_and_nearest(scale):
    w = torch.randn(4000) * 300 / scale
    integers = integer_weights(w, scale)
    assert integers.dtype == torch.int64
    assert (int(integers.min()), int(integers.max())) == (-256, 254)
    assert not bool((integers % 2).any())
    inside = (integers > -256) & (integers < 254)
    assert float((integers.double() / scale - w.double())[inside].abs().max()) <= 1.0001 / scale


@pytest.mark.parametrize("function", [step_quantize, quantize_8b, quantize_hook])
def test_a_step_must_be_positive(function):
    with pytest.raises(ValueError, match="must be a positive number"):
        function(torch.ones(2), 0.0)


def _synapse(g, case):
    p, weight = g.settings[case], g.raw(f"{case}/weight")[..., 0]
    options = {n: tuple(v) if isinstance(v := p[n], list) else v for n in ("stride", "padding", "dilation") if n in p}
    if p["kind"] == "dense":
        return DenseSynapse(weight.flatten(1))
    if p["kind"] == "pool":
        kernel = p["kernel_size"]
        synapse = PoolSynapse(tuple(kernel) if isinstance(kernel, list) else kernel, **options)
        synapse.weight = weight
        return synapse
    return ConvSynapse(weight, groups=p.get("groups", 1), **options)


SYNAPSES = [
    "dense", "dense_q8", "conv_basic", "conv_1x1", "conv_depthwise", "conv_dilation", "conv_groups", "conv_rect",
    "conv_stride_pad", "pool_k2", "pool_k3", "pool_rect", "pool_weight_scale", "pool_k2_odd",
]  # fmt: skip


@pytest.mark.parametrize("case", SYNAPSES)
def test_synapses_are_slayers(case, golden):
    g = golden("synapse")
    synapse, quantised = _synapse(g, case), g.settings[case]["quantised_8bit_scale64"]
    x = g.seq(f"{case}/input").clone()
    if case == "pool_k2_odd":  # slayer pads bottom and right up to a multiple of the kernel
        x = torch.nn.functional.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))
    x.requires_grad_()
    weight = quantize_8b(synapse.weight, 64) if quantised else synapse.weight
    y = synapse(x.flatten(0, 1), weight).unflatten(0, x.shape[:2])
    expected = g.seq(f"{case}/output").reshape(y.shape)
    if quantised or g.settings[case]["kind"] == "pool":
        assert torch.equal(y, expected)
    else:
        # Float weights are summed in another order than in slayer's Conv3d: up to two units in the last place. Weights
        # on a binary grid above give exact sums in any order.
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
        exact = synapse(x.detach().flatten(0, 1).double(), weight.double()).unflatten(0, x.shape[:2])
        torch.testing.assert_close(expected.double(), exact, rtol=0, atol=1e-6)
    y.backward(g.seq(f"{case}/upstream_grad").reshape(y.shape))
    g_x = g.seq(f"{case}/grad_input")
    mine = x.grad[..., : g_x.shape[-2], : g_x.shape[-1]] if g_x.dim() == 5 else x.grad
    torch.testing.assert_close(mine.reshape(g_x.shape), g_x, rtol=1e-4, atol=1e-4)
    if f"{case}/grad_weight" in g:
        g_w = g.raw(f"{case}/grad_weight")
        torch.testing.assert_close(synapse.weight.grad.reshape(g_w.shape), g_w, rtol=1e-4, atol=1e-4)


def test_layouts_are_each_others_inverse():
    x = torch.randn(5, 2, 3, 4)
    y = TNX_to_NXT(x)
    assert y.shape == (2, 3, 4, 5)
    assert torch.equal(y[1, 2, 3], x[:, 1, 2, 3])
    assert torch.equal(NXT_to_TNX(y), x)
    with pytest.raises(ValueError, match="must be"):
        TNX_to_NXT(torch.ones(3))


def test_sum_pool_is_the_sum_of_windows():
    x = torch.randn(2, 3, 7, 6)
    for options in ({}, {"stride": 1}, {"padding": 1}, {"stride": (2, 1)}):
        pool = SumPool2d(3, **options)
        average = torch.nn.AvgPool2d(3, options.get("stride"), options.get("padding", 0))
        torch.testing.assert_close(pool(x), 9 * average(x))
    assert "stride=(3, 3)" in repr(SumPool2d(3))
    for wrong in ({"kernel_size": 0}, {"kernel_size": 2, "padding": -1}, {"kernel_size": (1, 2, 3)}):
        with pytest.raises(ValueError, match="must be an integer or a pair"):
            SumPool2d(**wrong)
    with pytest.raises(ValueError, match="needs"):
        SumPool2d(2)(torch.ones(3, 3))

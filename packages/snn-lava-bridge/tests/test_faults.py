"""One test for each fault known from other exchange code."""

import pytest
import torch
from torch import nn

from snn_base import reset_net
from snn_lava_bridge import (
    BlockContainer,
    ConvSynapse,
    CubaLIFNode,
    FlattenBlock,
    LavaExportError,
    MeanOnlyBatchNorm,
    SumPool2d,
    conv_block,
    dense_block,
    export_netx,
    import_netx,
    pool_block,
    quantize_8b,
    read_netx,
    simulate,
)
from snn_lava_bridge.pool import check_lava_pool
from snn_neurons import IFNode
from snn_neurons.surrogates import ATan, Surrogate


def node(**options):
    return CubaLIFNode(**{"current_decay": 0.5, "voltage_decay": 0.25, "step_mode": "m", **options})


def test_01_saturated_weights_are_even():
    assert quantize_8b(torch.tensor([5.0, -5.0]), 64, descale=True).tolist() == [254, -256]


def test_02_threshold_lies_on_the_grid():
    n = node(v_threshold=0.9876)
    assert n.effective_threshold == 63 / 64
    for value, fires in ((63 / 64, 0), (63.1 / 64, 1)):  # both below 0.9876
        n.reset()
        assert n(torch.full((1, 1, 1), value)).item() == fires


def test_03_norm_does_not_feed_back_into_the_current():
    norm = MeanOnlyBatchNorm(1).eval()
    norm.running_mean.fill_(0.25)
    n = node(current_decay=0.0, voltage_decay=1.0, v_threshold=100.0, norm=norm, store_v_seq=True)
    n(torch.ones(4, 1, 1))
    assert n.v_seq.flatten().tolist() == [0.75, 1.75, 2.75, 3.75]


def test_04_learned_decays_are_exported(tmp_path):
    net = nn.Sequential(dense_block(3, 2, node(requires_grad=True), step_mode="m"))
    with torch.no_grad():
        net[0].neuron.current_decay.fill_(0.125)
        net[0].neuron.voltage_decay.fill_(0.0625)
    export_netx(net, tmp_path / "x.net")
    exported = read_netx(tmp_path / "x.net").layers[-1].neuron
    assert (int(exported.i_decay), int(exported.v_decay)) == (512, 256)


def test_05_each_pool_keeps_its_own_kernel(tmp_path):
    net = nn.Sequential(
        pool_block(2, node()), conv_block(1, 2, 3, node()), pool_block((3, 1), node()), FlattenBlock(),
        dense_block(6, 3, node()),
    )  # fmt: skip
    export_netx(net, tmp_path / "x.net", (1, 12, 10))
    shapes = [tuple(layer.weight.shape[2:]) for layer in read_netx(tmp_path / "x.net").layers if layer.kind == "conv"]
    assert shapes == [(2, 2), (3, 3), (3, 1)]


def test_06_the_neuron_of_this_package_is_exported(tmp_path):
    net = nn.Sequential(nn.Linear(3, 2, bias=False), node())
    export_netx(net, tmp_path / "x.net")
    assert read_netx(tmp_path / "x.net").layers[-1].neuron.v_th_mant == 64


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_07_decays_per_channel_have_gradients_on_images(backend):
    n = node(current_decay=torch.rand(3), voltage_decay=torch.rand(3), requires_grad=True, backend=backend)
    x = torch.randn(5, 2, 3, 4, 3)  # as wide as it has channels: aligning decays with the width would go unnoticed
    n(x).sum().backward()
    assert n.current_decay.grad.shape == (3,)
    alone = []
    for c in range(3):
        single = node(
            current_decay=n.current_decay[c].item(), voltage_decay=n.voltage_decay[c].item(), requires_grad=True
        )
        single(x[:, :, c]).sum().backward()
        alone.append(single.current_decay.grad)
    torch.testing.assert_close(n.current_decay.grad, torch.stack(alone), rtol=1e-4, atol=1e-6)


def test_08_surrogate_and_detach_reset_are_used():
    grads = []
    for options in (
        {"surrogate_function": ATan(2.0)},
        {"surrogate_function": ATan(5.0)},
        {"surrogate_function": ATan(2.0), "detach_reset": True},
    ):
        x = torch.ones(6, 1, 1, requires_grad=True)
        n = node(**options)
        assert isinstance(n.surrogate, Surrogate)
        n(x).sum().backward()
        grads.append(x.grad)
    assert not torch.allclose(grads[0], grads[1])
    assert not torch.allclose(grads[0], grads[2])


def test_09_sum_pool_without_stride():
    assert SumPool2d(2, stride=None)(torch.ones(1, 1, 4, 4)).tolist() == [[[[4, 4], [4, 4]]]]


@pytest.mark.parametrize("options", [{"stride": 1}, {"stride": 2, "padding": 1}, {}])
@pytest.mark.parametrize("size", [(7, 6), (9, 9)])
def test_10_overlapping_and_odd_pools_are_exact(options, size, tmp_path):
    net = nn.Sequential(nn.AvgPool2d(3, **options), IFNode(v_threshold=0.5, step_mode="m"))
    x = (torch.rand(20, 2, 2, *size) < 0.4).float()
    export_netx(net, tmp_path / "x.net", (2, *size))
    pooled = net[0](x.flatten(0, 1)).unflatten(0, (20, 2)).double()
    # sums of nine, so that equality with the threshold is decided in integers
    v, spikes = torch.zeros_like(pooled[0]), []
    for step in (pooled * 9).round():
        v = v + step
        spikes.append((v >= 4.5).float())
        v = v * (1 - spikes[-1])
    assert torch.equal(simulate(tmp_path / "x.net", x)[1:], torch.stack(spikes)[:-1].float())
    if options or size != (9, 9):
        with pytest.raises(ValueError, match="lava's pool"):
            check_lava_pool(size, (3, 3), (options.get("stride", 3),) * 2, (options.get("padding", 0),) * 2, (1, 1))


def test_11_padding_modes_are_handled_or_refused(tmp_path):
    for mode in ("reflect", "circular", "replicate"):
        net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode, bias=False), node())
        with pytest.raises(LavaExportError, match="padding_mode"):
            export_netx(net, tmp_path / "x.net", (1, 6, 6))
    with pytest.raises(LavaExportError, match="unequal sides"):
        export_netx(nn.Sequential(nn.Conv2d(1, 2, 2, padding="same"), node()), tmp_path / "x.net", (1, 6, 6))
    net = nn.Sequential(nn.Conv2d(1, 2, (3, 5), padding="same", dilation=(2, 1), bias=False), node())
    export_netx(net, tmp_path / "x.net", (1, 6, 6))
    assert read_netx(tmp_path / "x.net").layers[1].padding == (2, 2)
    assert read_netx(tmp_path / "x.net").layers[1].shape == (2, 6, 6)
    assert not (tmp_path / "y.net").exists()


def test_12_export_needs_no_forward(tmp_path):
    net = nn.Sequential(conv_block(1, 2, 3, node(arithmetic="chip")), FlattenBlock(), dense_block(32, 3, node()))
    export_netx(net, tmp_path / "x.net", (1, 6, 6))
    assert import_netx(tmp_path / "x.net")(torch.ones(4, 1, 1, 6, 6)).shape == (4, 1, 3)


def test_13_batch_norm_is_folded(tmp_path):
    plain = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), node(current_decay=1.0, bias=None))
    block = nn.Sequential(
        BlockContainer(
            ConvSynapse(torch.randn(3, 1, 3, 3)), node(current_decay=1.0, arithmetic="chip"), norm=nn.BatchNorm2d(3),
            step_mode="m",
        )
    )  # fmt: skip
    for norm in (plain[1], block[0].norm):
        nn.init.uniform_(norm.weight, 0.3, 2.0)
        nn.init.uniform_(norm.bias, -1.0, 1.0)
    x = (torch.rand(12, 4, 1, 6, 6) < 0.5).float()
    for _ in range(5):
        plain[1](plain[0](x.flatten(0, 1)))
        reset_net(block)
        block(x).sum().backward()
    block.eval()
    plain.eval()
    plain[1].running_mean += 2.0
    reset_net(block)
    synapse, flat = block[0].synapse, x.flatten(0, 1)
    shift = block[0].folded_bias().view(-1, 1, 1)
    torch.testing.assert_close(
        synapse(flat, block[0].folded_weight()) + shift, block[0].norm(synapse(flat, synapse.weight))
    )
    export_netx(block, tmp_path / "block.net", (1, 6, 6))
    assert read_netx(tmp_path / "block.net").layers[-1].bias is not None
    assert torch.equal(block(x), simulate(tmp_path / "block.net", x))
    export_netx(plain, tmp_path / "plain.net", (1, 6, 6))
    folded = plain[1](plain[0](x.flatten(0, 1))).unflatten(0, (12, 4))
    layer = read_netx(tmp_path / "plain.net").layers[-1]
    scale = plain[2].scale
    again = torch.nn.functional.conv2d(x.flatten(0, 1), layer.weight.float()) + layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(again.unflatten(0, (12, 4)) / scale, folded, rtol=0, atol=(9 + 0.5) / scale)


def test_14_every_backend_named_runs_or_says_why():
    x = torch.randn(4, 2, 3)
    for backend in ("auto", "torch", "native"):
        assert node(backend=backend)(x).shape == x.shape
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="triton"):
            node(backend="triton")(x)
    with pytest.raises(ValueError, match="backend must be one of"):
        node(backend="lava")
    with pytest.raises(ValueError, match="no power of two"):
        node(scale=100, backend="native")(x)


@pytest.mark.parametrize("delay", [None, torch.tensor([0.0, 2.0])])
def test_15_bias_delay_and_transport_reach_the_file(delay, tmp_path):
    net = nn.Sequential(dense_block(1, 2, node(bias=0.5, arithmetic="chip"), delay=delay, step_mode="m"))
    nn.init.constant_(net[0].synapse.weight, 2.0)
    export_netx(net, tmp_path / "x.net")
    layer = read_netx(tmp_path / "x.net").layers[-1]
    assert layer.bias.tolist() == [32, 32]
    assert delay is None or layer.delay.tolist() == [0, 2]
    x = torch.zeros(8, 1, 1)
    x[0] = 1
    spikes = simulate(tmp_path / "x.net", x)
    assert torch.equal(spikes, net(x))
    assert int(spikes[:, 0, 0].argmax()) == 1  # one step of transport
    silent = simulate(tmp_path / "x.net", torch.zeros_like(x))
    assert bool(silent[:3].any())  # the bias acts from step 0 on

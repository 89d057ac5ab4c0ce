"""Exported files against those that lava-dl wrote, dataset by dataset."""

import h5py
import numpy as np
import pytest
import torch

from snn_base import reset_net, set_step_mode
from snn_lava_bridge import export_netx, import_netx, simulate, verify

NETS = [
    "conv", "conv_bias", "conv_groups_dilation", "conv_pool", "conv_probe", "mlp", "mlp_axonal_delay", "mlp_bias",
    "mlp_noinput_scale32", "mlp_per_channel_decay", "mlp_probe", "mlp_recurrent", "mlp_saturated",
]  # fmt: skip


def _datasets(path):
    found = {}
    with h5py.File(path) as handle:
        handle.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def _shape(golden, name):
    settings = golden(f"net_{name}").settings
    return None if name == "mlp_noinput_scale32" else tuple(settings["input_shape"])


@pytest.mark.parametrize("name", NETS)
def test_export_equals_the_file_of_lava_dl(name, golden, golden_net, data_dir, tmp_path):
    path = tmp_path / "mine.net"
    export_netx(golden_net(name), path, _shape(golden, name))
    lowered = "net_conv_pool_lowered.net" if name == "conv_pool" else f"net_{name}.net"
    mine, theirs = _datasets(path), _datasets(data_dir / lowered)
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        if key.endswith("type"):
            assert mine[key] == value
        else:
            assert np.shape(mine[key]) == np.shape(value), key
            assert np.array_equal(mine[key], value), key


@pytest.mark.parametrize("name", NETS)
def test_simulated_export_module_and_reimported_module_equal_netx(name, golden, golden_net, tmp_path):
    g, path = golden(f"net_{name}"), tmp_path / "mine.net"
    net = golden_net(name, "chip")
    export_netx(net, path, _shape(golden, name))
    x, expected = g.seq("x"), g.seq("y_netx")
    assert expected.any()
    assert torch.equal(simulate(path, x), expected)
    assert torch.equal(net(x.float()), expected.float())
    assert torch.equal(import_netx(path)(x.float()), expected.float())
    assert verify(net, path, x).ok


@pytest.mark.parametrize("name", NETS)
def test_slayer_arithmetic_equals_slayer_layer_by_layer(name, golden, golden_net):
    g, net = golden(f"net_{name}"), golden_net(name, "slayer")
    x = g.seq("x").float()
    for module, layer in zip(net, (s for s in g.settings["layers"] if s["kind"] != "Input"), strict=True):
        x = module(x)
        if f"spikes{layer['index']}" in g:
            assert torch.equal(x, g.seq(f"spikes{layer['index']}").float().reshape(x.shape)), layer
    assert torch.equal(x, g.seq("y_slayer").float())


@pytest.mark.parametrize("name", ["conv_pool", "mlp_axonal_delay", "mlp_recurrent", "mlp_bias"])
def test_single_steps_equal_the_sequence(name, golden, golden_net):
    g, net = golden(f"net_{name}"), golden_net(name)
    set_step_mode(net, "s")
    reset_net(net)
    y = torch.stack([net(x) for x in g.seq("x").float()])
    assert torch.equal(y, g.seq("y_netx").float())

"""NIR graphs from and to files."""

import numpy as np
import pytest
import torch

from snn_lava_bridge import LavaExportError, read_netx, simulate
from snn_lava_bridge.nir import netx_to_nir, nir_to_netx

nir = pytest.importorskip("nir", reason="needs the package nir")


@pytest.mark.parametrize("name", ["conv", "conv_groups_dilation", "mlp", "mlp_per_channel_decay"])
def test_a_file_survives_the_way_through_nir(name, golden, data_dir, tmp_path):
    source = data_dir / f"net_{name}.net"
    report = nir_to_netx(netx_to_nir(source, dt=1e-4), tmp_path / "again.net", dt=1e-4)
    assert report.decay_error < 1e-6
    assert report.threshold_error < 1e-6
    for a, b in zip(read_netx(source).spiking_layers, read_netx(tmp_path / "again.net").spiking_layers, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.neuron.i_decay, b.neuron.i_decay)
        assert torch.equal(a.neuron.v_decay, b.neuron.v_decay)
        assert a.neuron.v_th_mant == b.neuron.v_th_mant
    x, y = golden(f"net_{name}").seq("x"), golden(f"net_{name}").seq("y_netx")
    assert torch.equal(simulate(tmp_path / "again.net", x), y)


def graph(**changes):
    one = np.ones(2)
    values = {"tau_syn": 0.003 * one, "tau_mem": 0.02 * one, "r": 20.0 * one, "v_leak": 0 * one, "v_threshold": one}
    neuron = nir.CubaLIF(**{**values, "w_in": 3.0 * one, **changes})
    nodes = {"input": nir.Input(np.array([3])), "fc": nir.Linear(np.full((2, 3), 0.5, np.float32)), "lif": neuron}
    nodes["output"] = nir.Output(np.array([2]))
    return nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")])


def test_errors_of_rounding_are_reported(tmp_path):
    report = nir_to_netx(graph(v_threshold=np.full(2, 0.99)), tmp_path / "x.net")
    assert report.decay_error == pytest.approx(abs(round(4096 / 3) / 4096 - 1 / 3), abs=1e-4)
    assert report.threshold_error == pytest.approx(1 - 63 / 64 / 0.99, rel=1e-4)
    assert read_netx(tmp_path / "x.net").layers[-1].weight.tolist() == [[32] * 3] * 2


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"v_leak": np.ones(2)}, "v_leak"),
        ({"w_in": np.array([1.0, 2.0])}, "input gain"),
        ({"tau_syn": np.full(2, 1e-4)}, "smaller step"),
    ],
)
def test_what_the_chip_cannot_do_is_refused(changes, match, tmp_path):
    with pytest.raises(LavaExportError, match=match):
        nir_to_netx(graph(**changes), tmp_path / "x.net")


def test_a_bias_has_no_place(data_dir):
    with pytest.raises(LavaExportError, match="bias"):
        netx_to_nir(data_dir / "net_mlp_bias.net")

"""Files that are damaged, foreign or beyond the chip; lint; the command line."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import snn_neurons
from snn_lava_bridge import (
    CubaLIFNode,
    FlattenBlock,
    LavaExportError,
    LavaFileError,
    LavaNotInstalledError,
    NetxLayer,
    NetxNetwork,
    NetxNeuron,
    choose_scales,
    conv_block,
    dense_block,
    describe,
    export_netx,
    import_netx,
    lint,
    pool_block,
    read_netx,
    simulate,
    simulate_layers,
    to_lava_blocks,
    verify,
    write_netx,
)
from snn_lava_bridge.__main__ import main
from snn_neurons import IFNode, LIFNode


def network(weight, *, threshold=64, i_decay=4096, v_decay=0, **options):
    neuron = NetxNeuron(torch.tensor(i_decay), torch.tensor(v_decay), threshold)
    weight = torch.as_tensor(weight)
    layer = NetxLayer("dense", (weight.shape[0],), weight=weight, neuron=neuron, name="fc", **options)
    return NetxNetwork((layer,), (weight.shape[1],))


def test_a_written_network_reads_back_as_it_was(data_dir, tmp_path):
    for source in sorted(data_dir.glob("*.net")):
        first = read_netx(source)
        write_netx(first, tmp_path / "copy.net")
        second = read_netx(tmp_path / "copy.net")
        assert first.input_shape == second.input_shape
        for a, b in zip(first.layers, second.layers, strict=True):
            assert (a.kind, a.shape, a.stride, a.padding, a.dilation, a.groups) == (
                b.kind, b.shape, b.stride, b.padding, b.dilation, b.groups
            )  # fmt: skip
            for name in ("weight", "weight_rec", "bias", "delay"):
                x, y = getattr(a, name), getattr(b, name)
                assert (x is None) == (y is None)
                assert x is None or torch.equal(x, y)
    assert "5 " in describe(second) or describe(second)


def test_a_truncated_or_foreign_file_is_one_clear_error(data_dir, tmp_path):
    whole = (data_dir / "net_conv.net").read_bytes()
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 2000):
        path = tmp_path / "cut.net"
        path.write_bytes(whole[:size])
        with pytest.raises(LavaFileError, match=r"cut\.net"):
            import_netx(path)
    with h5py.File(tmp_path / "other.h5", "w") as handle:
        handle["weights"] = 1
    with pytest.raises(LavaFileError, match="no group 'layer'"):
        read_netx(tmp_path / "other.h5")
    with pytest.raises(FileNotFoundError):
        read_netx(tmp_path / "missing.net")


def _drop(name):
    return lambda f: f.__delitem__(name)


def _put(name, value):
    def change(f):
        if name in f:
            del f[name]
        f[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_drop("layer/1"), "numbered"),
        (_drop("layer/1/weight"), "layer 1 .conv.: dataset 'weight' is missing"),
        (_drop("layer/1/neuron"), "group 'neuron' is missing"),
        (_drop("layer/1/neuron/iDecay"), "iDecay"),
        (_drop("layer/2/groups"), "groups"),
        (_drop("layer/0"), "numbered"),
        (_put("layer/1/type", np.array(["convT"], "S10")), "no integer model"),
        (_put("layer/1/type", np.array(["mystery"], "S10")), "skip it silently"),
        (_put("layer/3/type", np.array(["input"], "S10")), "must be the first"),
        (_put("layer/0/shape", np.array([2, 10])), "must be .F,. or"),
        (_put("layer/0/shape", np.array([3, 10, 8])), "does not fit 3 channels"),
        (_put("layer/1/shape", np.array([4, 9, 8])), "contradicts the geometry"),
        (_put("layer/1/weight", np.full((4, 2, 3, 3), np.nan)), "NaN"),
        (_put("layer/1/weight", np.ones((4, 2, 3))), "must be"),
        (_put("layer/1/stride", np.array([0, 1])), "at least 1"),
        (_put("layer/1/neuron/vDecay", 5000), "0 ... 4096"),
        (_put("layer/1/neuron/iDecay", np.arange(3)), "must be 0-d or"),
        (_put("layer/1/neuron/type", "RF"), "only CUBA"),
        (_put("layer/1/neuron/messageBits", 8), "messageBits"),
        (_put("layer/1/neuron/vThMant", np.arange(4)), "per-neuron thresholds"),
        (_put("layer/4/weight", np.ones((5, 7))), "the layer before gives 216"),
        (_put("layer/4/bias", np.ones(4)), "bias of shape"),
        (_put("layer/4/delay", np.ones(4)), "fits no side"),
    ],
)
def test_each_inconsistency_is_named(change, match, data_dir, tmp_path):
    path = tmp_path / "bad.net"
    path.write_bytes((data_dir / "net_conv.net").read_bytes())
    with h5py.File(path, "r+") as handle:
        change(handle)
    with pytest.raises(LavaFileError, match=match):
        import_netx(path)


def test_a_pool_layer_is_read_but_reported(golden, data_dir):
    x = golden("net_conv_pool").seq("x")
    path = data_dir / "net_conv_pool.net"
    assert torch.equal(simulate(path, x), golden("net_conv_pool").seq("y_netx"))
    assert [f.code for f in lint(path)] == ["pool"]


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (network([[0, 0]]), "zero"),
        (network([[-64, -2], [0, -6]]), "negative-power-of-two"),
        (network([[-2, -2]]), "negative-power-of-two"),
        (network([[300, 2]]), "range"),
        (network([[-258, 2]]), "range"),
        (network([[3, -2]]), "odd"),
        (network([[2, 4]], threshold=2**17), "threshold"),
        (network([[2, 4]], bias=torch.tensor([4096])), "bias"),
        (network([[2, 4]], delay=torch.tensor([63])), "delay"),
    ],
)
def test_lint_finds_what_the_chip_would_not_run(source, code):
    assert [f.code for f in lint(source) if f.level == "error"] == [code]


def test_lint_is_silent_on_what_is_exact(data_dir):
    assert lint(network([[-64, 2], [30, 254]])) == []
    assert lint(network([[3, 255]])) == []
    assert lint(network([[-62, -2]])) == []
    for path in data_dir.glob("*.net"):
        if path.name != "net_conv_pool.net":
            assert [f for f in lint(path) if f.level == "error"] == []


def test_lint_runs_the_network_on_given_activity():
    loud = network([[254] * 600], i_decay=0, v_decay=4096, threshold=2**17 - 1)
    found = lint(loud, spikes=torch.ones(5, 1, 600))
    assert {f.code for f in found} >= {"current-overflow"}
    assert lint(loud, spikes=torch.zeros(5, 1, 600))[0].code == "silent"
    # 64 * 254 * 500 fits 24 bits once; the voltage adds it up from the second input on.
    saturated = simulate_layers(network([[-254] * 500], v_decay=0), torch.ones(5, 1, 500))[0]
    assert (saturated.wraps, saturated.saturations) == (0, 3)


def test_errors_stop_the_export_and_leave_the_file(tmp_path):
    path = tmp_path / "net.net"
    path.write_text("before")
    net = nn.Sequential(dense_block(2, 2, CubaLIFNode(0.5, 0.5)))
    nn.init.zeros_(net[0].synapse.weight)
    with pytest.raises(LavaExportError, match="0: all weights are zero"):
        export_netx(net, path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("modules", "shape", "match"),
    [
        ([nn.Linear(3, 2)], (3,), "no neuron"),
        ([IFNode()], (3,), "synapses before"),
        ([nn.Linear(3, 2), nn.ReLU()], (3,), "ReLU has no counterpart"),
        ([nn.Linear(3, 2), nn.Linear(2, 2), IFNode()], (3,), "its neuron is missing"),
        ([nn.MaxPool2d(2), IFNode()], (1, 4, 4), "max pooling"),
        ([nn.Conv2d(1, 1, 3, bias=False), IFNode()], None, "give input_shape"),
        ([nn.Conv2d(1, 1, 5, bias=False), IFNode()], (1, 4, 4), "does not fit"),
        ([nn.Conv2d(2, 1, 3, bias=False), IFNode()], (1, 4, 4), "takes 2 channels"),
        ([nn.Linear(16, 2), IFNode()], (1, 4, 4), "put nn.Flatten before"),
        ([nn.Linear(3, 2, bias=False), IFNode(v_reset=None)], (3,), "soft reset"),
        ([nn.Linear(3, 2, bias=False), IFNode(v_reset=0.5)], (3,), "hard reset to 0"),
        ([nn.Linear(3, 2), CubaLIFNode(0.5, 0.5)], (3,), "bias of the input current"),
        ([nn.AvgPool2d(2, ceil_mode=True), IFNode()], (1, 5, 5), "ceil_mode"),
        ([nn.BatchNorm2d(1), IFNode()], (1, 5, 5), "batch norm"),
        ([nn.Linear(3, 2, bias=False), CubaLIFNode(0.5, 0.5, graded_spike=True)], (3,), "graded_spike"),
        ([dense_block(3, 2, CubaLIFNode(0.5, 0.5), delay_shift=False)], (3,), "delay_shift"),
        ([dense_block(3, 2, CubaLIFNode(0.5, 0.5), quantize=False)], (3,), "quantize=False"),
        ([nn.TransformerEncoderLayer(8, 1, 8)], (3,), "use nn.Sequential"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_the_reason(modules, shape, match, tmp_path):
    with pytest.raises(LavaExportError, match=match):
        export_netx(nn.Sequential(*modules), tmp_path / "x.net", shape)
    assert list(tmp_path.iterdir()) == []


def test_plain_neurons_are_mapped(tmp_path):
    net = nn.Sequential(
        nn.Linear(4, 3, bias=False), IFNode(step_mode="m"), nn.Linear(3, 2, bias=False), LIFNode(4.0, step_mode="m")
    )
    with torch.no_grad():
        net[0].weight.copy_(torch.randint(-20, 21, (3, 4)) / 8)
    report = export_netx(net, tmp_path / "x.net", scale=64)
    first, second = read_netx(tmp_path / "x.net").spiking_layers
    assert (int(first.neuron.i_decay), int(first.neuron.v_decay), first.neuron.v_th_mant) == (4096, 0, 63)
    assert (int(second.neuron.i_decay), int(second.neuron.v_decay)) == (4096, 1024)
    assert report.layers[0].weight_error == 0
    assert "scale 64" in str(report)
    x = torch.randint(0, 2, (30, 2, 4)).float()
    mine = net[1](net[0](x))
    assert torch.equal(simulate_layers(read_netx(tmp_path / "x.net"), x)[0].spikes[1:].float(), mine[:-1])


def test_the_report_has_the_rounding_of_decays_weights_and_thresholds(tmp_path):
    decays = torch.tensor([0.25, 0.3, 1.0]), 0.1
    net = nn.Sequential(
        dense_block(2, 3, CubaLIFNode(*decays, 0.99, scale=32)),
        nn.Linear(3, 2, bias=False), snn_neurons.CubaLIFNode(current_decay=0.3, voltage_decay=0.5),
        nn.Linear(2, 2, bias=False), IFNode(),
    )  # fmt: skip
    with torch.no_grad():
        net[0].synapse.weight.copy_(torch.tensor([[1.0, 2.03], [0.5, -0.25], [9.0, -9.0]]))
        for linear in (net[1], net[3]):
            linear.weight.copy_(torch.full_like(linear.weight, 0.5))
    report = export_netx(net, tmp_path / "x.net", scale=64)
    block, plain, integrator = report.layers
    assert block.decay_error == pytest.approx(abs(410 / 4096 - 0.1), abs=1e-8)
    assert block.weight_error == pytest.approx(0.03, abs=1e-6)
    assert block.saturated == pytest.approx(2 / 6)
    assert block.threshold_error == pytest.approx(31 / 32 / 0.99 - 1)
    assert plain.decay_error == pytest.approx(abs(1229 / 4096 - 0.3), abs=1e-8)
    assert integrator.decay_error == 0
    assert [f.code for f in report.findings] == ["saturated"]


def test_verify_names_layer_step_and_neuron(tmp_path):
    net = nn.Sequential(*[dense_block(6, 6, CubaLIFNode(0.5, 0.1, 0.3, arithmetic="chip")) for _ in range(3)])
    export_netx(net, tmp_path / "x.net")
    x = (torch.rand(40, 3, 6) < 0.6).float()
    report = verify(net, tmp_path / "x.net", x)
    assert report.ok
    assert "module = file: yes" in str(report)
    with torch.no_grad():
        net[1].synapse.weight[4] += 0.5
    report = verify(net, tmp_path / "x.net", x)
    assert not report.ok
    assert report.net_vs_file.layer.startswith("layer 1")
    assert report.net_vs_file.neuron == (4,)
    assert net[0].step_mode == "s"


def test_spikes_must_fit(data_dir):
    path = data_dir / "net_mlp.net"
    with pytest.raises(ValueError, match=r"must be .T, N"):
        simulate(path, torch.ones(3, 1, 21))
    with pytest.raises(ValueError, match="must be integers"):
        simulate(path, torch.full((3, 1, 20), 0.5))
    with pytest.raises(ValueError, match="negative"):
        simulate(path, -torch.ones(3, 1, 20))
    assert simulate(path, torch.zeros(0, 1, 20)).shape == (0, 1, 10)


def test_scales_are_chosen_and_reported():
    net = nn.Sequential(
        conv_block(1, 2, 3, CubaLIFNode(0.5, 0.5)), FlattenBlock(), dense_block(8, 3, CubaLIFNode(0.5, 0.5))
    )
    nn.init.uniform_(net[0].synapse.weight, -0.4, 0.4)
    nn.init.uniform_(net[2].synapse.weight, 1.0, 3.5)
    first, second = choose_scales(net)
    assert (first.name, first.scale, first.saturated) == ("0", 512, 0.0)
    assert (second.name, second.scale) == ("2", 64)
    assert net[2].scale == 64
    assert choose_scales(net, max_saturated=0.9)[1].saturated > 0
    with pytest.raises(ValueError, match="max_saturated"):
        choose_scales(net, max_saturated=2)


def test_command_line(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SNN_LAVA_PYTHON", raising=False)
    path = str(data_dir / "net_conv.net")
    assert main(["inspect", path]) == 0
    assert "541 neurons" in capsys.readouterr().out
    assert main(["lint", path]) == 0
    assert "0 errors" in capsys.readouterr().out
    assert main(["simulate", path, "--steps", "10", "--out", str(tmp_path / "y.npy")]) == 0
    assert np.load(tmp_path / "y.npy").shape == (10, 1, 5)
    np.save(tmp_path / "x.npy", np.ones((4, 2, 2, 10, 8), np.uint8))
    assert main(["simulate", path, "--spikes", str(tmp_path / "x.npy")]) == 0
    assert "rate" in capsys.readouterr().out
    assert main(["verify", path]) == 1
    assert "netx not run" in capsys.readouterr().out
    assert main(["lint", str(data_dir / "net_conv_pool.net")]) == 1
    assert main(["inspect", str(data_dir / "README.md")]) == 2
    assert "not a readable HDF5 file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["fly", path])


def test_without_lava_the_objects_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lava", None)
    with pytest.raises(LavaNotInstalledError, match="export_netx"):
        to_lava_blocks(nn.Sequential(pool_block(2, CubaLIFNode(0.5, 0.5))))

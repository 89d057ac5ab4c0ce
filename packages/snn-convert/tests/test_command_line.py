"""The command line on files as a user has them."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from snn_convert import convert
from snn_convert.__main__ import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    x = torch.rand(40, 8)
    batch = torch.export.Dim.DYNAMIC
    for name, activation in (("good", nn.ReLU()), ("bad", nn.GELU())):
        model = nn.Sequential(nn.Linear(8, 16), activation, nn.Linear(16, 4)).eval()
        torch.export.save(torch.export.export(model, (x,), dynamic_shapes=({0: batch},)), folder / f"{name}.pt2")
        if name == "good":
            labels = model(x).argmax(1)
            expected = convert(model, [x[:30], x[30:]], timesteps=5).run(x)
    np.savez(folder / "data.npz", x=x.numpy(), y=labels.numpy())
    np.savez(folder / "inputs.npz", x=x.numpy())
    np.savez(folder / "other.npz", z=x.numpy())
    np.savez(folder / "bytes.npz", x=(255 * x).byte().numpy())
    (folder / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / "broken.pt2").write_bytes(b"no program")
    return folder, x, expected


def test_check_lists_what_stands_in_the_way(folder, capsys):
    path = folder[0]
    assert main(["check", str(path / "good.pt2"), "--data", str(path / "data.npz")]) == 0
    assert "can be converted: 1 activations" in capsys.readouterr().out
    assert main(["check", str(path / "bad.pt2"), "--data", str(path / "data.npz")]) == 1
    assert "gelu" in capsys.readouterr().out


def test_convert_and_curve(folder, tmp_path, capsys):
    path, x, expected = folder
    out, report = tmp_path / "net.safetensors", tmp_path / "report.json"
    command = ["convert", str(path / "good.pt2"), "--data", str(path / "inputs.npz"), "--output", str(out)]
    assert main([*command, "--timesteps", "5", "--batch", "30", "--report", str(report)]) == 0
    assert "synaptic operations" in capsys.readouterr().out
    assert json.loads(report.read_text())["timesteps"] == 5
    from snn_convert import load

    torch.testing.assert_close(load(out).run(x), expected)
    assert main(["curve", str(out), "--data", str(path / "data.npz"), "--steps", "1,5"]) == 0
    printed = capsys.readouterr().out
    assert "1 steps" in printed
    assert "40 samples" in printed


def test_figures(folder, tmp_path):
    pytest.importorskip("matplotlib", reason="figures need matplotlib").use("Agg")
    path, out = folder[0], tmp_path / "net.safetensors"
    command = ["convert", str(path / "good.pt2"), "--data", str(path / "inputs.npz"), "--output", str(out)]
    assert main([*command, "--plot", str(tmp_path / "errors.png")]) == 0
    assert main(["curve", str(out), "--data", str(path / "data.npz"), "--plot", str(tmp_path / "curve.png")]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"net.safetensors", "errors.png", "curve.png"}


def test_an_unsupported_model_writes_nothing(folder, tmp_path):
    path, out = folder[0], tmp_path / "net.safetensors"
    assert main(["convert", str(path / "bad.pt2"), "--data", str(path / "data.npz"), "--output", str(out)]) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "nowhere.pt2", "--data", "data.npz"], "there is no file nowhere.pt2"),
        (["check", "broken.pt2", "--data", "data.npz"], "broken.pt2 is no program of torch.export"),
        (["check", "good.pt2", "--data", "nowhere.npz"], "there is no file nowhere.npz"),
        (["check", "good.pt2", "--data", "broken.npz"], "broken.npz is no .npz file"),
        (["check", "good.pt2", "--data", "other.npz"], "other.npz has no array x"),
        (["check", "good.pt2", "--data", "bytes.npz"], "must be of floating point"),
        (["curve", "broken.pt2", "--data", "data.npz"], "broken.pt2 is no whole safetensors file"),
        (["curve", "broken.pt2", "--data", "data.npz", "--steps", "1,x"], "--steps must be numbers"),
        (
            ["convert", "good.pt2", "--data", "data.npz", "--output", "x", "--timesteps", "0"],
            "must be at least 1, got 0",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, words, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder[0])
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    message = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in message
    assert message.count("\n") == 1
    assert not (folder[0] / "x").exists()

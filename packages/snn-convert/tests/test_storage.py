"""A saved network is read without the class of the original, and runs the same."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from snn_convert import RECIPES, ModelFileError, Recipe, braincog, convert, load, save
from snn_convert.storage import _digest
from snn_neurons import LIFNode


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.head = nn.Linear(2 * 6 * 16, 5)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        x = F.relu(self.norm(self.first(x)))
        y = F.relu6(x + self.scale * self.second(x))
        y = F.max_pool2d(torch.cat([x, y], 1), 3, 2, 1)
        return self.head(F.adaptive_avg_pool2d(F.interpolate(y, scale_factor=2.0), 4).flatten(1))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Residual().eval()


@pytest.fixture(scope="module")
def x():
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("recipe", [*RECIPES, "lateral"])
def test_a_saved_network_runs_the_same(recipe, model, x, tmp_path):
    chosen = braincog(lipool=False) if recipe == "lateral" else recipe
    snn = convert(model, [x], timesteps=4, recipe=chosen)
    snn.readout, snn.chunk = "sum", 3
    save(snn, tmp_path / "net.safetensors")
    twin = load(tmp_path / "net.safetensors")
    assert (twin.timesteps, twin.readout, twin.chunk) == (4, "sum", 3)
    with torch.no_grad():
        assert torch.equal(twin.run(x), snn.run(x))
        assert torch.equal(twin.run(x[:2], 7, per_step=True), snn.run(x[:2], 7, per_step=True))
    assert dict(twin.named_parameters()).keys() == dict(snn.named_parameters()).keys()
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_calibrated_membranes_and_double_precision_are_kept(model, x, tmp_path):
    twice = Residual().double().eval()
    snn = convert(twice, [x.double()], timesteps=4, recipe=Recipe(membrane_calibration=True))
    save(snn, tmp_path / "net.safetensors")
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "net.safetensors").run(x.double()), snn.run(x.double()))


def test_a_neuron_of_ones_own_is_refused_and_nothing_is_written(model, x, tmp_path):
    snn = convert(model, [x], recipe=Recipe(neuron=lambda: LIFNode(v_reset=None, step_mode="m")))
    with pytest.raises(TypeError, match=r"relu is a LIFNode.*a file cannot hold"):
        save(snn, tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_saved_network_is_one_clear_error(model, x, tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(path)
    save(convert(model, [x]), path)
    whole = path.read_bytes()
    for content in (whole[:-5], whole[:100], b"", b"PK\x03\x04 something else", whole[50:]):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="is no whole safetensors file"):
            load(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ModelFileError, match="not of a converted network"):
        load(path)
    save_file({"a": torch.zeros(2)}, path, {"format": "snn_convert.SpikingModel", "version": "99"})
    with pytest.raises(ModelFileError, match="has version 99"):
        load(path)


def test_no_damaged_bit_goes_unnoticed(model, x, tmp_path):
    path = tmp_path / "net.safetensors"
    save(convert(model, [x]), path)
    whole = path.read_bytes()
    random = torch.Generator().manual_seed(0)
    start = 8 + int.from_bytes(whole[:8], "little")  # of the tensors, behind the header
    for low, high in ((0, start), (start, len(whole))):
        for position in torch.randint(low, high, (60,), generator=random).tolist():
            damaged = bytearray(whole)
            damaged[position] ^= 1 << (position % 8)
            path.write_bytes(damaged)
            with pytest.raises(ModelFileError):
                load(path)


@pytest.mark.parametrize("target", ["os.system.x", "profiler._record_function_enter.default", "tile2"])
def test_a_file_calls_nothing_but_tensor_operations(target, tmp_path):
    description = {
        "timesteps": 1,
        "readout": "mean",
        "chunk": 1,
        "parameters": [],
        "modules": {},
        "graph": [["x", "placeholder", "x", [], {"dict": {}}], ["y", "call_function", target, [], {"dict": {}}]],
    }
    text, tensors = json.dumps(description), {"a": torch.zeros(2)}
    header = {"format": "snn_convert.SpikingModel", "version": "1", "description": text}
    save_file(tensors, tmp_path / "net.safetensors", {**header, "sha256": _digest(text, tensors)})
    with pytest.raises(ModelFileError, match="describes no network"):
        load(tmp_path / "net.safetensors")

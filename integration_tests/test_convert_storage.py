"""A converted network travels as one file: another process runs it without the class of the original."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from snn_convert import convert, save


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = torch.nn.functional.max_pool2d((x + self.second(x)).relu(), 2)
        y: Tensor = self.head(x.flatten(1))
        return y


def test_another_process_runs_a_saved_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.rand(12, 1, 6, 6)
    snn = convert(Residual().eval(), [x], timesteps=5)
    with torch.no_grad():
        expected = snn.run(x)
    save(snn, tmp_path / "net.safetensors")
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=expected.argmax(1).numpy())
    code = """
import sys, numpy as np
from snn_convert import load
with np.load("data.npz") as data:
    x = data["x"]
import torch
with torch.no_grad():
    np.save("out.npy", load("net.safetensors").run(torch.from_numpy(x)).numpy())
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected.numpy())
    command = [sys.executable, "-m", "snn_convert", "curve", "net.safetensors", "--data", "data.npz", "--steps", "5"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "5 steps  100.00 %" in done.stdout

"""Compare a network, its file and, where it is installed, netx itself, spike by spike."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from snn_base import reset_net, set_step_mode
from snn_lava_bridge.blocks import BlockContainer
from snn_lava_bridge.errors import LavaNotInstalledError
from snn_lava_bridge.netx_layers import NetxNetwork
from snn_lava_bridge.netx_read import read_netx
from snn_lava_bridge.simulate import LayerActivity, simulate_layers

PYTHON_VARIABLE = "SNN_LAVA_PYTHON"


class Divergence(NamedTuple):
    """The first spike in which two runs differ: layer, step, sample and neuron ``(index of one step)``."""

    layer: str
    step: int
    sample: int
    neuron: tuple[int, ...]
    differing: int

    def __str__(self) -> str:
        where = f"step {self.step}, sample {self.sample}, neuron {self.neuron}"
        return f"{self.layer}: first at {where}; {self.differing} spikes differ"


@dataclass(frozen=True)
class VerifyReport:
    """Result of `verify`.

    Attributes:
        net_vs_file: first divergence of the module from the simulated file, or None.
        file_vs_netx: first divergence of the simulated file from netx, or None.
        netx: whether netx was run; ``netx_reason`` says why not.
        layers: activity of every layer of the file.
    """

    net_vs_file: Divergence | None
    file_vs_netx: Divergence | None
    netx: bool
    netx_reason: str
    layers: tuple[LayerActivity, ...] = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing diverged in what was run."""
        return self.net_vs_file is None and self.file_vs_netx is None

    def __str__(self) -> str:
        lines = [f"module = file: {'yes' if self.net_vs_file is None else self.net_vs_file}"]
        if self.netx:
            lines.append(f"file = netx: {'yes' if self.file_vs_netx is None else self.file_vs_netx}")
        else:
            lines.append(f"netx not run: {self.netx_reason}")
        return "\n".join(lines)


def verify(
    net: nn.Module | None, path: str | PathLike[str], spikes: Tensor, *, python: str | None = None
) -> VerifyReport:
    """Run a network, its file and netx on the same spikes and find where they part.

    Args:
        net: module whose layers are compared with those of the file, block by block where it is made of blocks, else
            by its output, of which L layers of the chip are L steps late; None compares file and netx alone.
        path: the ``.net`` file.
        spikes: input ``[T, N, ...]``.
        python: interpreter that can import ``lava.lib.dl.netx``; by default the environment variable
            ``SNN_LAVA_PYTHON``, else netx is not run.

    Raises:
        LavaFileError: the file cannot be read.
        ValueError: ``spikes`` does not fit the file.
        RuntimeError: netx was started and failed.
    """
    network = read_netx(path)
    layers = simulate_layers(network, spikes)
    differs = None if net is None else _compare_net(net, layers, spikes)
    interpreter = python or os.environ.get(PYTHON_VARIABLE)
    if not interpreter:
        reason = f"no interpreter with lava-dl is named by {PYTHON_VARIABLE}"
        return VerifyReport(differs, None, False, reason, tuple(layers))
    answer = run_netx(path, spikes, python=interpreter)
    return VerifyReport(differs, _first(layers[-1].name, answer, layers[-1].spikes), True, "", tuple(layers))


def _compare_net(net: nn.Module, layers: list[LayerActivity], spikes: Tensor) -> Divergence | None:
    blocks = [m for m in net.modules() if isinstance(m, BlockContainer)]
    seen: list[Tensor] = []
    hooks = [b.register_forward_hook(lambda _m, _i, out: seen.append(out.detach())) for b in blocks]
    was = [(m, m.training) for m in net.modules()]
    modes = [(m, m.step_mode) for m in net.modules() if hasattr(m, "step_mode")]
    try:
        net.eval()
        set_step_mode(net, "m")
        reset_net(net)
        with torch.no_grad():
            out = net(spikes.float())
        reset_net(net)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in was:
            module.training = training
        for module, mode in modes:
            module.step_mode = mode
    if len(blocks) == len(layers):
        found = (_first(layer.name, own, layer.spikes) for own, layer in zip(seen, layers, strict=True))
        return next((d for d in found if d is not None), None)
    late = len(layers)
    return _first(layers[-1].name, out[: out.shape[0] - late], layers[-1].spikes[late:])


def _first(layer: str, mine: Tensor, other: Tensor) -> Divergence | None:
    if mine.shape != other.shape:
        raise ValueError(
            f"{layer}: spikes of shape {tuple(mine.shape)} against {tuple(other.shape)}: not the same network"
        )
    differing = (mine != 0) != (other != 0)
    if not bool(differing.any()):
        return None
    step, sample, *neuron = torch.nonzero(differing)[0].tolist()
    return Divergence(layer, step, sample, tuple(neuron), int(differing.sum()))


def run_netx(path: str | PathLike[str], spikes: Tensor, *, python: str | None = None, timeout: float = 3600) -> Tensor:
    """Output spikes ``[T, N, ...]``, uint8, of real netx in its fixed-point simulation, in a process of its own.

    Args:
        path: the ``.net`` file.
        spikes: input ``[T, N, ...]`` of zeros and ones.
        python: interpreter that can import lava-dl; by default ``SNN_LAVA_PYTHON``, else this one.
        timeout: seconds; a sample takes about 4.

    Raises:
        LavaNotInstalledError: that interpreter cannot import ``lava.lib.dl.netx``.
        RuntimeError: netx failed; its last words are quoted.
    """
    network: NetxNetwork = read_netx(path)
    python = python or os.environ.get(PYTHON_VARIABLE) or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "spikes.npy"), Path(folder, "out.npy")
        np.save(source, spikes.to(torch.uint8).numpy())
        script = Path(__file__).with_name("_netx_worker.py")
        shape = ",".join(map(str, network.input_shape))
        command = [python, str(script), os.path.abspath(fspath(path)), str(source), str(target), shape]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode == 3:
            raise LavaNotInstalledError(
                f"{python} cannot import lava.lib.dl.netx: {done.stderr.strip()[-300:]}; install lava-nc and lava-dl "
                f"there, or name another interpreter by {PYTHON_VARIABLE}"
            )
        if done.returncode != 0 or not target.exists():
            raise RuntimeError(f"netx failed on {fspath(path)}: {done.stderr.strip()[-2000:]}")
        answer = torch.from_numpy(np.load(target))
    return answer.unflatten(2, network.output_shape) if len(network.output_shape) == 3 else answer

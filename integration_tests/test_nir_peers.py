"""NIR files exchanged with snnTorch, Norse and sinabs, each in an interpreter of its own.

SNN_PEERS_PYTHON names one or several interpreters (separated as in PATH) that have the peers: snnTorch needs a nir with
``v_reset``, sinabs and Norse nir 1.0.4, so no one environment serves all. Without it the tests skip.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from snn_base import reset_net
from snn_convert import from_nir, to_nir
from snn_neurons import CubaLIFNode, IFNode, LIFNode

nir = pytest.importorskip("nir", reason="needs the package nir")
PYTHONS = [p for p in os.environ.get("SNN_PEERS_PYTHON", "").split(os.pathsep) if p]
pytestmark = pytest.mark.skipif(not PYTHONS, reason="SNN_PEERS_PYTHON names no interpreter of the peers")

WORKER = Path(__file__).parent / "workers" / "nir_peer.py"
UNSUITABLE = 77
STEPS, BATCH, FEATURES = 100, 4, 6


def ask(peer: str, mode: str, kind: str, folder: Path) -> np.ndarray:
    """Run the worker in the first interpreter that suits the peer; its output."""
    reasons = []
    for python in PYTHONS:
        command = [python, str(WORKER), peer, mode, kind, str(folder)]
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        if done.returncode != UNSUITABLE:
            assert done.returncode == 0, done.stderr[-3000:]
            return np.load(folder / "y.npy")
        reasons.append(done.stdout.strip())
    pytest.skip("; ".join(reasons))


def run(net: nn.Module, x_seq: torch.Tensor) -> np.ndarray:
    reset_net(net)
    with torch.no_grad():
        return torch.stack([net(x) for x in x_seq]).numpy()


def scaled(net: nn.Module, factor: float) -> nn.Module:
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(factor)
    return net


def input_of(folder: Path, *, positive: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x_seq = torch.randn(STEPS, BATCH, FEATURES, generator=generator) * 2
    x_seq = x_seq.abs().clamp(max=2) / 2 if positive else x_seq
    np.save(folder / "x.npy", x_seq.numpy())
    return x_seq


NEURONS = {
    "lif": lambda: LIFNode(2.5, v_threshold=0.1),
    "lif_whole_input": lambda: LIFNode(2.5, decay_input=False),
    "if": lambda: IFNode(),
    "if_soft": lambda: IFNode(v_reset=None),
    "cuba": lambda: CubaLIFNode(current_decay=0.4, voltage_decay=0.2),
}
AGREE = [
    ("snntorch", "lif"),
    ("snntorch", "lif_whole_input"),
    ("snntorch", "cuba"),
    ("snntorch", "conv"),
    ("norse", "lif"),
    ("norse", "if"),
    ("norse", "cuba"),
    ("norse", "conv"),
    ("sinabs", "if_soft"),
]
DISAGREE = [
    ("norse", "lif_whole_input"),  # Norse takes r for 1
    ("sinabs", "lif"),  # sinabs decays by exp(-1/tau), with tau in steps, and takes r for 1
    ("sinabs", "if"),  # sinabs subtracts the threshold
]


def sent(peer: str, kind: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    torch.manual_seed(0)
    shape: tuple[int, ...] = (FEATURES,)
    if kind == "conv":
        shape = (2, 3, 1)
        net = nn.Sequential(nn.Conv2d(2, 4, 2, stride=(1, 2), padding=1), LIFNode(2.5, v_threshold=0.1))
    else:
        net = nn.Sequential(nn.Linear(FEATURES, 8), NEURONS[kind](), nn.Linear(8, 5), NEURONS[kind]())
    if peer == "sinabs":  # several spikes a step and a lower bound of the membrane have no place in a graph
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(p.abs() / p.shape[1] if p.dim() == 2 else 0 * p)
    else:
        scaled(net, 2.0)
    x_seq = input_of(folder, positive=peer == "sinabs").unflatten(2, shape)
    np.save(folder / "x.npy", x_seq.numpy())
    nir.write(folder / "net.nir", to_nir(net, shape, extensions=kind == "if_soft"))
    ours = run(net, x_seq)
    return ours, ask(peer, "read", kind, folder)


@pytest.mark.parametrize(("peer", "kind"), AGREE)
def test_a_peer_runs_what_we_write(peer: str, kind: str, tmp_path: Path) -> None:
    ours, theirs = sent(peer, kind, tmp_path)
    assert 0.005 < ours.mean() < 0.9
    assert np.array_equal(theirs, ours), f"{(theirs != ours).sum()} of {ours.size} spikes differ"


@pytest.mark.parametrize(("peer", "kind"), DISAGREE)
def test_a_peer_reads_another_model(peer: str, kind: str, tmp_path: Path) -> None:
    ours, theirs = sent(peer, kind, tmp_path)
    assert ours.mean() > 0
    assert not np.array_equal(theirs, ours), "they agree by now: move the pair to AGREE and update docs/nir.md"


WRITTEN = {
    ("snntorch", "lif"): {"dt": 1e-4},
    ("snntorch", "lif_subtract"): {"dt": 1e-4, "soft_reset": True},
    ("snntorch", "cuba"): {"dt": 1e-4},
    ("snntorch", "recurrent"): {"dt": 1e-4},
    ("norse", "if"): {"dt": 1e-3},
    ("norse", "lif"): {"dt": 1e-6},  # Norse writes dt * tau where NIR has tau
    ("sinabs", "if"): {"dt": 1e-3, "soft_reset": True},
}


@pytest.mark.parametrize(("peer", "kind"), WRITTEN)
def test_we_run_what_a_peer_writes(peer: str, kind: str, tmp_path: Path) -> None:
    x_seq = input_of(tmp_path, positive=peer == "sinabs" or kind == "lif_subtract")
    theirs = ask(peer, "write", kind, tmp_path)
    assert 0.005 < theirs.mean() < 0.9
    ours = run(from_nir(tmp_path / "net.nir", **WRITTEN[peer, kind]), x_seq)
    assert np.array_equal(theirs, ours), f"{(theirs != ours).sum()} of {ours.size} spikes differ"


def test_a_tie_shows_the_comparison(tmp_path: Path) -> None:
    """A membrane exactly at its threshold fires here and not in Norse, unless the threshold is written for it."""
    net = nn.Sequential(nn.Linear(FEATURES, 1), IFNode())
    with torch.no_grad():
        net[0].weight.fill_(1 / FEATURES)
        net[0].weight[0, 1:] = 0
        net[0].weight[0, 0] = 0.5
        net[0].bias.zero_()
    x_seq = torch.ones(STEPS, BATCH, FEATURES)
    np.save(tmp_path / "x.npy", x_seq.numpy())
    ours = run(net, x_seq)
    nir.write(tmp_path / "net.nir", to_nir(net, (FEATURES,)))
    assert ours.mean() == 1 / 2
    assert abs(ask("norse", "read", "if", tmp_path).mean() - 1 / 3) < 0.01
    nir.write(tmp_path / "net.nir", to_nir(net, (FEATURES,), exact_threshold=True))
    assert np.array_equal(ask("norse", "read", "if", tmp_path), ours)

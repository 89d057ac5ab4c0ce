"""The distributed example: the same loss on two processes as on one, and on from a checkpoint after a kill."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "train_distributed.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    generator = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    arrays = {name: generator.integers(0, 255, (96, 6, 6), dtype=np.uint8) for name in ("x_train", "x_test")}
    labels = {name: np.arange(96) % 4 for name in ("y_train", "y_test")}
    np.savez(path, **arrays, **labels)
    return path


def run(data, *args, processes=1, code=0):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(EXAMPLE), "--data", str(data), *map(str, args)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=200, check=False)
    except subprocess.TimeoutExpired:
        if "--checkpoints" in args:  # a second try would begin where the first one stopped
            raise
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=200, check=False)
    assert (done.returncode != 0) == bool(code), done.stderr[-3000:]
    return {int(step): float(loss) for step, loss in re.findall(r"step (\d+) loss ([\d.]+)", done.stdout)}


@pytest.fixture(scope="module")
def alone(data):
    return run(data, "--steps", 8)


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_two_processes_have_the_loss_of_one(data, alone, engine):
    assert len(alone) == 8
    assert run(data, "--steps", 8, "--engine", engine, processes=2) == pytest.approx(alone, abs=1e-5)


def test_a_killed_run_goes_on_to_the_same_losses_with_any_number_of_processes(data, alone, tmp_path):
    options = ["--steps", 8, "--checkpoints", tmp_path, "--every", 2]
    first = run(data, *options, "--die-at", 5, processes=2, code=17)
    assert max(first) == 4
    second = run(data, *options, "--engine", "fsdp", "--die-at", 7, processes=2, code=17)
    assert sorted(second) == [4, 5, 6]
    third = run(data, *options)
    assert sorted(third) == [6, 7]
    assert {**first, **second, **third} == pytest.approx(alone, abs=1e-5)


def test_an_undisturbed_run_and_a_killed_one_have_equal_weights(data, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(data, "--steps", 6, "--checkpoints", whole, "--every", 2)
    run(data, "--steps", 6, "--checkpoints", parts, "--every", 2, "--die-at", 5, code=17)
    run(data, "--steps", 6, "--checkpoints", parts, "--every", 2)
    weights = [_load(folder / "step-6") for folder in (whole, parts)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def _load(folder):
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    target = folder.with_suffix(".pt")
    dcp_to_torch_save(folder, target)
    return torch.load(target)["net"]

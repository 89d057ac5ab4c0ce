"""The examples of local learning: they learn, resume to the same result, and refuse wrong files in one line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture
def stdp(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("stdp_mnist")


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    """A file of ten classes of 10x10 images, a bright row each."""
    rng = np.random.default_rng(0)

    def make(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(10, size=n)
        images = rng.integers(0, 60, size=(n, 10, 10))
        images[np.arange(n), labels] = 255
        return images.astype(np.uint8), labels.astype(np.uint8)

    (x, y), (x_test, y_test) = make(400), make(100)
    path = tmp_path / "bars.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    return path


def test_unsupervised_digits_learn_and_resume_bit_for_bit(stdp: ModuleType, bars: Path, tmp_path: Path) -> None:
    options = ["--data", str(bars), "--neurons", "30", "--epochs", "2", "--batch", "8"]
    assert stdp.main([*options, "--output", str(tmp_path / "whole")]) > 0.9
    whole = stdp.Run.load(tmp_path / "whole" / "checkpoint.pt")

    images = stdp.load_digits(str(bars)).x_train.squeeze(1)
    half = stdp.Run.start(stdp.configuration(stdp.options(options), images))
    stdp.train(half, images, checkpoint=tmp_path / "half.pt", until=504)
    assert int(half.net.samples) == 504
    stdp.main([*options, "--resume", str(tmp_path / "half.pt"), "--output", str(tmp_path / "resumed")])
    resumed = stdp.Run.load(tmp_path / "resumed" / "checkpoint.pt")
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, resumed.net.state_dict()[name]), name


@pytest.mark.parametrize("option", ["--data", "--resume"])
def test_a_wrong_path_is_one_line_and_exit_code_2(
    stdp: ModuleType, bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("no data")
    for path in (tmp_path / "absent", broken):
        with pytest.raises(SystemExit) as stop:
            stdp.main(["--data", str(bars), "--output", str(tmp_path / "out"), option, str(path)])
        assert stop.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_bandit_learns_and_learns_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    bandit = importlib.import_module("reward_bandit")
    reward, weight = bandit.learn(2000, 0)
    assert reward[800:1000].mean() > 0.75  # chance is 0.3, the best possible 0.9
    assert reward[1000:1050].mean() < 0.4
    assert reward[1800:].mean() > 0.75
    assert weight.shape == (4, 4)


def teardown_module() -> None:
    for name in ("stdp_mnist", "reward_bandit", "digits"):
        sys.modules.pop(name, None)

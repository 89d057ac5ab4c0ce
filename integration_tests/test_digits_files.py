"""The examples read digits from ``.npz`` and IDX files, and say in one line what is wrong with one."""

import gzip
import runpy
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(scope="module")
def load_digits() -> Callable[[str], Any]:
    return runpy.run_path(str(EXAMPLES / "digits.py"))["load_digits"]  # type: ignore[no-any-return]


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {}
    for part, count in (("train", 7), ("test", 3)):
        made[f"x_{part}"] = random.integers(0, 256, (count, 6, 5), dtype=np.uint8)
        made[f"y_{part}"] = random.integers(0, 10, count, dtype=np.uint8)
    return made


def as_idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_npz_and_idx_files_hold_the_same_digits(
    load_digits: Callable[[str], Any], arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / "digits.npz", **arrays)
    folder = tmp_path / "idx"
    folder.mkdir()
    for stem, array in zip(STEMS, arrays.values(), strict=True):
        compress = stem.startswith("train")  # half of the files with .gz, as both are found in the world
        data = gzip.compress(as_idx(array)) if compress else as_idx(array)
        (folder / f"{stem}{'.gz' if compress else ''}").write_bytes(data)
    for path in (tmp_path / "digits.npz", folder):
        digits = load_digits(str(path))
        assert digits.x_train.shape == (7, 1, 6, 5)
        np.testing.assert_allclose(digits.x_test[:, 0].numpy(), arrays["x_test"] / 255, rtol=1e-6)
        assert digits.y_train.tolist() == arrays["y_train"].tolist()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / STEMS[2]).unlink(), f"there is no {STEMS[2]}[.gz]"),
        (lambda folder: (folder / STEMS[1]).write_bytes(b"\0\0\x08\x01\0\0\0\x07\1\2"), f"{STEMS[1]} is cut short"),
        (lambda folder: (folder / STEMS[0]).write_bytes(b"PNG?" * 9), f"{STEMS[0]} is no IDX file of bytes"),
    ],
    ids=["missing", "short", "foreign"],
)
def test_a_broken_idx_file_is_named(
    damage: Callable[[Path], Any],
    words: str,
    load_digits: Callable[[str], Any],
    arrays: dict[str, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for stem, array in zip(STEMS, arrays.values(), strict=True):
        (tmp_path / stem).write_bytes(as_idx(array))
    damage(tmp_path)
    with pytest.raises(SystemExit) as ended:
        load_digits(str(tmp_path))
    message = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("absent", "words"),
    [("matplotlib", "pip install snn-base[plot]"), ("sklearn.datasets", "pip install scikit-learn")],
)
def test_a_missing_extra_is_named(
    absent: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if absent != "matplotlib":
        pytest.importorskip("matplotlib", reason="the quickstart draws with matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "argv", ["quickstart.py"])
    monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.delitem(sys.modules, "chapters", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / "quickstart.py"), run_name="__main__")
    message = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in message
    assert message.count("\n") == 1

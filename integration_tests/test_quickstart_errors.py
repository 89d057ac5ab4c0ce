"""The quickstart ends with one line and exit code 2 where it is given something wrong."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "examples" / "quickstart.py"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere.npz"], "nowhere.npz does not exist"),
        (["--data", "broken.npz"], "broken.npz cannot be read as a set of digits"),
        (["--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["--output", "broken.npz"], "is a file; give a folder"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib", reason="the quickstart draws with matplotlib")
    pytest.importorskip("sklearn", reason="the quickstart's digits are scikit-learn's")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "argv", ["quickstart.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    message = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in message
    assert message.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["broken.npz"]

"""Settings of every test run: reproducible property tests, and the Python snippets of Markdown files as tests."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Examples are programs: the session `examples` runs them, and `figures` what draws with them.
collect_ignore_glob = ["docs/examples/*.py", "docs/figures/*.py"]

# Derandomized: a failure seen in one run is seen in the next. No deadline: the first call of a kernel may compile it.
settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("default"), max_examples=5)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=500, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Figures are drawn without a screen.
os.environ.setdefault("MPLBACKEND", "agg")

FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Snippets(pytest.File):
    """A Markdown file; its ```python blocks run top to bottom as one program, in an empty folder."""

    def collect(self) -> Iterable[pytest.Item]:
        text = self.path.read_text(encoding="utf-8")
        blocks = [(text.count("\n", 0, found.start(1)), found[1]) for found in FENCE.finditer(text)]
        if blocks:
            yield SnippetTest.from_parent(self, name="snippets", blocks=blocks)


class SnippetTest(pytest.Item):
    """The program that the blocks of one file make; a failure shows the line in that file."""

    def __init__(self, *, blocks: list[tuple[int, str]], **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.blocks = blocks

    def runtest(self) -> None:
        namespace: dict[str, object] = {"__name__": "__main__"}
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            for line, source in self.blocks:
                exec(compile("\n" * line + source, str(self.path), "exec"), namespace)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self.blocks[0][0], f"snippets of {self.path.name}"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect Markdown files beside the test modules."""
    return Snippets.from_parent(parent, path=file_path) if file_path.suffix == ".md" else None

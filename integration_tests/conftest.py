"""What the integration tests share: the packages of this repository, and a clean interpreter."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# A package of its own, with tests that run where only its requirements are installed.
collect_ignore = ["downstream_neuron"]

PROJECTS = {
    path.parent.name: tomllib.loads(path.read_text())["project"]
    for path in sorted(Path(__file__).parents[1].glob("packages/*/pyproject.toml"))
}


@pytest.fixture
def projects() -> dict[str, Any]:
    """The [project] tables of all packages, by name."""
    return PROJECTS


@pytest.fixture
def run_python() -> Callable[[str], str]:
    """Run a program in a new interpreter and return what it prints."""

    def run(program: str) -> str:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `package` once for every package."""
    if "package" in metafunc.fixturenames:
        metafunc.parametrize("package", PROJECTS)

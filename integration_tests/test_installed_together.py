"""The wheels, installed together in one environment."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_installed_from_a_wheel(package: str) -> None:
    module = importlib.import_module(package.replace("-", "_"))
    assert "site-packages" in Path(str(module.__file__)).parts
    files = [str(path) for path in importlib.metadata.files(package) or []]
    assert any(path.endswith("py.typed") for path in files)
    assert not any(path.endswith(".pth") for path in files)


def test_version_agrees_with_the_metadata(package: str) -> None:
    module = importlib.import_module(package.replace("-", "_"))
    assert module.__version__ == importlib.metadata.version(package)


def test_public_names_exist_and_are_sorted_out(package: str) -> None:
    module = importlib.import_module(package.replace("-", "_"))
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert missing == []
    assert len(set(module.__all__)) == len(module.__all__)


def test_import_loads_declared_siblings_only(
    package: str, projects: dict[str, Any], run_python: Callable[[str], str]
) -> None:
    name = package.replace("-", "_")
    loaded = run_python(
        f"import sys, {name}; print(*sorted({{m.partition('.')[0] for m in sys.modules if m.startswith('snn_')}}))"
    ).split()
    declared = {re.split(r"[^\w-]", requirement)[0] for requirement in projects[package]["dependencies"]}
    assert {module.replace("_", "-") for module in loaded} <= {package} | declared


def test_import_of_base_loads_nothing_beyond_torch(run_python: Callable[[str], str]) -> None:
    program = (
        "import sys, torch; before = set(sys.modules); import snn_base; "
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    assert run_python(program).split() == ["snn_base"]

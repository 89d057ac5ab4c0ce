"""Check what every package declares: versions, changelogs, licences, dependencies, layout.

Prints one line per fault and exits with 1 when there are any.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
FOLDERS = {path.parent.name: path.parent for path in sorted(ROOT.glob("packages/*/pyproject.toml"))}
TORCH_ONLY = {"snn-base", "snn-neurons", "snn-layers", "snn-learning"}
RELEASE = re.compile(r"^## \[(?P<version>[^\]]+)\] - (?P<date>\d{4}-\d{2}-\d{2}|unreleased)$")


def version_of(package: str) -> str:
    """Version written in a package's `__about__.py`."""
    about = FOLDERS[package] / "src" / package.replace("-", "_") / "__about__.py"
    found = re.search(r'^__version__ = "([^"]+)"$', about.read_text(), re.MULTILINE)
    return found[1] if found else ""


def changelog_faults(package: str) -> Iterator[str]:
    """The changelog begins with [Unreleased]; releases follow, newest first, the newest being the version."""
    lines = (FOLDERS[package] / "CHANGELOG.md").read_text().splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    if not headings or headings[0] != "## [Unreleased]":
        yield "CHANGELOG.md: the first section must be '## [Unreleased]'"
    releases = [RELEASE.match(heading) for heading in headings[1:]]
    for heading, release in zip(headings[1:], releases, strict=True):
        if release is None:
            yield f"CHANGELOG.md: {heading!r} is not '## [1.2.3] - 2026-01-31'"
    versions = [release["version"] for release in releases if release]
    if versions[:1] != [version_of(package)]:
        yield f"CHANGELOG.md: newest section is {versions[:1]}, __about__.py says {version_of(package)!r}"
    if len(set(versions)) < len(versions) or versions != sorted(versions, key=Version, reverse=True):
        yield f"CHANGELOG.md: versions must differ and descend, they are {versions}"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for line in lines:
        if line.startswith("### ") and line[4:] not in kinds:
            yield f"CHANGELOG.md: {line!r} is none of {', '.join(sorted(kinds))}"


def dependency_faults(package: str, project: dict[str, object]) -> Iterator[str]:
    """Siblings have a floor that exists and no cap; base, neurons, layers and learning need torch alone."""
    for requirement in map(Requirement, project["dependencies"]):  # type: ignore[call-overload]
        floors = [spec for spec in requirement.specifier if spec.operator == ">="]
        if len(floors) != 1 or len(requirement.specifier) != 1:
            yield f"pyproject.toml: {requirement} must be one floor (>=) without a cap"
        elif requirement.name in FOLDERS and Version(version_of(requirement.name)) < Version(floors[0].version):
            yield f"pyproject.toml: {requirement} is above the present version {version_of(requirement.name)}"
        if package in TORCH_ONLY and requirement.name != "torch" and requirement.name not in FOLDERS:
            yield f"pyproject.toml: {requirement} must be an extra, torch is the only requirement of {package}"


def faults(package: str) -> Iterator[str]:
    """All faults of one package."""
    folder, module = FOLDERS[package], package.replace("-", "_")
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    if project["name"] != package:
        yield f"pyproject.toml: name is {project['name']!r}, the folder's is {package!r}"
    if project["requires-python"] != ">=3.11":
        yield f"pyproject.toml: requires-python is {project['requires-python']!r}, not '>=3.11'"
    sources = (f"src/{module}/__init__.py", f"src/{module}/py.typed")
    for path in ("README.md", "CHANGELOG.md", "LICENSE", "tests", *sources):
        if not (folder / path).exists():
            yield f"{path} is missing"
    try:
        Version(version_of(package))
    except InvalidVersion:
        yield f"__about__.py: version {version_of(package)!r} is not one of PEP 440"
        return
    if (folder / "LICENSE").read_bytes() != (ROOT / "LICENSE").read_bytes():
        yield "LICENSE differs from the repository's"
    if module not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]:
        yield "not among the root_packages of import-linter in the root pyproject.toml"
    yield from changelog_faults(package)
    yield from dependency_faults(package, project)


def main() -> int:
    """Print the faults of all packages; return the exit code."""
    found = [f"packages/{package}: {fault}" for package in FOLDERS for fault in faults(package)]
    print("\n".join(found) or f"{len(FOLDERS)} packages: versions, changelogs, licences and dependencies agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Sessions that check, build and run the packages: `nox -l` lists them, plain `nox` runs what CI runs.

Arguments after `--` go to the tool of the session: `nox -s tests -- packages/snn-base -k reset`.
Packages are found by folder: whatever lies in packages/ takes part.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.error_on_external_run = True

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
PROJECTS = {
    path.parent.name: tomllib.loads(path.read_text())["project"]
    for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
}
# One thread per process: the tensors of tests are small, and pytest-xdist fills the cores.
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
WORKERS = str(min(os.cpu_count() or 1, 4))


def _pip_find_links() -> str:
    """Extra wheel locations that pip is configured with; uv does not read pip's configuration."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
    configured = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return ",".join((os.environ.get("PIP_FIND_LINKS") or configured).split())


# Without compiled modules every process would compile torch's sources anew, several seconds each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "UV_FIND_LINKS" not in os.environ and (links := _pip_find_links()):
    os.environ["UV_FIND_LINKS"] = links


def group(name: str) -> list[str]:
    """Requirements of a dependency group of the root pyproject.toml."""
    return list(nox.project.dependency_groups(nox.project.load_toml(ROOT / "pyproject.toml"), name))


def requirements(package: str, *, extras: bool = False) -> list[str]:
    """Third-party requirements of a package and of the siblings it depends on."""
    project = PROJECTS[package]
    declared = list(project["dependencies"])
    if extras:
        declared += [r for extra in project.get("optional-dependencies", {}).values() for r in extra]
    found: dict[str, None] = {}
    for requirement in declared:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        found.update(dict.fromkeys(requirements(name, extras=extras) if name in PROJECTS else [requirement]))
    return list(found)


def install(session: nox.Session, *what: str) -> None:
    """Install under constraints.txt, which keeps torch at one build instead of several gigabytes of another."""
    session.install("-c", "constraints.txt", *what)


def install_editable(session: nox.Session, *groups: str, extras: bool = True) -> None:
    """Install every package editable, with its extras, and dependency groups."""
    third_party = {r: None for package in PROJECTS for r in requirements(package, extras=extras)}
    install(session, *third_party, *(r for name in groups for r in group(name)))
    session.install("--no-deps", *(arg for package in PROJECTS for arg in ("-e", f"packages/{package}")))


def install_wheels(session: nox.Session, *packages: str) -> None:
    """Install third-party requirements, then the project's own wheels from dist/ and from nowhere else."""
    install(session, *{r: None for package in packages for r in requirements(package)})
    # A reused environment keeps an older build of the same version unless told to reinstall.
    fresh = [arg for package in PROJECTS for arg in ("--reinstall-package", package)]
    session.install("--no-index", "--find-links", str(DIST), *fresh, *packages, env={"UV_FIND_LINKS": ""})


def build(session: nox.Session, package: str, output: Path, *formats: str) -> None:
    """Build distributions of a package with the session's own hatchling."""
    session.run("pyproject-build", "--no-isolation", *formats, "-o", str(output), f"packages/{package}", silent=True)


def pytest(session: nox.Session, *args: str | Path, **env: str) -> None:
    """Run pytest on all cores, one thread each."""
    session.run("pytest", "-n", WORKERS, "--timeout", "600", *map(str, args), env=THREADS | env)


@nox.session
def lint(session: nox.Session) -> None:
    """Style (ruff), direction of imports (import-linter), and what packages declare."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    sources = os.pathsep.join(str(ROOT / "packages" / package / "src") for package in PROJECTS)
    session.run("lint-imports", env={"PYTHONPATH": sources})
    session.run("python", "tools/check_packages.py")


@nox.session
def types(session: nox.Session) -> None:
    """Types of all packages (mypy --strict)."""
    install_editable(session, "types")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Unit tests, doctests and the snippets of the guides; packages editable."""
    install_editable(session, "test", "examples", "interop")
    parts = ("src", "tests", "README.md")
    everything = [path for package in PROJECTS for part in parts if Path(path := f"packages/{package}/{part}").exists()]
    pytest(session, "--doctest-modules", "-m", "not kernels", *(session.posargs or [*everything, "README.md", "docs"]))


@nox.session
def kernels(session: nox.Session) -> None:
    """Triton kernels: on the CUDA device where there is one, else in Triton's interpreter."""
    install_editable(session, "test")
    cuda = session.run("python", "-c", "import torch; print(torch.cuda.is_available())", silent=True) or ""
    env = {} if "True" in cuda else {"TRITON_INTERPRET": "1"}
    pytest(session, "-m", "kernels", *(session.posargs or ["packages"]), **env)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build the wheel of every package into dist/."""
    install(session, *group("build"))
    shutil.rmtree(DIST, ignore_errors=True)
    for package in PROJECTS:
        build(session, package, DIST, "--wheel")


@nox.session(requires=["wheels"])
def integration(session: nox.Session) -> None:
    """All wheels together in a clean environment: what only the packages together can show."""
    install_wheels(session, *PROJECTS)
    install(session, *group("test"), *group("interop"), "mypy")
    pytest(session, *(session.posargs or ["integration_tests"]))
    with session.chdir("integration_tests/typing_project"):  # what the packages' types are to a strict user
        session.run("mypy", "--config-file", "mypy.ini", ".")


@nox.session(requires=["wheels"])
@nox.parametrize("package", [nox.param(package, id=package) for package in PROJECTS])
def alone(session: nox.Session, package: str) -> None:
    """One wheel with its declared dependencies: every module imports, and the package's tests pass."""
    install_wheels(session, package)
    session.run("python", "tools/import_modules.py", package)
    install(session, *group("test"))
    pytest(session, "-m", "not slow and not kernels", f"packages/{package}/tests", HYPOTHESIS_PROFILE="quick")


@nox.session(requires=["wheels"])
def downstream(session: nox.Session) -> None:
    """A package outside this repository that needs snn-neurons alone."""
    install_wheels(session, "snn-neurons")
    install(session, *group("build"), "pytest")
    session.install("--no-deps", "--no-build-isolation", "integration_tests/downstream_neuron")
    session.run("pytest", "integration_tests/downstream_neuron", env=THREADS)


@nox.session
def examples(session: nox.Session) -> None:
    """Every example of docs/examples in its quick mode; the quickstart has a session of its own."""
    install_editable(session, "examples")
    scripts = sorted((ROOT / "docs" / "examples").glob("*.py"))
    with session.chdir(session.create_tmp()):
        for script in scripts:
            if script.name != "quickstart.py":
                session.run("python", str(script), env={"SNN_EXAMPLE_QUICK": "1", "MPLBACKEND": "agg"})


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation site, built strictly into site/ (`nox -s docs -- serve` to read it while writing)."""
    install(session, *group("docs"))
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]), env={"NO_MKDOCS_2_WARNING": "1"})
    if not session.posargs:
        session.run("python", "tools/check_api_pages.py", "site")


@nox.session
def quickstart(session: nox.Session) -> None:
    """The main job: train, convert, learn locally and export on handwritten digits; quickstart_output/report.html."""
    install_editable(session, "examples", extras=False)
    session.run("python", "docs/examples/quickstart.py", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Benchmarks of a package (`-- snn-neurons [options]`), of one script (`-- path [options]`), or of all packages."""
    install_editable(session, "test", "examples")
    first, *options = session.posargs or [None]
    if first in PROJECTS or first is None:
        folders = [ROOT / "packages" / first] if first else sorted(ROOT.glob("packages/*"))
        scripts = [script for folder in folders for script in benchmark_scripts(folder)]
    else:
        scripts = [Path(first)]
    for script in scripts:
        if (script.parent / "peers.txt").exists():  # libraries to compare with; their own pins would replace torch
            install(session, "-r", str(script.parent / "peers-deps.txt"))
            session.install("--no-deps", "-r", str(script.parent / "peers.txt"))
        session.run("python", str(script), *options)


def benchmark_scripts(folder: Path) -> list[Path]:
    """The `run.py` of a package's benchmarks where there is one, else its `bench_*.py`, which need no arguments."""
    run = folder / "benchmarks" / "run.py"
    return [run] if run.exists() else sorted(folder.glob("benchmarks/bench_*.py"))


@nox.session(default=False, requires=["wheels"])
def floors(session: nox.Session) -> None:
    """All unit tests with the lowest versions that the packages declare."""
    lowest = {r: None for package in PROJECTS for r in requirements(package, extras=True)}
    session.install("--resolution", "lowest-direct", *lowest)
    session.install("--no-index", "--find-links", str(DIST), *PROJECTS, env={"UV_FIND_LINKS": ""})
    session.install(*group("test"), *group("examples"))
    pytest(session, "-m", "not slow and not kernels", *(session.posargs or ["packages"]))


@nox.session(default=False, requires=["wheels"])
def compatibility(session: nox.Session) -> None:
    """From release tags: each package with the oldest siblings it allows, and its last release with today's."""
    tagged = {package: released(package) for package in PROJECTS}
    if not any(tagged.values()):
        session.skip("no release is tagged yet (git tag PACKAGE-vVERSION)")
    install(session, *{r: None for package in PROJECTS for r in requirements(package)}, *group("test"), *group("build"))
    output = Path(session.create_tmp()).absolute()
    for package in session.posargs or PROJECTS:
        siblings = {name: oldest(floor, tagged[name]) for name, floor in floors_of(package).items()}
        missing = [name for name, version in siblings.items() if version is None]
        if missing:
            session.warn(f"{package} with its oldest siblings: skipped, no tagged release of {', '.join(missing)}")
        elif siblings:
            wheels = [released_wheel(session, name, str(version), output) for name, version in siblings.items()]
            together(session, ROOT / "packages" / package, [wheel_of(package), *wheels])
        if package == "snn-base" or not tagged[package]:
            session.log(f"the last release of {package} with today's siblings: skipped, there is none")
            continue
        old = released_wheel(session, package, tagged[package][-1], output)
        today = [wheel_of(name) for name in closure(package) if name != package]
        together(session, output / f"{package}-v{tagged[package][-1]}" / "packages" / package, [old, *today])


def released(package: str) -> list[str]:
    """Versions of a package that are tagged, ascending."""
    listed = subprocess.run(
        ["git", "tag", "--list", f"{package}-v*"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    versions = [tag.removeprefix(f"{package}-v") for tag in listed.split()]
    return sorted(versions, key=lambda version: [int(number) for number in re.findall(r"\d+", version)])


def closure(package: str) -> list[str]:
    """A package and the siblings that it needs, directly or not."""
    found = {package: None}
    for requirement in PROJECTS[package]["dependencies"]:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if name in PROJECTS:
            found.update(dict.fromkeys(closure(name)))
    return list(found)


def floors_of(package: str) -> dict[str, str]:
    """Lowest version of each sibling that a package, or a sibling of it, declares; the highest of those."""
    floors: dict[str, str] = {}
    for name in closure(package):
        for requirement in PROJECTS[name]["dependencies"]:
            sibling, _, floor = requirement.partition(">=")
            if sibling in PROJECTS:
                floors[sibling] = max(floors.get(sibling, "0"), floor, key=lambda v: [int(n) for n in v.split(".")])
    return floors


def oldest(floor: str, versions: list[str]) -> str | None:
    """The first released version that is not below the floor."""
    lowest = [int(number) for number in floor.split(".")]
    return next((v for v in versions if [int(number) for number in re.findall(r"\d+", v)] >= lowest), None)


def wheel_of(package: str) -> Path:
    """Today's wheel, as the session `wheels` left it."""
    return next(DIST.glob(f"{package.replace('-', '_')}-*.whl"))


def released_wheel(session: nox.Session, package: str, version: str, output: Path) -> Path:
    """Wheel of a tagged release, built from its tree, which stays beside it."""
    tree = output / f"{package}-v{version}"
    wheels = tree / "dist"
    if not wheels.exists():
        tree.mkdir(parents=True, exist_ok=True)
        archive = output / f"{tree.name}.tar"
        session.run("git", "archive", "-o", str(archive), tree.name, external=True)
        shutil.unpack_archive(archive, tree)
        build_options = ("--no-isolation", "--wheel", "-o", str(wheels))
        session.run("pyproject-build", *build_options, str(tree / "packages" / package), silent=True)
    return next(wheels.glob("*.whl"))


def together(session: nox.Session, source: Path, wheels: list[Path]) -> None:
    """Install these wheels and no other of the project's, and run the tests of the package in `source`."""
    session.log(f"tests of {source.relative_to(ROOT)} with {', '.join(wheel.name for wheel in wheels)}")
    session.run("uv", "pip", "uninstall", "--quiet", *PROJECTS, external=True)
    session.install("--no-deps", "--no-index", *map(str, wheels), env={"UV_FIND_LINKS": ""})
    pytest(session, "-m", "not slow and not kernels", str(source / "tests"), HYPOTHESIS_PROFILE="quick")


@nox.session(default=False)
def figures(session: nox.Session) -> None:
    """Draw the figures of the tutorials again (`-- --data mnist.npz` for those of unsupervised learning)."""
    install_editable(session, "examples")
    session.run("python", "docs/figures/draw.py", *session.posargs)


@nox.session(default=False)
def lava(session: nox.Session) -> None:
    """Exported files against a real lava-dl, in the interpreter that SNN_LAVA_PYTHON names; skips without."""
    install_editable(session, "test")
    pytest(session, *(session.posargs or ["packages/snn-lava-bridge/tests/test_real_lava.py"]))


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Prepare a release: `nox -s release -- PACKAGE major|minor|patch|current` (docs/releasing.md)."""
    if len(session.posargs) != 2 or session.posargs[0] not in PROJECTS:
        session.error(f"usage: nox -s release -- PACKAGE major|minor|patch|current; packages: {', '.join(PROJECTS)}")
    package = session.posargs[0]
    install(session, *group("release"))
    session.run("python", "tools/release.py", *session.posargs)
    session.run("python", "tools/check_packages.py")
    output = Path(session.create_tmp()) / "dist"
    shutil.rmtree(output, ignore_errors=True)
    for sibling in PROJECTS:
        formats = ["--sdist", "--wheel"] if sibling == package else ["--wheel"]
        build(session, sibling, output, *formats)
    files = [path for path in sorted(output.iterdir()) if path.name.startswith(package.replace("-", "_") + "-")]
    session.run("twine", "check", "--strict", *map(str, files))
    for file in files:
        session.log(f"installing {file.name} in a clean environment")
        clean = output / "clean"
        python = str(clean / ("Scripts" if os.name == "nt" else "bin") / "python")
        session.run("uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(clean), external=True)
        into = ["uv", "pip", "install", "--quiet", "--python", python]
        session.run(*into, "-c", "constraints.txt", *requirements(package), "hatchling", external=True)
        own = ["--no-index", "--find-links", str(output), "--no-build-isolation", str(file)]
        session.run(*into, *own, external=True, env={"UV_FIND_LINKS": ""})
        session.run(python, "tools/import_modules.py", package, external=True)
    session.log(f"ready: commit, then tag as docs/releasing.md says; files in {output}")

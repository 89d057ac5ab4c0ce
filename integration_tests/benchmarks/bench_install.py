"""What installing a package adds to an environment with torch, and what importing it adds to importing torch.

    python integration_tests/benchmarks/bench_install.py --wheels dist --requirements snn-base spikingjelly==2.0.0

Each requirement gets an environment of its own, made by uv. Size is that of all files that came after torch and what
torch brings; import time is the median of fresh processes that have imported torch before. A requirement may name
what to import, ``package:module``, and what to leave out of the import, ``package:module:blocked``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

IMPORT = """
import sys, time
for name in {blocked!r}:
    sys.modules[name] = None
import torch
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


def output(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(str(part) for part in command)}:\n{done.stderr[-2000:]}")
    return done.stdout


def size(environment: Path) -> int:
    """Bytes of all installed files but the compiled ones, which appear on use."""
    files = (path for path in environment.rglob("*") if path.suffix != ".pyc" and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.is_file())


def packages(python: Path) -> set[str]:
    return {entry["name"] for entry in json.loads(output("uv", "pip", "list", "--format", "json", "--python", python))}


def measure(requirement: str, torch: str, wheels: Path | None, processes: int) -> dict[str, object]:
    wanted, *rest = requirement.split(":")
    module = rest[0] if rest else wanted.partition("==")[0].replace("-", "_")
    blocked = rest[1].split(",") if len(rest) > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder, "env")
        output("uv", "venv", "--quiet", "--python", sys.executable, environment)
        python = environment / "bin" / "python"
        install = ("uv", "pip", "install", "--quiet", "--python", python)
        output(*install, torch)
        before, bytes_before = packages(python), size(environment)
        output(*install, *(["--find-links", str(wheels)] if wheels else []), torch, wanted)
        new = packages(python) - before
        added = size(environment) - bytes_before
        program = IMPORT.format(module=module, blocked=blocked)
        times = [float(output(python, "-c", program).split()[-1]) for _ in range(processes + 1)][1:]
    return {
        "requirement": wanted,
        "megabytes": added / 1e6,
        "packages": sorted(new),
        "import_seconds": statistics.median(times),
        "blocked": blocked,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requirements", nargs="+", required=True, help="what to measure, each in an environment")
    parser.add_argument("--torch", default="torch==2.13.0")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels (`nox -s wheels` fills dist)")
    parser.add_argument("--processes", type=int, default=9)
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    rows = []
    print("| package | MB beyond torch | packages beyond torch | import beyond torch, ms |")
    print("| --- | --- | --- | --- |")
    for requirement in args.requirements:
        try:
            row = measure(requirement, args.torch, args.wheels, args.processes)
        except RuntimeError as error:
            print(f"{requirement}: {error}", file=sys.stderr)
            rows.append({"requirement": requirement, "error": str(error)})
            continue
        rows.append(row)
        cells = (
            row["requirement"],
            f"{row['megabytes']:.1f}",
            len(row["packages"]),
            f"{1e3 * row['import_seconds']:.0f}",
        )
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

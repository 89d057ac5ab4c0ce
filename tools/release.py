"""Set a package's version and date its changelog: `python tools/release.py snn-base minor`.

`current` releases the version that stands in `__about__.py`, whose changelog section is still undated.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ("major", "minor", "patch")


def bumped(version: str, part: str) -> str:
    """The version that follows: bumped("0.3.1", "minor") is "0.4.0"."""
    numbers = [int(number) for number in version.split(".")]
    place = PARTS.index(part)
    return ".".join(map(str, [*numbers[:place], numbers[place] + 1, *[0] * (2 - place)]))


def main() -> int:
    """Rewrite `__about__.py` and `CHANGELOG.md`; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=sorted(path.name for path in (ROOT / "packages").iterdir()))
    parser.add_argument("part", choices=[*PARTS, "current"])
    args = parser.parse_args()
    folder = ROOT / "packages" / args.package
    about = folder / "src" / args.package.replace("-", "_") / "__about__.py"
    changelog = folder / "CHANGELOG.md"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    source, notes = about.read_text(), changelog.read_text()
    found = re.search(r'^__version__ = "(\d+\.\d+\.\d+)"$', source, re.MULTILINE)
    if found is None:
        parser.error(f"{about} holds no version of the form 1.2.3")
    version = found[1]
    undated = f"## [{version}] - unreleased"
    if args.part == "current":
        if undated not in notes:
            parser.error(f"{version} is released already: give one of {', '.join(PARTS)}")
        new = version
        notes = notes.replace(undated, f"## [{version}] - {today}")
    else:
        if undated in notes:
            parser.error(f"{version} is not released yet: release it with 'current'")
        pending = notes.partition("## [Unreleased]\n")[2].partition("\n## [")[0]
        if not pending.strip():
            parser.error(f"{changelog} says nothing under [Unreleased]: write what changed first")
        new = bumped(version, args.part)
        notes = notes.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [{new}] - {today}\n", 1)
    about.write_text(source.replace(found[0], f'__version__ = "{new}"'))
    changelog.write_text(notes)
    print(f"{args.package} {new}: tag {args.package}-v{new}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

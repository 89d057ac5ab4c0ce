"""Check that the built site's API pages show every public name: `python tools/check_api_pages.py site`.

A name is shown where it has an entry of its own or stands as code in the page's text. Prints the missing ones and exits
with 1 when there are any.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

PACKAGES = sorted(Path(__file__).parents[1].glob("packages/*/src/*/__init__.py"))


def public(source: Path) -> set[str]:
    """Names listed in the `__all__` of a module and of the stubs beside it."""
    names: set[str] = set()
    for path in (source, *source.parent.glob("*.pyi")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
            ):
                names.update(ast.literal_eval(node.value))
    return names - {"__version__"}


def shown(page: Path) -> set[str]:
    """Last parts of the entries of a page, and what stands there as code."""
    text = page.read_text()
    entries = re.findall(r'id="[\w.]*?(\w+)"', text)
    return {*entries, *re.findall(r"<code>(\w+)</code>", text)}


def main(site: Path) -> int:
    """Compare all packages with their pages; return the exit code."""
    missing = {
        source.parent.name: sorted(public(source) - shown(site / "api" / source.parent.name / "index.html"))
        for source in PACKAGES
    }
    for package, names in missing.items():
        if names:
            print(f"docs/api/{package}.md does not show {', '.join(names)}")
    if not any(missing.values()):
        print(f"{sum(len(public(source)) for source in PACKAGES)} public names are on the API pages")
    return 1 if any(missing.values()) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Import every module of an installed package: `python tools/import_modules.py snn-base`.

Run where only the package and its declared dependencies are installed, this shows that nothing undeclared is
imported. A module may need one of the package's extras; it then fails by the name of that extra's requirement.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from importlib.metadata import requires
from pathlib import Path


def main(distribution: str) -> int:
    """Import the package strictly and its submodules but for those that need an extra; return the exit code."""
    optional = {re.split(r"[^\w.-]", r, maxsplit=1)[0] for r in requires(distribution) or [] if "extra ==" in r}
    package = importlib.import_module(distribution.replace("-", "_"))
    location = Path(str(package.__file__))
    if "site-packages" not in location.parts:
        print(f"{distribution} is imported from {location}, not from an installed wheel", file=sys.stderr)
        return 1
    imported = 1
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.endswith(".__main__"):
            continue
        try:
            importlib.import_module(module.name)
            imported += 1
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in optional:
                raise
            print(f"{module.name} needs an extra: {error.name}")
    print(f"{distribution}: {imported} modules import with the declared dependencies")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

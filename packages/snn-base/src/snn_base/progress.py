"""One small hook for the progress of long work."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], *, total: int | None = None, desc: str = "") -> Iterator[T]:
    """Yield ``items`` under a progress bar, given tqdm and a terminal on the error stream; else silently.

    Args:
        items: what the loop runs over.
        total: number of items, where ``items`` has no length.
        desc: words before the bar.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield from items
        return
    yield from tqdm(items, total=total, desc=desc, leave=False)

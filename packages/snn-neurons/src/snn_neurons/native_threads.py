"""The threads of native kernels: those PyTorch has already, since a second pool would fight with them for the cores."""

import ctypes
import os
import re
from pathlib import Path

import torch

_OPENMP = re.compile(r"lib(gomp|iomp5|omp)\b[^/]*$")
_region: int | None = None


def parallel_region() -> int:
    """The address of ``GOMP_parallel`` in the OpenMP library that PyTorch runs on, or 0: then kernels use one thread.

    GNU's, LLVM's and Intel's libraries all have this entry. A forked process gets 0: the library's threads did not come
    along, and it would wait for them.
    """
    global _region
    if _region is None:
        _region = _find()
    return _region


def _forked() -> None:
    global _region
    _region = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _find() -> int:
    for path in sorted(_loaded(), key=lambda path: "/torch/" not in path):
        try:
            entry = ctypes.CDLL(path).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(entry, ctypes.c_void_p).value or 0
    return 0


def _loaded() -> set[str]:
    """The files of OpenMP libraries in this process; without /proc, those that come with PyTorch."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
        files = [line.split(maxsplit=5)[-1] for line in lines]
    except OSError:
        files = [str(path) for path in (Path(torch.__file__).parent / "lib").glob("lib*omp*")]
    return {file for file in files if _OPENMP.search(file)}

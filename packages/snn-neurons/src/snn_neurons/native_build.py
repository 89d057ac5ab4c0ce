"""Compiling C once and loading it: a disk cache keyed by content, safe for many processes and for damaged files."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

from snn_neurons.errors import BackendError

# Contracting multiply-adds differently forward and in the recomputation would change spikes.
FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-std=gnu11", "-w")
_MARK = b"snn-neurons kernel\n"
_LOCK = threading.Lock()


@cache
def compiler() -> str | None:
    """The path of the C compiler: ``$CC``, or the first of cc, gcc and clang that is installed."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    return next((path for path in map(shutil.which, names) if path), None)


def no_compiler() -> str | None:
    """Why nothing can be compiled here, or ``None``."""
    if sys.platform == "win32":
        return "the native backend runs on Linux and macOS; use backend='torch' on Windows"
    if compiler() is None:
        return "no C compiler was found; install gcc or clang (Debian: apt install gcc) or set CC to one"
    return None


@cache
def _machine() -> str:
    """What the compiled code depends on besides its source: the processor and the compiler."""
    path = compiler() or ""
    stat = os.stat(path)
    features = platform.processor() + platform.machine() + platform.system()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features += next((line for line in lines if line.startswith(("flags", "Features"))), "")
        features += next((line for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    return f"{os.path.realpath(path)} {stat.st_size} {int(stat.st_mtime)} {features} {FLAGS}"


def cache_dir() -> Path:
    """Where compiled kernels are kept: ``$SNN_NEURONS_CACHE``, or ``snn_neurons`` in the user's cache directory."""
    if os.environ.get("SNN_NEURONS_CACHE"):
        return Path(os.environ["SNN_NEURONS_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "snn_neurons"


@cache
def _usable_cache_dir(wanted: Path) -> Path:
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError:
        # A read-only home: kernels of this process alone.
        return Path(tempfile.mkdtemp(prefix="snn_neurons_"))


def load(source: str) -> ctypes.CDLL:
    """The library compiled from ``source``, from the cache or built now.

    Raises:
        BackendError: there is no compiler, or it fails.
    """
    with _LOCK:
        return ctypes.CDLL(str(build(source)))


def build(source: str) -> Path:
    """The file of the library compiled from ``source``: a whole one in the cache, or a new one.

    Raises:
        BackendError: there is no compiler, or it fails.
    """
    reason = no_compiler()
    if reason:
        raise BackendError(reason)
    key = hashlib.sha256(f"{_machine()}\n{source}".encode()).hexdigest()
    path = _usable_cache_dir(cache_dir()) / f"{key[:40]}.so"
    if not _is_whole(path, key):
        _compile(source, path, key)
    return path


def _trailer(content: bytes, key: str) -> bytes:
    return _MARK + hashlib.sha256(key.encode() + content).hexdigest().encode()


def _is_whole(path: Path, key: str) -> bool:
    """Whether the file is what `_compile` wrote for this key: the loader ignores the trailer behind the library."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    size = len(_MARK) + 64
    return len(content) > size and _trailer(content[:-size], key) == content[-size:]


def _compile(source: str, path: Path, key: str) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build_") as folder:
        c_file, library = Path(folder) / "kernel.c", Path(folder) / "kernel.so"
        c_file.write_text(source)
        message = ""
        for target in (("-march=native",), ("-mcpu=native",), ()):
            command = [str(compiler()), *FLAGS, *target, str(c_file), "-o", str(library), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                content = library.read_bytes()
                library.write_bytes(content + _trailer(content, key))
                os.replace(library, path)
                return
            message = message or done.stderr
        raise BackendError(
            f"{compiler()} failed to build a kernel; check the compiler or use backend='torch': {message}"
        )

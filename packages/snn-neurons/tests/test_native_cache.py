"""The disk cache of compiled kernels: damaged files, many processes, no compiler."""

import os
import subprocess
import sys

import pytest
import torch

from snn_neurons import BackendError, LIFNode, explain_backend, native_build
from snn_neurons.native_build import build, load, no_compiler

pytestmark = pytest.mark.skipif(bool(no_compiler()), reason="no C compiler")
SOURCE = "int answer(void) { return %d; }"
SCRIPT = """
import torch
from snn_neurons import LIFNode
y = LIFNode(step_mode="m", backend="native")(torch.full((4, 8), 2.1))
print(int(y.sum()))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_NEURONS_CACHE", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def test_a_kernel_is_compiled_once(cache, monkeypatch):
    assert load(SOURCE % 41).answer() == 41
    (file,) = cache.glob("*.so")
    monkeypatch.setattr(native_build, "_compile", lambda *_: pytest.fail("compiled again"))
    assert load(SOURCE % 41).answer() == 41
    assert list(cache.iterdir()) == [file]


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "flipped"])
def test_a_damaged_file_is_rebuilt(cache, damage):
    number = {"truncated": 1, "foreign": 2, "empty": 3, "flipped": 4}[damage]
    # Built and not loaded: a library must not change under its mapping.
    file = build(SOURCE % number)
    assert file.parent == cache
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    replacement = {"truncated": content[:2000], "foreign": b"\x7fELF of something else" * 9, "empty": b""}.get(
        damage, content
    )
    file.write_bytes(bytes(replacement))
    assert load(SOURCE % number).answer() == number


def test_many_processes_at_once(cache):
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    assert {p.communicate()[0].strip() for p in running} == {b"32"}
    assert [p.returncode for p in running] == [0, 0, 0]
    assert not list(cache.glob("build_*"))


def test_an_unwritable_cache_is_replaced_by_a_temporary_one(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("SNN_NEURONS_CACHE", str(blocked))
    assert load(SOURCE % 77).answer() == 77


def test_a_failing_compiler_is_reported(cache):
    with pytest.raises(BackendError, match="failed to build a kernel"):
        load("this is not C")


def test_without_a_compiler(cache, monkeypatch):
    monkeypatch.setattr(native_build, "compiler", lambda: None)
    x = torch.full((3, 2), 0.9)
    with pytest.raises(BackendError, match=r"no C compiler was found; install gcc or clang"):
        LIFNode(step_mode="m", backend="native")(x)
    report = explain_backend(LIFNode(), x)
    assert report.backend == "torch"
    assert "install gcc" in report.obstacles["native"]
    assert LIFNode(step_mode="m")(x).shape == x.shape

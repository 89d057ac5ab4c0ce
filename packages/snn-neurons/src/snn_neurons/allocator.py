"""Keeping the memory of large tensors: on Linux, fresh pages cost more than the arithmetic of a neuron."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory(*, limit: int = 1 << 30) -> bool:
    """Tell glibc to keep freed memory of up to ``limit`` bytes for the next tensor instead of returning it.

    By default a tensor above 32 MB gets fresh zeroed pages from the kernel at every allocation, which makes CPU
    training on long sequences several times slower. The process then holds its largest memory until it ends.

    Args:
        limit: in bytes; larger tensors are treated as before. At most 2 GiB - 1.

    Returns:
        Whether the C library took the settings (glibc does; others are left alone).

    Raises:
        ValueError: ``limit`` is not between 1 and 2 GiB - 1.
    """
    if not 1 <= limit < 1 << 31:
        raise ValueError(f"limit must be between 1 and {(1 << 31) - 1} bytes, got {limit}")
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    settings = ((_M_MMAP_THRESHOLD, limit), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 1 << 26))
    # glibc refuses an mmap threshold above half its largest heap; the trim threshold then still helps.
    taken = [mallopt(option, value) == 1 for option, value in settings]
    return all(taken)

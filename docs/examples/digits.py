"""Handwritten digits for the examples: scikit-learn's own, an ``.npz`` file, or IDX files as of MNIST."""

import gzip
import struct
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor


class Digits(NamedTuple):
    """Images ``[N, 1, H, W]`` in [0, 1] and labels ``[N]``, for training and for testing."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def fail(message: str) -> NoReturn:
    """End the program with one line and exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def load_digits(path: str | None = None) -> Digits:
    """Load the digits of scikit-learn, or with ``path`` an ``.npz`` file or a folder of IDX files.

    An ``.npz`` file holds ``x_train, y_train, x_test, y_test``; a folder holds ``train-images-idx3-ubyte``,
    ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, plain or with ``.gz``.
    A file that is missing or broken ends the program.
    """
    if path is None:
        return _sklearn_digits()
    where = Path(path)
    if not where.exists():
        fail(f"{path} does not exist; --data takes an .npz file or a folder of IDX files")
    try:
        arrays = _read_idx_folder(where) if where.is_dir() else _read_npz(where)
        return _to_digits(*arrays)
    except (OSError, EOFError, ValueError, KeyError, struct.error) as error:
        fail(f"{path} cannot be read as a set of digits: {error}")


def _sklearn_digits() -> Digits:
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ImportError:
        fail("the default digits need scikit-learn: pip install scikit-learn (or give --data)")
    data = sklearn_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(data.images).float().unsqueeze(1)[order] / 16
    labels = torch.from_numpy(data.target).long()[order]
    split = 1437  # four fifths
    return Digits(images[:split], labels[:split], images[split:], labels[split:])


def _read_npz(path: Path) -> list[np.ndarray]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [name for name in Digits._fields if name not in file]
            if missing:
                raise KeyError(f"it has no array {', '.join(missing)}")
            return [file[name] for name in Digits._fields]
    except ValueError:
        raise ValueError("it is no .npz file") from None
    except Exception as error:
        if type(error).__name__ == "BadZipFile":
            raise ValueError("it is damaged") from None
        raise


def _read_idx_folder(folder: Path) -> list[np.ndarray]:
    stems = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    arrays = []
    for stem in stems:
        found = [p for p in (folder / stem, folder / f"{stem}.gz") if p.exists()]
        if not found:
            raise OSError(f"there is no {stem}[.gz]")
        arrays.append(_read_idx(found[0]))
    return arrays


def _read_idx(path: Path) -> np.ndarray:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    zero, kind, dims = struct.unpack(">HBB", raw[:4])
    if zero != 0 or kind != 8:
        raise ValueError(f"{path.name} is no IDX file of bytes")
    shape = struct.unpack(f">{dims}I", raw[4 : 4 + 4 * dims])
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * dims)
    if body.size != int(np.prod(shape)):
        raise ValueError(f"{path.name} is cut short")
    return body.reshape(shape)


def _to_digits(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> Digits:
    for name, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.ndim != 3 or y.shape != x.shape[:1] or not len(y):
            raise ValueError(f"x_{name} must be [N, H, W] with labels [N], got {x.shape} and {y.shape}")
    scale = 255.0 if x_train.dtype == np.uint8 else float(x_train.max()) or 1.0
    images = [torch.from_numpy(x.astype(np.float32) / scale).unsqueeze(1) for x in (x_train, x_test)]
    labels = [torch.from_numpy(y.astype(np.int64)) for y in (y_train, y_test)]
    return Digits(images[0], labels[0], images[1], labels[1])

"""Data made with Brian2 2.9 (see data/README.md), and spikes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

DATA = Path(__file__).parent / "data"


@pytest.fixture
def golden() -> Callable[..., tuple[dict[str, Any], dict[str, Tensor]]]:
    """Return a loader: name, dtype -> (parameters, arrays as tensors)."""

    def load(name: str, dtype: torch.dtype = torch.float64) -> tuple[dict[str, Any], dict[str, Tensor]]:
        with np.load(DATA / f"{name}.npz", allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            arrays = {k: torch.from_numpy(file[k].astype(np.float64)).to(dtype) for k in file.files if k != "meta"}
        return meta, arrays

    return load


@pytest.fixture
def spikes() -> Callable[..., Tensor]:
    """Return a maker of random spikes: shape, probability, seed -> float64 tensor of 0 and 1."""

    def make(*shape: int, p: float = 0.3, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < p).to(dtype)

    return make

"""Read netx HDF5 files completely or not at all."""

from math import prod
from os import PathLike, fspath
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from snn_lava_bridge.errors import LavaFileError
from snn_lava_bridge.netx_layers import MAX_DELAY, NetxLayer, NetxNetwork, NetxNeuron, conv_output_shape

_REFUSED = {"average", "concat", "convT", "unpool", "dense_comp"}
_Notes = list[tuple[str, str, str]]


def read_netx(path: str | PathLike[str]) -> NetxNetwork:
    """The integers of a ``.net`` file as the chip's loader would take them.

    Fractional weights and biases are truncated as the loader does; sum pools become the depth-wise convolutions that
    they equal. Both leave a note for `lint`.

    Raises:
        FileNotFoundError: there is no such file.
        LavaFileError: the file is damaged, no netx network, uses a layer or neuron with no integer model here, or its
            shapes contradict one another.
    """
    name = fspath(path)
    try:
        with h5py.File(name, "r") as handle:
            return _read_network(handle, name)
    except FileNotFoundError:
        raise
    except LavaFileError as error:
        raise LavaFileError(f"{name}: {error}") from None
    except (OSError, RuntimeError, KeyError) as error:
        raise LavaFileError(f"{name}: not a readable HDF5 file ({error})") from error


def _read_network(handle: h5py.File, path: str) -> NetxNetwork:
    root = handle.get("layer")
    if not isinstance(root, h5py.Group):
        raise LavaFileError("no group 'layer': not a netx network")
    names = set(root)
    if not names:
        raise LavaFileError("group 'layer' is empty")
    if names != {str(i) for i in range(len(names))}:
        raise LavaFileError(f"layers must be numbered 0 ... {len(names) - 1}, got {sorted(names)}")
    layers: list[NetxLayer] = []
    shape: tuple[int, ...] | None = None
    input_shape: tuple[int, ...] | None = None
    for index in range(len(names)):
        group = root[str(index)]
        if not isinstance(group, h5py.Group):
            raise LavaFileError(f"layer {index} is not a group")
        layer = _Reader(group, index).read(shape)
        if input_shape is None:
            input_shape = layer.shape if layer.kind == "input" else _inferred_input(layer)
        shape = layer.shape
        layers.append(layer)
    if not any(layer.spiking for layer in layers):
        raise LavaFileError("no dense or conv layer: nothing to run")
    return NetxNetwork(tuple(layers), input_shape or (), path)


def _inferred_input(layer: NetxLayer) -> tuple[int, ...]:
    if layer.weight is None:
        raise LavaFileError(f"layer 0 is {layer.kind!r}; a network begins with an input, or with a dense layer")
    return (layer.weight.shape[1],)


class _Reader:
    """One layer group; every complaint names the layer."""

    def __init__(self, group: h5py.Group, index: int) -> None:
        self.group = group
        self.where = f"layer {index}"
        self.index = index
        self.notes: _Notes = []

    def fail(self, text: str) -> LavaFileError:
        return LavaFileError(f"{self.where}: {text}")

    # -- values ------------------------------------------------------------------------------------------------------
    def array(self, name: str) -> np.ndarray[Any, Any]:
        item = self.group.get(name)
        if not isinstance(item, h5py.Dataset):
            raise self.fail(f"dataset {name!r} is missing")
        value = np.asarray(item[()])
        if value.dtype.kind not in "biuf":
            raise self.fail(f"dataset {name!r} has dtype {value.dtype}, a number is needed")
        if not np.all(np.isfinite(value)):
            raise self.fail(f"dataset {name!r} holds NaN or infinity")
        return value

    def integers(self, name: str) -> Tensor:
        value = self.array(name)
        truncated = np.asarray(np.trunc(value))
        if np.any(truncated != value):
            off = float(np.abs(value - truncated).max())
            self.notes.append(("error", "fractional", f"{name} is not integer (by {off:.3g}); the loader truncates it"))
        return torch.from_numpy(np.asarray(truncated, dtype=np.int64))

    def text(self, name: str) -> str:
        item = self.group.get(name)
        if not isinstance(item, h5py.Dataset):
            raise self.fail(f"dataset {name!r} is missing")
        value = np.asarray(item[()]).reshape(-1)
        if value.size != 1:
            raise self.fail(f"dataset {name!r} must hold one string, has {value.size} entries")
        entry = value[0]
        if not isinstance(entry, bytes | str):
            raise self.fail(f"dataset {name!r} is not a string")
        return entry.decode("ascii", "replace") if isinstance(entry, bytes) else entry

    def scalar(self, name: str) -> int:
        value = self.integers(name)
        if value.dim() != 0:
            raise self.fail(f"dataset {name!r} must be 0-d, has shape {tuple(value.shape)}")
        return int(value)

    def pair(self, name: str, least: int) -> tuple[int, int]:
        value = self.integers(name)
        if value.dim() == 0:
            value = value.expand(2)
        if tuple(value.shape) != (2,):
            raise self.fail(f"dataset {name!r} must be 0-d or (2,) as (H, W), has shape {tuple(value.shape)}")
        if int(value.min()) < least:
            raise self.fail(f"dataset {name!r} is {value.tolist()}, must be at least {least}")
        return int(value[0]), int(value[1])

    def shape(self) -> tuple[int, ...]:
        value = self.integers("shape").reshape(-1)
        if value.numel() not in (1, 3) or int(value.min()) < 1:
            raise self.fail(f"shape {value.tolist()} must be (F,) or (C, H, W) with positive sizes")
        return tuple(value.tolist())

    def optional(self, name: str) -> Tensor | None:
        return self.integers(name) if name in self.group else None

    # -- layers ------------------------------------------------------------------------------------------------------
    def read(self, before: tuple[int, ...] | None) -> NetxLayer:
        kind = self.text("type")
        self.where = f"layer {self.index} ({kind})"
        if kind == "input":
            return self.input(before)
        if kind in ("dense", "dense_rec"):
            return self.dense(before, recurrent=kind == "dense_rec")
        if kind in ("conv", "pool"):
            return self.conv(before, pool=kind == "pool")
        if kind == "flatten":
            return self.flatten(before)
        if kind in _REFUSED:
            raise self.fail("this layer type has no integer model in netx; rewrite it as dense or conv")
        raise self.fail("unknown layer type; netx would skip it silently")

    def input(self, before: tuple[int, ...] | None) -> NetxLayer:
        if before is not None:
            raise self.fail("an input layer must be the first")
        if "neuron" in self.group:
            raise self.fail("an input layer with a neuron is driven by its bias and takes no spikes; drop the neuron")
        return self.make("input", self.shape())

    def flatten(self, before: tuple[int, ...] | None) -> NetxLayer:
        if before is None:
            raise self.fail("nothing to flatten: the input shape is unknown")
        return self.make("flatten", (prod(before),))

    def dense(self, before: tuple[int, ...] | None, *, recurrent: bool) -> NetxLayer:
        shape = (prod(self.shape()),)
        if "weight" in self.group and isinstance(self.group["weight"], h5py.Group):
            raise self.fail("complex weights (resonate-and-fire) have no integer model here")
        weight = self.matrix("weight", shape[0])
        if before is not None and len(before) != 1:
            raise self.fail(f"a flatten layer must stand between shape {before} and a dense layer")
        if before is not None and before[0] != weight.shape[1]:
            raise self.fail(f"weight takes {weight.shape[1]} inputs, the layer before gives {before[0]}")
        weight_rec = self.matrix("weight_rec", shape[0]) if recurrent else None
        if weight_rec is not None and weight_rec.shape[1] != shape[0]:
            raise self.fail(f"weight_rec of shape {tuple(weight_rec.shape)} must be ({shape[0]}, {shape[0]})")
        delay = self.delay(weight)
        return self.make("dense", shape, weight=weight, weight_rec=weight_rec, delay=delay, **self.common(shape[0]))

    def conv(self, before: tuple[int, ...] | None, *, pool: bool) -> NetxLayer:
        shape = self.shape()
        if before is None or len(before) != 3:
            raise self.fail(f"needs a (C, H, W) input, the layer before gives {before}; put an input layer first")
        weight = self.integers("weight")
        if weight.dim() == 5 and weight.shape[4] == 1:
            weight = weight[..., 0]
        if weight.dim() != 4 or weight.numel() == 0:
            raise self.fail(f"weight of shape {tuple(weight.shape)} must be (C_out, C_in / groups, kH, kW)")
        if pool:
            self.notes.append(("error", "pool", "netx refuses pool layers; export again to get a depth-wise conv"))
            weight, groups = weight[:1, :1].expand(before[0], 1, -1, -1).contiguous(), before[0]
        else:
            groups = self.scalar("groups")
        stride, padding, dilation = self.pair("stride", 1), self.pair("padding", 0), self.pair("dilation", 1)
        if groups < 1 or before[0] % groups or weight.shape[0] % groups or weight.shape[1] != before[0] // groups:
            raise self.fail(f"weight {tuple(weight.shape)} with {groups} groups does not fit {before[0]} channels")
        kernel = (weight.shape[2], weight.shape[3])
        fits = conv_output_shape(before, weight.shape[0], kernel, stride, padding, dilation)
        if min(fits) < 1:
            raise self.fail(f"kernel {kernel} does not fit an input of {before}")
        if shape != fits:
            raise self.fail(f"shape {shape} contradicts the geometry, which gives {fits}")
        if "delay" in self.group and np.any(self.array("delay") != 0):
            self.notes.append(("error", "delay", "the loader ignores delays of a conv layer"))
        options = self.common(shape[0])
        return self.make(
            "conv", shape, weight=weight, stride=stride, padding=padding, dilation=dilation, groups=groups, **options
        )

    # -- parts -------------------------------------------------------------------------------------------------------
    def matrix(self, name: str, rows: int) -> Tensor:
        weight = self.integers(name)
        if weight.dim() == 1 and weight.numel() and weight.numel() % rows == 0:
            weight = weight.reshape(rows, -1)
        if weight.dim() != 2 or weight.shape[0] != rows or weight.shape[1] == 0:
            raise self.fail(f"{name} of shape {tuple(weight.shape)} must be ({rows}, inputs)")
        return weight

    def delay(self, weight: Tensor) -> Tensor | None:
        delay = self.optional("delay")
        if delay is None:
            return None
        if int(delay.min()) < 0 or int(delay.max()) > MAX_DELAY:
            self.notes.append(
                ("error", "delay", f"delays {int(delay.min())} ... {int(delay.max())} are clamped to 0 ... {MAX_DELAY}")
            )
            delay = delay.clamp(0, MAX_DELAY)
        rows, columns = weight.shape
        if delay.dim() == 0:
            return delay.expand(rows).contiguous()
        if tuple(delay.shape) == (rows,):
            return delay
        if tuple(delay.shape) == (columns,):
            return delay.expand(rows, columns).contiguous()
        if tuple(delay.shape) == (rows, columns):
            return delay
        raise self.fail(f"delay of shape {tuple(delay.shape)} fits no side of weight {tuple(weight.shape)}")

    def common(self, channels: int) -> dict[str, Any]:
        bias = self.optional("bias")
        if bias is not None and tuple(bias.shape) != (channels,):
            if bias.dim() != 0:
                raise self.fail(f"bias of shape {tuple(bias.shape)} must be ({channels},)")
            bias = bias.expand(channels).contiguous()
        return {"bias": bias, "neuron": self.neuron(channels)}

    def neuron(self, channels: int) -> NetxNeuron:
        if not isinstance(self.group.get("neuron"), h5py.Group):
            raise self.fail("group 'neuron' is missing")
        family = self.text("neuron/type")
        if family not in ("CUBA", "LOIHI"):
            raise self.fail(f"neuron type {family!r} has no integer model here; only CUBA")
        if "neuron/messageBits" in self.group:
            raise self.fail("neuron/messageBits makes the loader fail; remove it")
        if "neuron/weight_exp" in self.group:
            self.notes.append(("error", "weight_exp", "neuron/weight_exp is ignored by the loader; fold it"))
        if "neuron/gradedSpike" in self.group and bool(np.any(self.array("neuron/gradedSpike"))):
            self.notes.append(("error", "graded", "gradedSpike is ignored by the loader; spikes will be binary"))
        decays = []
        for name in ("neuron/iDecay", "neuron/vDecay"):
            decay = self.integers(name)
            if decay.numel() == 1:
                decay = decay.reshape(())
            elif tuple(decay.shape) != (channels,):
                raise self.fail(f"{name} of shape {tuple(decay.shape)} must be 0-d or ({channels},)")
            if int(decay.min()) < 0 or int(decay.max()) > 4096:
                raise self.fail(f"{name} holds {int(decay.min())} ... {int(decay.max())}, must lie in 0 ... 4096")
            decays.append(decay)
        threshold = self.integers("neuron/vThMant")
        if threshold.numel() != 1:
            raise self.fail(f"neuron/vThMant of shape {tuple(threshold.shape)}: per-neuron thresholds are not possible")
        return NetxNeuron(decays[0], decays[1], int(threshold))

    def make(self, kind: Any, shape: tuple[int, ...], **values: Any) -> NetxLayer:
        return NetxLayer(kind=kind, shape=shape, name=self.where, notes=tuple(self.notes), **values)

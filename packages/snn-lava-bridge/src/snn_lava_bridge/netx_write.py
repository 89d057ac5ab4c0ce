"""Write netx HDF5 files, all at once or not at all."""

import contextlib
import os
import tempfile
from os import PathLike, fspath

import h5py
import numpy as np
from torch import Tensor

from snn_lava_bridge.netx_layers import NetxLayer, NetxNetwork, NetxNeuron


def write_netx(network: NetxNetwork, path: str | PathLike[str]) -> None:
    """Write a network; ``path`` is replaced only by a complete file.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    target = os.path.abspath(fspath(path))
    descriptor, partial = tempfile.mkstemp(suffix=".partial", dir=os.path.dirname(target))
    os.close(descriptor)
    try:
        with h5py.File(partial, "w") as handle:
            root = handle.create_group("layer")
            for index, layer in enumerate(network.layers):
                _write_layer(root.create_group(str(index)), layer)
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_layer(group: h5py.Group, layer: NetxLayer) -> None:
    kind = "dense_rec" if layer.weight_rec is not None else layer.kind
    # A fixed 10-byte string in an array of one: the loader takes element 0.
    group.create_dataset("type", data=np.array([kind], "S10"))
    shape = (*layer.shape, 1, 1) if layer.kind == "flatten" else layer.shape
    group.create_dataset("shape", data=np.array(shape, np.int64))
    weight = layer.weight
    if weight is None:
        return
    group.create_dataset("weight", data=_int32(weight))
    if layer.kind == "dense":
        group.create_dataset("inFeatures", data=weight.shape[1])
        group.create_dataset("outFeatures", data=weight.shape[0])
    else:
        group.create_dataset("inChannels", data=weight.shape[1] * layer.groups)
        group.create_dataset("outChannels", data=weight.shape[0])
        group.create_dataset("kernelSize", data=np.array(weight.shape[2:], np.int64))
        group.create_dataset("groups", data=layer.groups)
        for name in ("stride", "padding", "dilation"):
            group.create_dataset(name, data=np.array(getattr(layer, name), np.int64))
    for name in ("weight_rec", "bias", "delay"):
        value = getattr(layer, name)
        if value is not None:
            group.create_dataset(name, data=_int32(value))
    if layer.neuron is not None:
        _write_neuron(group.create_group("neuron"), layer.neuron)


def _write_neuron(group: h5py.Group, neuron: NetxNeuron) -> None:
    group.create_dataset("type", data="CUBA")
    group.create_dataset("iDecay", data=neuron.i_decay.numpy())
    group.create_dataset("vDecay", data=neuron.v_decay.numpy())
    group.create_dataset("vThMant", data=neuron.v_th_mant)
    group.create_dataset("refDelay", data=1)
    group.create_dataset("gradedSpike", data=False)


def _int32(value: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return value.numpy().astype(np.int32)

"""Runs in a peer's interpreter: `nir_peer.py PEER read|write KIND FOLDER`.

read: loads FOLDER/net.nir into the peer, feeds it FOLDER/x.npy [T, N, features] and stores its output as FOLDER/y.npy.
write: builds the peer's own net of that kind, stores it as FOLDER/net.nir and its output as FOLDER/y.npy.
Exit status 77: this interpreter does not have the peer, or not beside the version of nir that it works with.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
UNSUITABLE = 77
DT = 1e-4


def unsuitable(reason: str) -> None:
    print(reason)
    raise SystemExit(UNSUITABLE)


try:
    import h5py
    import nir
    import numpy as np
    import torch
    from torch import nn

    peer = sys.argv[1]
    __import__("norse.torch" if peer == "norse" else peer)
except ImportError as error:
    unsuitable(str(error))

# nir got v_reset after 1.0.4: snnTorch writes it, and what sinabs and Norse call to read works with 1.0.4.
HAS_RESET = "v_reset" in {field.name for field in dataclasses.fields(nir.LIF)}
if (peer == "snntorch") != HAS_RESET:
    unsuitable(f"{peer} does not work with the nir {getattr(nir, '__version__', '')} of this interpreter")


def read_graph(path: Path) -> Any:
    if not HAS_RESET:
        with h5py.File(path, "r+") as file:
            for node in file["node/nodes"].values():
                if "v_reset" in node and not np.any(node["v_reset"][()]):
                    del node["v_reset"]
    return nir.read(path)


def run(net: Any, x: Any, *, batched_time: bool = False) -> Any:
    with torch.no_grad():
        if batched_time:
            steps, batch = x.shape[:2]
            y = net(x.transpose(0, 1).flatten(0, 1))
            y = y[0] if isinstance(y, tuple) else y
            return y.unflatten(0, (batch, steps)).transpose(0, 1)
        found, state = [], None
        for step in x:
            y = net(step) if state is None else net(step, state)
            y, state = y if isinstance(y, tuple) else (y, None)
            found.append(y)
        return torch.stack(found)


def read(path: Path, x: Any) -> Any:
    graph = read_graph(path)
    if peer == "snntorch":
        from snntorch.import_nir import import_from_nir

        return run(import_from_nir(graph), x)
    if peer == "norse":
        import norse.torch

        return run(norse.torch.from_nir(graph, dt=DT, ignore_warnings=True), x)
    from sinabs.nir import from_nir

    return run(from_nir(graph, batch_size=x.shape[1]), x, batched_time=True)


def positive(net: nn.Module) -> nn.Module:
    """Weights that never drive a membrane below 0, nor by more than a threshold in one step."""
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() == 2:
                p.copy_(0.93 * p.abs() / p.abs().sum(1, keepdim=True))  # not 1: no ties
            elif p.dim() == 1:
                p.zero_()
    return net


def write(kind: str, path: Path, x: Any) -> Any:
    features = x.shape[2]
    if peer == "snntorch":
        import snntorch
        from snntorch.export_nir import export_to_nir

        options = {"init_hidden": True, "reset_mechanism": "zero" if kind != "lif_subtract" else "subtract"}
        if kind.startswith("lif"):
            neurons = [
                snntorch.Leaky(beta=torch.full((n,), 0.7), threshold=torch.ones(n), reset_delay=False, **options)
                for n in (8, 5)
            ]
        elif kind == "recurrent":
            neurons = [
                snntorch.RLeaky(
                    beta=torch.full((n,), 0.7),
                    threshold=torch.ones(n),
                    reset_delay=False,
                    all_to_all=True,
                    linear_features=n,
                    **options,
                )
                for n in (8, 5)
            ]
        else:
            neurons = [
                snntorch.Synaptic(
                    alpha=torch.full((n,), 0.6),
                    beta=torch.full((n,), 0.8),
                    threshold=torch.ones(n),
                    reset_delay=False,
                    **options,
                )
                for n in (8, 5)
            ]
        net = nn.Sequential(nn.Linear(features, 8), neurons[0], nn.Linear(8, 5), neurons[1])
        if kind == "lif_subtract":  # above twice the threshold snnTorch subtracts again a step later
            positive(net)
        graph = export_to_nir(net, x[0], ignore_dims=[0])
        for neuron in neurons:
            neuron.reset_mem()  # the example of the export has moved it
        y = run(net, x)
    elif peer == "norse":
        import norse.torch as norse

        def neuron(n: int) -> Any:
            ones = torch.ones(n)
            if kind == "if":
                return norse.IAFCell(norse.IAFParameters(v_th=ones))
            parameters = norse.LIFBoxParameters(tau_mem_inv=250 * ones, v_th=0.1 * ones, v_leak=0 * ones)
            return norse.LIFBoxCell(parameters, dt=1e-3)

        net = norse.SequentialState(nn.Linear(features, 8), neuron(8), nn.Linear(8, 5), neuron(5))
        graph = norse.to_nir(net, x[0], dt=1e-3)
        y = run(net, x)
    else:
        import sinabs.layers as layers
        from sinabs.nir import to_nir

        def neuron(n: int) -> Any:
            if kind == "if":
                return layers.IAFSqueeze(batch_size=x.shape[1], spike_threshold=torch.tensor(1.0))
            tau = torch.full((n,), 4.0)
            return layers.LIFSqueeze(
                tau_mem=tau, batch_size=x.shape[1], norm_input=False, spike_threshold=torch.ones(n)
            )

        net = positive(nn.Sequential(nn.Linear(features, 8), neuron(8), nn.Linear(8, 5), neuron(5)))
        graph = to_nir(net, x.transpose(0, 1).flatten(0, 1))
        for module in net.modules():
            if hasattr(module, "reset_states"):
                module.reset_states()
        y = run(net, x, batched_time=True)
    nir.write(path, graph)
    return y


if __name__ == "__main__":
    mode, kind, folder = sys.argv[2], sys.argv[3], Path(sys.argv[4])
    torch.manual_seed(0)
    inputs = torch.from_numpy(np.load(folder / "x.npy"))
    outputs = read(folder / "net.nir", inputs) if mode == "read" else write(kind, folder / "net.nir", inputs)
    np.save(folder / "y.npy", outputs.detach().float().numpy())

"""Time forward + backward of the CUBA neuron against SpikingJelly's, and the simulation of a network file.

Both neurons run in one process, interleaved, on the same input; medians. Needs spikingjelly for the comparison.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from snn_base import reset_net
from snn_lava_bridge import CubaLIFNode, read_netx, simulate
from snn_neurons.surrogates import Surrogate


class Sigmoid(Surrogate):
    """SpikingJelly's default, ``4 s (1 - s)`` with ``s = sigmoid(4 u)``."""

    def derivative(self, u):
        s = torch.sigmoid(4 * u)
        return 4 * s * (1 - s)


def timed(run, x, g):
    x = x.detach().requires_grad_()
    start = time.perf_counter()
    y = run(x)
    y.backward(g)
    return time.perf_counter() - start, y.detach(), x.grad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--neurons", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--net", type=Path, help="a .net file; SPIKES.npz beside it holds x [N, ..., T]")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    args = parser.parse_args()
    torch.manual_seed(0)
    results = {}
    try:
        from spikingjelly.activation_based import functional, lava_exchange
    except ImportError as error:
        print(f"no comparison: {error}")
    else:
        x = (torch.randn(args.steps, args.batch, args.neurons) * 64).round() / 64
        g = torch.randn_like(x)
        ours = CubaLIFNode(0.25, 0.1, surrogate_function=Sigmoid(), step_mode="m")
        theirs = lava_exchange.CubaLIFNode(0.25, 0.1, step_mode="m")
        times = {"ours": [], "SpikingJelly": []}
        for _ in range(args.repeats + 1):
            reset_net(ours)
            functional.reset_net(theirs)
            a, y, g_x = timed(ours, x, g)
            b, z, g_z = timed(theirs, x, g)
            times["ours"].append(a)
            times["SpikingJelly"].append(b)
        a, b = (statistics.median(t[1:]) for t in times.values())
        results["forward + backward, ms"] = {"ours": 1e3 * a, "SpikingJelly": 1e3 * b, "ratio": b / a}
        results["spikes that differ"] = int((y != z).sum())
        results["largest difference of input gradients"] = float((g_x - g_z).abs().max())
        results["largest input gradient"] = float(g_z.abs().max())
    if args.net:
        network = read_netx(args.net)
        with np.load(args.net.with_suffix(".npz")) as data:
            spikes = torch.from_numpy(data["x"]).movedim(-1, 0)
        times = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            simulate(network, spikes)
            times.append((time.perf_counter() - start) / spikes.shape[1])
        results["simulation, ms per sample"] = 1e3 * statistics.median(times)
    text = json.dumps(results, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()

"""Train a convolutional network on MNIST with float weights, then with the chip's, and run the exported file.

Prints and writes the test accuracies of the float net, the quantised net and the simulated ``.net`` file. A run can be
cut into pieces: the state is saved after every ``--save-every`` batches and training goes on from it.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_base import reset_net
from snn_lava_bridge import CubaLIFNode, FlattenBlock, conv_block, dense_block, export_netx, lint, simulate, verify
from snn_neurons.surrogates import ATan

STEPS, SHOWN, GROUP = 7, 5, 10


def encode(images: Tensor) -> Tensor:
    """Spikes ``[T, N, 1, 28, 28]`` of images uint8 ``[N, 28, 28]``: step t has the pixels above level t."""
    levels = (torch.arange(SHOWN) + 0.5) / SHOWN * 255
    spikes = images.unsqueeze(0) > levels.view(-1, 1, 1, 1)
    return F.pad(spikes.unsqueeze(2).to(torch.uint8), (0, 0) * 4 + (0, STEPS - SHOWN))


def make_net(quantize: bool) -> nn.Sequential:
    def neuron() -> CubaLIFNode:
        return CubaLIFNode(0.5, 0.125, 0.5, scale=64, surrogate_function=ATan(3.0), step_mode="m")

    options = {"quantize": quantize, "step_mode": "m"}
    return nn.Sequential(
        conv_block(1, 12, 5, neuron(), stride=2, padding=2, **options),
        conv_block(12, 24, 5, neuron(), stride=2, padding=2, **options),
        FlattenBlock(),
        dense_block(24 * 7 * 7, 10 * GROUP, neuron(), **options),
    )


def counts(spikes: Tensor) -> Tensor:
    """Spikes per class ``[N, 10]`` of output spikes ``[T, N, 100]``."""
    return spikes.sum(0).unflatten(1, (10, GROUP)).sum(2)


def accuracy(run, images: Tensor, labels: Tensor, batch: int = 500) -> float:
    right = 0
    with torch.no_grad():
        for x, y in zip(images.split(batch), labels.split(batch), strict=True):
            right += int((counts(run(encode(x)).float()).argmax(1) == y).sum())
    return 100 * right / len(labels)


def train(net, images, labels, *, epochs, lr, batch, folder, phase, save_every, deadline):
    """Train ``net``; return False where the time was up first."""
    state_file = folder / f"{phase}.pt"
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    total = epochs * (len(labels) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=total, pct_start=0.2)
    done = 0
    if state_file.exists():
        state = torch.load(state_file)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        done = state["done"]

    def save():
        torch.save(
            {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "done": done,
            },
            state_file,
        )

    net.train()
    while done < total:
        epoch, index = divmod(done, len(labels) // batch)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
        chosen = order[index * batch : (index + 1) * batch]
        x = images[chosen]
        shift = torch.randint(-1, 2, (2,), generator=torch.Generator().manual_seed(done)).tolist()
        x = torch.roll(x, shift, (1, 2))
        reset_net(net)
        score = counts(net(encode(x).float())) / 4
        loss = F.cross_entropy(score, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        done += 1
        if done % 50 == 0:
            print(f"{phase} {done}/{total} loss {loss.item():.3f}", flush=True)
        if done % save_every == 0 or done == total or time.monotonic() > deadline:
            save()
        if time.monotonic() > deadline and done < total:
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="mnist.npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--out", type=Path, default=Path("mnist_qat"), help="folder for states, the file and results")
    parser.add_argument("--epochs", type=int, default=2, help="epochs with float weights")
    parser.add_argument("--qat-epochs", type=int, default=1, help="epochs with quantised weights")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=400, help="stop and save after this time; run again to go on")
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--train-size", type=int, default=60000)
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    args.out.mkdir(parents=True, exist_ok=True)
    with np.load(args.data) as data:
        train_x, train_y, test_x, test_y = (
            torch.from_numpy(np.asarray(data[k])) for k in ("x_train", "y_train", "x_test", "y_test")
        )
    train_x, train_y, test_y = train_x[: args.train_size], train_y[: args.train_size].long(), test_y.long()
    torch.manual_seed(args.seed)
    options = {"batch": args.batch, "folder": args.out, "save_every": args.save_every, "deadline": deadline}
    net = make_net(quantize=False)
    if not train(net, train_x, train_y, epochs=args.epochs, lr=4e-3, phase="float", **options):
        print("time is up; run again to go on")
        return
    results = {"float": accuracy(lambda x: fresh(net, x), test_x, test_y)}
    quantised = make_net(quantize=True)
    quantised.load_state_dict(net.state_dict())
    results["rounded without training"] = accuracy(lambda x: fresh(quantised, x), test_x, test_y)
    print(results, flush=True)
    if not train(quantised, train_x, train_y, epochs=args.qat_epochs, lr=1e-3, phase="quantised", **options):
        print("time is up; run again to go on")
        return
    results["quantised"] = accuracy(lambda x: fresh(quantised, x), test_x, test_y)
    path = args.out / "mnist.net"
    print(export_netx(quantised, path, (1, 28, 28)))
    results["simulated file"] = accuracy(lambda x: simulate(path, x), test_x, test_y)
    sample = encode(test_x[:200])
    print(verify(quantised, path, sample))
    for finding in lint(path, spikes=sample):
        print(finding)
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    print("| net | test accuracy % |\n|---|---|")
    for name, value in results.items():
        print(f"| {name} | {value:.2f} |")


def fresh(net: nn.Module, spikes: Tensor) -> Tensor:
    """Output of a net that starts from rest."""
    net.eval()
    reset_net(net)
    return net(spikes.float())


if __name__ == "__main__":
    main()

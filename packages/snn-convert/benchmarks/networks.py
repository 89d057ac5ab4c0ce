"""Small networks for 32 x 32 images, and their training, shared by the benchmarks."""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)


def layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class Block(nn.Module):
    """Basic residual block."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Sequential(*layer(inputs, outputs, 3, stride)),
            nn.Sequential(*layer(outputs, outputs)),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*layer(inputs, outputs, 1, stride))
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.second(self.relu1(self.first(x))) + self.shortcut(x))


def plain() -> nn.Module:
    """Convolutions with BatchNorm, average pooling between them."""
    return nn.Sequential(
        *layer(3, 32), nn.ReLU(), nn.AvgPool2d(2),
        *layer(32, 64), nn.ReLU(), *layer(64, 64), nn.ReLU(), nn.AvgPool2d(2),
        *layer(64, 96), nn.ReLU(), *layer(96, 96), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(1536, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def residual() -> nn.Module:
    """Residual blocks with BatchNorm after maximum pooling with overlapping windows."""
    return nn.Sequential(
        *layer(3, 32), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        Block(32, 32), Block(32, 64, 2), Block(64, 64), Block(64, 96, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip


def resnet18(width: int = 32) -> nn.Module:
    """ResNet-18 for small images: four stages of two blocks."""
    blocks: list[nn.Module] = []
    inputs = width
    for stage in range(4):
        outputs = width << stage
        blocks += [Block(inputs, outputs, 1 if stage == 0 else 2), Block(outputs, outputs)]
        inputs = outputs
    return nn.Sequential(
        *layer(3, width), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)
    )


NETWORKS = {"plain": plain, "residual": residual}


def images(raw: np.ndarray) -> Tensor:
    """``uint8 [N, 32, 32, 3]`` as normalised ``float32 [N, 3, 32, 32]``."""
    x = torch.from_numpy(np.ascontiguousarray(raw)).permute(0, 3, 1, 2).float() / 255
    return ((x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)).contiguous()


def train(name: str, data: dict[str, np.ndarray], epochs: int, cache: Path, batch: int = 100) -> nn.Module:
    """Return the trained network, from the cache where it is there; an interrupted training goes on from its epoch."""
    torch.manual_seed(0)
    model = NETWORKS[name]().to(memory_format=torch.channels_last)
    path = cache / f"{name}-{epochs}.pt"
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = len(data["x_train"]) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, total_steps=epochs * steps, pct_start=0.25)
    done = 0
    if path.exists():
        saved = torch.load(path)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        schedule.load_state_dict(saved["schedule"])
        done = saved["epochs"]
    labels = torch.from_numpy(data["y_train"]).long()
    for epoch in range(done, epochs):
        model.train()
        generator, begin, total = torch.Generator().manual_seed(epoch), time.perf_counter(), 0.0
        for index in torch.randperm(len(labels), generator=generator)[: steps * batch].view(steps, batch):
            x = images(data["x_train"][index.numpy()])
            x = F.pad(x, (4, 4, 4, 4))
            top, left = torch.randint(0, 9, (2,), generator=generator).tolist()
            x = x[:, :, top : top + 32, left : left + 32]
            flip = torch.rand(batch, generator=generator) < 0.5
            x = torch.where(flip.view(-1, 1, 1, 1), x.flip(3), x).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(x), labels[index], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
        cache.mkdir(parents=True, exist_ok=True)
        torch.save({**state, "epochs": epoch + 1}, path)
        print(f"{name}: epoch {epoch + 1}, loss {total / steps:.3f}, {time.perf_counter() - begin:.0f} s", flush=True)
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch: int = 250) -> float:
    """Accuracy in per cent."""
    found = torch.cat([model(part).argmax(1) for part in x.split(batch)])
    return 100 * (found == y).double().mean().item()

"""What both sides of the MoCo benchmark share: the backbone, the pictures, the clock. Plain torch, so that every virtualenv runs it."""

import argparse
import json
import time

import torch
from torch import nn

HIDDEN, OUT, TEMPERATURE, MOMENTUM, WIDTHS, SIDE = 1024, 256, 0.2, 0.99, (64, 128, 256), 64


def block(channels, width, stride):
    """A basic residual block as a module; He et al. 2016."""
    return Residual(channels, width, stride)


class Residual(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.one, self.two = nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))
        same = stride == 1 and channels == width
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.norms[1](self.two(torch.relu_(self.norms[0](self.one(x)))))
        return torch.relu_(y + self.shortcut(x))


def backbone():
    """64 px to 256 features, 1.2 M parameters, channels last."""
    layers = [nn.Conv2d(3, WIDTHS[0], 7, 2, 3, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    for i, width in enumerate(WIDTHS):
        layers.append(block(WIDTHS[max(0, i - 1)], width, 2 if i else 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).to(memory_format=torch.channels_last)


def measure(step, views, batch):
    """Seconds per step over `--steps` steps after two of warming up; prints images/s as one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8)
    steps = parser.parse_args().steps
    for _ in range(2):
        step(*views)
    # Time on the processor: other programs' turns do not count.
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step(*views)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"images_per_s": steps * batch / wall, "images_per_cpu_s": steps * batch / cpu}))


def ready_views(batch):
    """Two batches of float pixels, normalised, the same on both sides."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 3, SIDE, SIDE, generator=generator).contiguous(memory_format=torch.channels_last) for _ in range(2)]

"""CIFAR-10 as tensors, and what is done to a batch of it.

The images are held once, as bytes; crops, flips and cut-outs are index
arithmetic over a whole batch, so that preparing one costs far less than a
hundredth of the step that uses it.
"""
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

HELD_OUT = 5000  # the last training images: for choices, never trained on
PAD = 4  # pixels of black border that a crop may reach into
CUTOUT = 8  # pixels a side of the square that is cut out


class Images:
    def __init__(self, pixels, labels):
        self.pixels = pixels  # uint8, N×3×32×32
        self.labels = labels  # int64, N

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return Images(self.pixels[index], self.labels[index])


def read_sheet(path):
    """A PNG with one image a row, and its labels beside it."""
    rows = np.asarray(Image.open(path).convert("RGB"))
    side = math.isqrt(rows.shape[1])
    pixels = torch.from_numpy(rows.reshape(-1, side, side, 3).copy()).permute(0, 3, 1, 2).contiguous()
    labels = json.loads(path.with_suffix(".labels.json").read_text(encoding="utf-8"))
    return Images(pixels, torch.tensor(labels))


def read_training(folder):
    """The training images to learn from, and those held out."""
    sheets = [read_sheet(p) for p in sorted(pathlib.Path(folder).glob("train_*.png"))]
    if not sheets:
        raise SystemExit(f"{folder} has no train_*.png: run `make data` at the root of the project")
    everything = Images(torch.cat([s.pixels for s in sheets]), torch.cat([s.labels for s in sheets]))
    return everything[:-HELD_OUT], everything[-HELD_OUT:]


def write_held_out(folder):
    """Writes the held-out images as a sheet, for `limber family build --validation`."""
    held = read_training(folder)[1]
    rows = held.pixels.permute(0, 2, 3, 1).reshape(len(held), -1, 3).numpy()
    path = pathlib.Path(folder) / "held_out.png"
    Image.fromarray(rows).save(path)
    path.with_suffix(".labels.json").write_text(json.dumps(held.labels.tolist()), encoding="utf-8")


def synthetic(n, seed):
    """Noise whose hue tells its class, for --smoke where CIFAR-10 is absent."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (n,), generator=g)
    pixels = torch.randint(0, 128, (n, 3, 32, 32), generator=g, dtype=torch.uint8)
    pixels[torch.arange(n), labels % 3] += (labels * 12).to(torch.uint8)[:, None, None]
    return Images(pixels, labels)


def augment(pixels, g):
    """Random crop of the padded image, mirror, cut-out."""
    n, _, side, _ = pixels.shape
    padded = F.pad(pixels, (PAD,) * 4)
    x = torch.arange(side)
    top, left = (torch.randint(0, 2 * PAD + 1, (n, 1), generator=g) for _ in range(2))
    mirrored = torch.rand(n, 1, generator=g) < 0.5
    cols = torch.where(mirrored, left + side - 1 - x, left + x)
    image = torch.arange(n)[:, None, None]
    out = padded.permute(0, 2, 3, 1)[image, (top + x)[:, :, None], cols[:, None, :]]
    y0, x0 = (torch.randint(-CUTOUT // 2, side - CUTOUT // 2, (n, 1), generator=g) for _ in range(2))
    rows, cols = ((v <= x) & (x < v + CUTOUT) for v in (y0, x0))
    out[rows[:, :, None] & cols[:, None, :]] = 128
    return out.permute(0, 3, 1, 2)


class Preprocessing:
    """What supernet.json says about the way to the network's input."""

    def __init__(self, description):
        self.mean = torch.tensor(description["mean"]).view(1, 3, 1, 1)
        self.std = torch.tensor(description["std"]).view(1, 3, 1, 1)
        self.antialias = description["antialias"]

    def __call__(self, pixels, resolution):
        x = pixels.float() / 255
        if x.shape[2] != resolution:
            x = F.interpolate(x, (resolution,) * 2, mode="bilinear", align_corners=False, antialias=self.antialias)
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


class Order:
    """Endless batches of indices, no image twice an epoch. The few that do not fill
    a batch are left out of it; which, each epoch draws anew."""

    def __init__(self, n, batch, g):
        self.n, self.batch, self.g = n, batch, g
        self.left = torch.empty(0, dtype=torch.int64)

    def next(self):
        if len(self.left) < self.batch:
            self.left = torch.randperm(self.n, generator=self.g)
        index, self.left = self.left[: self.batch], self.left[self.batch :]
        return index


if __name__ == "__main__":
    write_held_out(pathlib.Path(__file__).resolve().parent / "../../.data/cifar10")

#!/usr/bin/env python3
"""Mixes the weights of two published supernets (Wortsman et al. 2022, "Model
soups"): weights that one training made of the other's lie in one valley, and a
point between them may do better on images that neither has seen.

    python3 soup.py --share 0.15 BEFORE.pth AFTER.pth MIXED.pth

--share is how much of BEFORE goes in. Choose it on the held-out images.
"""
import argparse
import pathlib

import torch

import data
from network import Space, Supernet, calibrate, widths_of
from train import CALIBRATION, HERE, save


def options():
    p = argparse.ArgumentParser(description="mix the weights of two supernets of one structure")
    p.add_argument("before", type=pathlib.Path, help="checkpoint that the other was trained from")
    p.add_argument("after", type=pathlib.Path, help="checkpoint")
    p.add_argument("mixed", type=pathlib.Path, help="checkpoint to write, in float16, with the largest member's BN statistics")
    p.add_argument("--share", type=float, required=True, help="of the first one, from 0 to 1")
    p.add_argument("--data", type=pathlib.Path, default=HERE / "../../.data/cifar10", help="folder that `make data` fills")
    p.add_argument("--description", type=pathlib.Path, default=HERE / "../stock/supernet.json", help="structure and preprocessing")
    return p.parse_args()


def read(path, space):
    state = torch.load(path, map_location="cpu")["state_dict"]
    net = Supernet(space, widths_of(state, space))
    net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return net.to(memory_format=torch.channels_last)


@torch.no_grad()
def main():
    opts = options()
    space = Space.read(opts.description)
    before, net = read(opts.before, space), read(opts.after, space)
    for p, q in zip(net.parameters(), before.parameters()):
        p.lerp_(q, opts.share)
    images = data.read_training(opts.data)[0][-CALIBRATION:]
    prepare, r = data.Preprocessing(space.description), max(space.description["resolutions"])
    calibrate(net, space.largest(), (prepare(images[i : i + 200].pixels, r) for i in range(0, len(images), 200)))
    save({"state_dict": {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}}, opts.mixed)


if __name__ == "__main__":
    main()

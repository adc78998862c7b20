#!/usr/bin/env python3
"""Trains the stock supernet: an elastic MobileNetV3 on CIFAR-10. See README.md.

Each step is a sandwich (Yu and Huang 2019): the largest member learns from the
labels; the smallest learns from the largest one's answer to the first half of
the batch and a random one from its answer to the second half. The gradients
are added, one optimiser step follows, and an exponential average of the
weights is what gets published.

Time is the budget, not epochs. The schedule advances by each step's share of
the time that is left, so that the learning rate reaches zero at the deadline
however busy the machine is; with --steps it counts steps and is reproducible.

The batch is split over worker threads that run one operator thread each.
Inside a step they never wait for each other, which matters at low priority: an
OpenMP team that is kept off one core makes the other core wait as well.
"""
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded: the workers are the parallelism

import argparse
import copy
import json
import math
import pathlib
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F

import data
import muon
from network import Space, Supernet, Widths, calibrate, widths_of

HERE = pathlib.Path(__file__).resolve().parent
STOCK_WIDTHS = Widths(16, (16, 16, 24, 40, 56, 80), 480, 640)
CALIBRATION = 2000  # images that BN statistics are measured on
LOOK = 2000  # held-out images of an evaluation on the way
WARM_UP = 0.05  # of the schedule
SMOOTHING = 0.1  # of the labels
WEIGHT_DECAY = 0.03  # none for BN, biases and kernel matrices
MUON = 4  # times AdamW's learning rate is Muon's


def options():
    p = argparse.ArgumentParser(description="train the stock supernet on CIFAR-10")
    p.add_argument("--data", type=pathlib.Path, default=HERE / "../../.data/cifar10", help="folder that `make data` fills")
    p.add_argument("--description", type=pathlib.Path, default=HERE / "../stock/supernet.json", help="structure, preprocessing, resolutions")
    p.add_argument("--out", type=pathlib.Path, required=True, help="folder for supernet.pth, supernet.json, resume.pth and log.jsonl")
    budget = p.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="of wall time until the learning rate is zero")
    budget.add_argument("--steps", type=int, help="of training in all: reproducible")
    budget.add_argument("--smoke", action="store_true", help="a few steps on synthetic images")
    start = p.add_mutually_exclusive_group()
    start.add_argument("--warm", type=pathlib.Path, help="checkpoint to start from, with a new schedule")
    start.add_argument("--resume", action="store_true", help="go on from resume.pth in --out")
    p.add_argument("--lr", type=float, default=2e-3, help="peak learning rate of AdamW")
    p.add_argument("--batch", type=int, default=96, help="images a step")
    p.add_argument("--workers", type=int, default=2, help="threads; each takes its part of the batch")
    p.add_argument("--average", type=float, default=0.995, help="decay of the average of the weights")
    p.add_argument("--every", type=float, default=10, help="minutes between evaluations")
    p.add_argument("--seed", type=int, default=1)
    return p.parse_args()


class Schedule:
    """Progress from 0 to 1, and the learning rate at it."""

    def __init__(self, opts):
        self.peak, self.steps = opts.lr, 4 if opts.smoke else opts.steps
        self.deadline = time.time() + 60 * (opts.minutes or 0)
        self.progress, self.pace = 0.0, None  # pace: seconds a step takes, smoothed

    def advance(self, seconds):
        if self.pace is None:
            self.pace = seconds
        # A pause (SIGSTOP) is not a slow step: what it took is in the time left.
        self.pace += 0.1 * (min(seconds, 3 * self.pace) - self.pace)
        if self.steps:
            self.progress = min(1.0, self.progress + 1 / self.steps)
            return
        left = max(self.deadline - time.time(), 1e-3)
        self.progress += (1 - self.progress) * min(1.0, self.pace / (left + self.pace))

    def done(self):
        return self.progress >= 1 - 1e-9 or (not self.steps and time.time() >= self.deadline)

    def lr(self):
        if self.progress < WARM_UP:
            return self.peak * (0.02 + 0.98 * self.progress / WARM_UP)
        return self.peak * 0.5 * (1 + math.cos(math.pi * (self.progress - WARM_UP) / (1 - WARM_UP)))

    def remaining(self, step):
        """Seconds to the end."""
        return (self.steps - step) * (self.pace or 0) if self.steps else self.deadline - time.time()


def optimizers_of(net):
    """Muon for the 1x1 convolutions; AdamW for the rest, which decays only the
    weights of convolutions and the classifier."""
    groups = {"muon": [], "decayed": [], "plain": []}
    for name, p in net.named_parameters():
        kind = "muon" if muon.fits(p) else "decayed" if p.ndim > 1 and not name.endswith("_matrix") else "plain"
        groups[kind].append(p)
    return (muon.Muon(groups["muon"], weight_decay=WEIGHT_DECAY),
            torch.optim.AdamW([{"params": groups["decayed"], "weight_decay": WEIGHT_DECAY},
                               {"params": groups["plain"], "weight_decay": 0.0}], betas=(0.9, 0.99)))


def sandwich(net, x, y, random_arch):
    """Adds the gradients of the three members; returns their losses."""
    space = net.space
    logits = net(x, space.largest())
    loss = F.cross_entropy(logits, y, label_smoothing=SMOOTHING)
    loss.backward()
    taught, losses = F.softmax(logits.detach(), 1), [loss.item()]
    half = len(x) // 2
    for arch, part in ((space.smallest(), slice(None, half)), (random_arch, slice(half, None))):
        loss = F.cross_entropy(net(x[part], arch), taught[part])
        loss.backward()
        losses.append(loss.item())
    return losses


class Trainer:
    def __init__(self, opts, train, held):
        self.opts, self.train, self.held = opts, train, held
        self.space = Space.read(opts.description)
        self.prepare = data.Preprocessing(self.space.description)
        torch.manual_seed(opts.seed)
        self.rng, self.g = random.Random(opts.seed), torch.Generator().manual_seed(opts.seed)
        self.order = data.Order(len(train), opts.batch, self.g)
        warm = torch.load(opts.warm, map_location="cpu")["state_dict"] if opts.warm else None
        self.net = Supernet(self.space, widths_of(warm, self.space) if warm else STOCK_WIDTHS)
        if warm:
            self.net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in warm.items()})
        self.net.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.net)
        self.muon, self.adamw = optimizers_of(self.net)
        self.schedule = Schedule(opts)
        self.step, self.trained = 0, 0.0  # steps and seconds, over all resumptions
        opts.out.mkdir(parents=True, exist_ok=True)
        if opts.resume:
            self.restore()
        self.replicas = [self.replica() for _ in range(opts.workers)]
        self.pool = ThreadPoolExecutor(opts.workers)

    def replica(self):
        """The same weights in the same memory, with gradients of its own."""
        twin = copy.deepcopy(self.net)
        for p, q in zip(twin.parameters(), self.net.parameters()):
            p.data = q.data
        return twin

    def train_step(self):
        lr = self.schedule.lr()
        for optimizer, rate in ((self.muon, MUON * lr), (self.adamw, lr)):
            for group in optimizer.param_groups:
                group["lr"] = rate
        batch = self.train[self.order.next()]
        resolution = self.rng.choice(self.space.description["resolutions"])
        x = self.prepare(data.augment(batch.pixels, self.g), resolution)
        arch, n = self.space.sample(self.rng), len(self.replicas)
        work = [(net, x[i::n].contiguous(memory_format=torch.channels_last), batch.labels[i::n], arch)
                for i, net in enumerate(self.replicas)]
        losses = list(self.pool.map(lambda w: sandwich(*w), work))
        self.gather()
        self.muon.step(self.pool)
        self.adamw.step()
        self.step += 1
        self.follow()
        return {"lr": lr, "r": resolution, "losses": [sum(v) / n for v in zip(*losses)]}

    def gather(self):
        """The mean of the replicas' gradients, in a fixed order. A matrix that no
        member of this step used has none."""
        n = len(self.replicas)
        for p, *twins in zip(self.net.parameters(), *(r.parameters() for r in self.replicas)):
            grads = [t.grad for t in twins if t.grad is not None]
            p.grad = sum(grads) / n if grads else None
            for t in twins:
                t.grad = None

    @torch.no_grad()
    def follow(self):
        decay = min(self.opts.average, (1 + self.step) / (10 + self.step))
        for a, p in zip(self.average.parameters(), self.net.parameters()):
            a.lerp_(p, 1 - decay)

    def evaluate(self, net, images):
        """Top-1 of three members on held-out images, each with its own BN
        statistics at the largest resolution."""
        held = self.held[:images]
        members = {"largest": self.space.largest(), "middle": self.space.middle(), "smallest": self.space.smallest()}
        jobs = [(copy.deepcopy(net), arch) for arch in members.values()]
        return dict(zip(members, self.pool.map(lambda j: self.top1(*j, held), jobs)))

    def batches(self, images):
        r = max(self.space.description["resolutions"])
        for start in range(0, len(images), 200):
            part = images[start : start + 200]
            yield self.prepare(part.pixels, r), part.labels

    @torch.no_grad()
    def top1(self, net, arch, held):
        calibrate(net, arch, (x for x, _ in self.batches(self.train[-CALIBRATION:])))
        right = sum((net(x, arch).argmax(1) == y).sum().item() for x, y in self.batches(held))
        return right / len(held)

    def publish(self):
        """Writes supernet.pth in float16 with the largest member's BN
        statistics, and its description; returns the net as a reader sees it."""
        net = copy.deepcopy(self.average)
        calibrate(net, self.space.largest(), (x for x, _ in self.batches(self.train[-CALIBRATION:])))
        state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in net.state_dict().items()}
        save({"state_dict": state}, self.opts.out / "supernet.pth")
        shutil.copyfile(self.opts.description, self.opts.out / "supernet.json")
        net.load_state_dict(state)
        return net

    def keep(self):
        """Writes what --resume needs."""
        save({"net": self.net.state_dict(), "average": self.average.state_dict(), "muon": self.muon.state_dict(), "adamw": self.adamw.state_dict(),
              "step": self.step, "trained": self.trained, "progress": self.schedule.progress, "left": self.order.left,
              "random": self.rng.getstate(), "generator": self.g.get_state()}, self.opts.out / "resume.pth")

    def restore(self):
        s = torch.load(self.opts.out / "resume.pth")
        self.net.load_state_dict(s["net"])
        self.average.load_state_dict(s["average"])
        self.muon.load_state_dict(s["muon"])
        self.adamw.load_state_dict(s["adamw"])
        self.step, self.trained, self.schedule.progress = s["step"], s["trained"], s["progress"]
        self.order.left = s["left"]
        self.rng.setstate(s["random"])
        self.g.set_state(s["generator"])

    def log(self, **line):
        line = {"epoch": round(self.step * self.opts.batch / len(self.train), 3), "step": self.step,
                "seconds": round(self.trained, 1), "progress": round(self.schedule.progress, 4),
                "remaining": round(self.schedule.remaining(self.step)), **line}
        text = json.dumps(line)
        print(text, flush=True)
        with open(self.opts.out / "log.jsonl", "a", encoding="utf-8") as f:
            f.write(text + "\n")

    def run(self):
        if self.opts.warm:
            self.log(images=LOOK, top1=self.evaluate(self.average, LOOK))
        looked = kept = logged = time.time()
        while not self.schedule.done():
            start = time.time()
            report = self.train_step()
            now = time.time()
            self.trained += now - start
            self.schedule.advance(now - start)
            if now - logged > 30 or self.opts.smoke:
                self.log(**report)
                logged = now
            if now - kept > 180:
                self.keep()
                kept = now
            if now - looked > 60 * self.opts.every:
                self.log(images=LOOK, top1=self.evaluate(self.average, LOOK))
                looked = time.time()
        self.finish()

    def finish(self):
        """Compares the average before and after rounding to float16."""
        self.keep()
        published = self.publish()
        n = len(self.held)
        self.log(images=n, top1=self.evaluate(self.average, n), float16=self.evaluate(published, n))


def save(value, path):
    """A checkpoint is whole or absent, whenever the process ends."""
    torch.save(value, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def main():
    opts = options()
    if opts.smoke:
        train, held = data.synthetic(192, opts.seed), data.synthetic(100, opts.seed + 1)
    else:
        train, held = data.read_training(opts.data)
    Trainer(opts, train, held).run()


if __name__ == "__main__":
    main()

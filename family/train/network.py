"""The elastic MobileNetV3: one set of weights, many networks.

A member of the space is chosen by an Arch: for every block a kernel size and
an expand ratio, for every stage a depth. A smaller member uses the first
channels, the first blocks and the transformed centre of each kernel of a larger
one (Once-for-All, Cai et al. 2020). The names of the modules are those of the
published checkpoints, doubled "conv.conv" and all, so that what this program
saves is read by whatever reads those; family/ofa is that reader here.

BN normalises by the batch while training: no single set of running statistics
fits all members. `calibrate` measures those of one member.
"""
import dataclasses
import json
import random

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass(frozen=True)
class Widths:
    """Output channels of each part; multiples of 8."""

    stem: int
    blocks: tuple  # of block 0 and of each stage
    expand: int
    mix: int


@dataclasses.dataclass(frozen=True)
class Arch:
    """One member: a number per block slot (stage-major) or per stage."""

    ks: tuple
    e: tuple
    d: tuple


class Space:
    """What supernet.json says, and the members that it allows."""

    def __init__(self, description):
        self.description = description
        self.ks, self.e, self.d = (sorted(description[k]) for k in ("ks", "e", "d"))
        self.stages = len(description["strides"]) - 1
        self.slots = self.stages * self.d[-1]

    @classmethod
    def read(cls, path):
        with open(path, encoding="utf-8") as f:
            return cls(json.load(f))

    def uniform(self, k, e, d):
        return Arch((k,) * self.slots, (e,) * self.slots, (d,) * self.stages)

    def largest(self):
        return self.uniform(self.ks[-1], self.e[-1], self.d[-1])

    def smallest(self):
        return self.uniform(self.ks[0], self.e[0], self.d[0])

    def middle(self):
        return self.uniform(*(v[len(v) // 2] for v in (self.ks, self.e, self.d)))

    def sample(self, rng: random.Random):
        return Arch(
            tuple(rng.choices(self.ks, k=self.slots)),
            tuple(rng.choices(self.e, k=self.slots)),
            tuple(rng.choices(self.d, k=self.stages)),
        )


def make_divisible(v):
    """The nearest multiple of 8, at least 8, never more than a tenth below v."""
    n = max(8, int(v + 4) // 8 * 8)
    return n + 8 if n < 0.9 * v else n


def activate(x, name):
    return F.hardswish(x) if name == "h_swish" else F.relu(x)


class Norm(nn.BatchNorm2d):
    """BN of the first channels. `mode` says whose statistics it uses."""

    mode = "batch"  # "batch": the batch's own; "measure": those, and keeps them; "kept"

    def forward(self, x):
        c = x.shape[1]
        weight, bias = self.weight[:c], self.bias[:c]
        if self.mode == "kept":
            return F.batch_norm(x, self.running_mean[:c], self.running_var[:c], weight, bias, False, 0, self.eps)
        y, mean, inverse_std = torch.native_batch_norm(x, weight, bias, None, None, True, 0, self.eps)
        if self.mode == "measure":
            self.measure(len(x), mean, inverse_std**-2 - self.eps)
        return y

    def start(self):
        self.mode, self.seen = "measure", 0

    def measure(self, n, mean, variance):
        """Averages mean and biased variance over batches, weighted by size."""
        self.seen += n
        self.running_mean[: len(mean)].lerp_(mean, n / self.seen)
        self.running_var[: len(mean)].lerp_(variance, n / self.seen)


class ElasticNorm(nn.Module):
    def __init__(self, channels, eps):
        super().__init__()
        self.bn = Norm(channels, eps)

    def forward(self, x):
        return self.bn(x)


class ElasticPointwise(nn.Module):
    """A 1×1 convolution of the channels that come in to the first `out`."""

    def __init__(self, cin, cout):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 1, bias=False)

    def forward(self, x, out):
        return F.conv2d(x, self.conv.weight[:out, : x.shape[1]])


class Depthwise(torch.autograd.Function):
    """A depthwise convolution with a weight gradient in 3×3 tiles.

    oneDNN has a fast weight gradient for 3×3 only; the reference code it falls
    back to for 5×5 and 7×7 is slower by an order (README.md). A large
    kernel is tiles of 3×3 that look at shifted inputs, and so is its gradient.
    """

    @staticmethod
    def forward(ctx, x, w, stride):
        ctx.save_for_backward(x, w)
        ctx.stride = stride
        return F.conv2d(x, w, None, stride, w.shape[2] // 2, 1, w.shape[0])

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        c, k, s = w.shape[0], w.shape[2], ctx.stride
        grad = grad.contiguous(memory_format=torch.channels_last)
        gx, _, _ = torch.ops.aten.convolution_backward(
            grad, x, w, None, [s, s], [k // 2] * 2, [1, 1], False, [0, 0], c, [True, False, False])
        return gx, tiled_weight_gradient(grad, x, k, s), None


def tiled_weight_gradient(grad, x, k, stride):
    c, tiles = x.shape[1], range(0, k, 3)
    seen = [stride * (n - 1) + 3 for n in grad.shape[2:]]  # pixels that one tile looks at
    before = k // 2
    after = [max(0, tiles[-1] + n - before - size) for n, size in zip(seen, x.shape[2:])]
    x = F.pad(x, (before, after[1], before, after[0]))
    like = x.new_zeros(c, 1, 3, 3)
    rows = []
    for i in tiles:
        row = []
        for j in tiles:
            view = x[:, :, i : i + seen[0], j : j + seen[1]].contiguous(memory_format=torch.channels_last)
            row.append(torch.ops.aten.convolution_backward(
                grad, view, like, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], c, [False, True, False])[1])
        rows.append(torch.cat(row, 3))
    return torch.cat(rows, 2)[:, :, :k, :k]


class ElasticDepthwise(nn.Module):
    """A depthwise convolution whose smaller kernels are the centre of the next
    larger one, flattened and multiplied by a matrix that all channels share."""

    def __init__(self, channels, sizes, stride):
        super().__init__()
        self.sizes, self.stride = sizes, stride
        self.conv = nn.Conv2d(channels, channels, sizes[-1], groups=channels, bias=False)
        for small, big in zip(sizes, sizes[1:]):
            self.register_parameter(f"{big}to{small}_matrix", nn.Parameter(torch.eye(small * small)))

    def kernel(self, channels, k):
        w, size = self.conv.weight[:channels], self.sizes[-1]
        for small in reversed(self.sizes[:-1]):
            if size <= k:
                break
            margin = (size - small) // 2
            centre = w[:, :, margin : margin + small, margin : margin + small].reshape(channels, -1)
            matrix = getattr(self, f"{size}to{small}_matrix")
            w, size = F.linear(centre, matrix).view(channels, 1, small, small), small
        return w

    def forward(self, x, k):
        c = x.shape[1]
        return Depthwise.apply(x, self.kernel(c, k), self.stride)


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        mid = make_divisible(channels // 4)
        self.fc = nn.Module()
        self.fc.reduce = nn.Conv2d(channels, mid, 1)
        self.fc.expand = nn.Conv2d(mid, channels, 1)

    def forward(self, x):
        c = x.shape[1]
        m = make_divisible(c // 4)
        y = x.mean((2, 3), keepdim=True)
        y = F.relu(F.conv2d(y, self.fc.reduce.weight[:m, :c], self.fc.reduce.bias[:m]))
        y = F.conv2d(y, self.fc.expand.weight[:c, :m], self.fc.expand.bias[:c])
        return x * F.hardsigmoid(y)


class ConvNorm(nn.Module):
    """A static convolution with BN."""

    def __init__(self, cin, cout, k, eps, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False)
        self.bn = Norm(cout, eps)

    def forward(self, x):
        return self.bn(self.conv(x))


class FirstBlock(nn.Module):
    """Block 0: depthwise and pointwise, no expansion, nothing elastic."""

    def __init__(self, cin, cout, stride, act, eps):
        super().__init__()
        self.act, self.shortcut = act, stride == 1 and cin == cout
        self.mobile_inverted_conv = nn.Module()
        self.mobile_inverted_conv.depth_conv = ConvNorm(cin, cin, 3, eps, stride, groups=cin)
        self.mobile_inverted_conv.point_linear = ConvNorm(cin, cout, 1, eps)

    def forward(self, x):
        m = self.mobile_inverted_conv
        y = m.point_linear(activate(m.depth_conv(x), self.act))
        return x + y if self.shortcut else y


class Block(nn.Module):
    """Expand, depthwise, squeeze-and-excite, project, shortcut."""

    def __init__(self, cin, cout, space, stride, act, se):
        super().__init__()
        eps, mid = space.description["bn_eps"], make_divisible(round(cin * space.e[-1]))
        self.cin, self.cout, self.act, self.shortcut = cin, cout, act, stride == 1 and cin == cout
        m = self.mobile_inverted_conv = nn.Module()
        m.inverted_bottleneck, m.depth_conv, m.point_linear = nn.Module(), nn.Module(), nn.Module()
        m.inverted_bottleneck.conv, m.inverted_bottleneck.bn = ElasticPointwise(cin, mid), ElasticNorm(mid, eps)
        m.depth_conv.conv, m.depth_conv.bn = ElasticDepthwise(mid, space.ks, stride), ElasticNorm(mid, eps)
        m.depth_conv.se = SqueezeExcite(mid) if se else None
        m.point_linear.conv, m.point_linear.bn = ElasticPointwise(mid, cout), ElasticNorm(cout, eps)

    def forward(self, x, k, e):
        m = self.mobile_inverted_conv
        y = m.inverted_bottleneck.conv(x, make_divisible(round(self.cin * e)))
        y = activate(m.inverted_bottleneck.bn(y), self.act)
        y = activate(m.depth_conv.bn(m.depth_conv.conv(y, k)), self.act)
        if m.depth_conv.se is not None:
            y = m.depth_conv.se(y)
        y = m.point_linear.bn(m.point_linear.conv(y, self.cout))
        return x + y if self.shortcut else y


class Supernet(nn.Module):
    def __init__(self, space: Space, widths: Widths):
        super().__init__()
        self.space, d = space, space.description
        eps, out = d["bn_eps"], widths.blocks
        self.first_conv = ConvNorm(3, widths.stem, 3, eps, d["stem_stride"])
        self.blocks = nn.ModuleList([FirstBlock(widths.stem, out[0], d["strides"][0], d["acts"][0], eps)])
        for stage in range(1, space.stages + 1):
            for i in range(space.d[-1]):
                cin, stride = (out[stage - 1], d["strides"][stage]) if i == 0 else (out[stage], 1)
                self.blocks.append(Block(cin, out[stage], space, stride, d["acts"][stage], d["se"][stage]))
        self.final_expand_layer = ConvNorm(out[-1], widths.expand, 1, eps)
        self.feature_mix_layer = nn.Module()
        self.feature_mix_layer.conv = nn.Conv2d(widths.expand, widths.mix, 1, bias=False)
        self.classifier = nn.Module()
        self.classifier.linear = nn.Linear(widths.mix, len(d["classes"]))
        self.apply(initialise)

    def forward(self, x, arch: Arch):
        x = F.hardswish(self.first_conv(x))
        x = self.blocks[0](x)
        deepest = self.space.d[-1]
        for stage, depth in enumerate(arch.d):
            for slot in range(stage * deepest, stage * deepest + depth):
                x = self.blocks[slot + 1](x, arch.ks[slot], arch.e[slot])
        x = F.hardswish(self.final_expand_layer(x)).mean((2, 3), keepdim=True)
        x = F.hardswish(self.feature_mix_layer.conv(x)).flatten(1)
        return self.classifier.linear(x)

    def norms(self):
        return [m for m in self.modules() if isinstance(m, Norm)]


def initialise(m):
    """He's normal by fan-out for convolutions; PyTorch's own for the rest."""
    if isinstance(m, nn.Conv2d):
        fan = m.kernel_size[0] * m.kernel_size[1] * m.out_channels // m.groups
        nn.init.normal_(m.weight, 0, (2 / fan) ** 0.5)
        if m.bias is not None:
            nn.init.zeros_(m.bias)


def widths_of(state, space):
    """Reads the widths off a checkpoint."""

    def rows(name):
        return state[name + ".weight"].shape[0]

    block = "blocks.{}.mobile_inverted_conv.point_linear.conv"
    firsts = range(1, space.slots + 1, space.d[-1])
    stages = tuple(rows(block.format(i) + ".conv") for i in firsts)
    return Widths(rows("first_conv.conv"), (rows(block.format(0)), *stages),
                  rows("final_expand_layer.conv"), rows("feature_mix_layer.conv"))


@torch.no_grad()
def calibrate(net: Supernet, arch: Arch, batches):
    """Gives the net the BN statistics of one member on these batches."""
    for norm in net.norms():
        norm.start()
    for x in batches:
        net(x, arch)
    for norm in net.norms():
        norm.mode = "kept"


def train_mode(net: Supernet):
    for norm in net.norms():
        norm.mode = "batch"

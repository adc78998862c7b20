"""Fixtures for package ofa, computed by PyTorch and the original OFA code.

Run it as README.md beside it says; it writes into its own folder:

    containers/   tiny checkpoints, one per way torch.save may write a file
    imagenet/     a narrow OFA-MobileNetV3 with the published structure
    cifar/        the same weights in half precision, strides for small images
    proxyless/    a narrow OFA-ProxylessNASNets, published structure and names
    resnet/       a narrow OFA-ResNet50, likewise

All randomness comes from SEED, so a second run writes the same numbers.
"""

import collections
import json
import math
import pathlib
import random

import numpy as np
import torch
from ofa.imagenet_classification.elastic_nn.modules.dynamic_layers import DynamicMBConvLayer
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3, OFAProxylessNASNets, OFAResNets
from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics
from ofa.imagenet_classification.networks import ResNets
from ofa.utils.layers import ConvLayer, IdentityLayer, LinearLayer, MBConvLayer, ResidualBlock

SEED = 20240229
HERE = pathlib.Path(__file__).resolve().parent

KS, E, D = [3, 5, 7], [3, 4, 6], [2, 3, 4]
BLOCKS, STAGES, CLASSES = 20, 5, 10

# Channels. The step from stage 3 to stage 4 changes the width at stride 1 in the
# published structure; the steps into stages 1 and 5 keep it, so that with the
# strides for small images the first block of a stage has a shortcut.
STEM, BLOCK0, STAGE_WIDTHS = 8, 8, [8, 8, 16, 8, 8]
FINAL_EXPAND, FEATURE_MIX = 48, 64

# Block 0 and the five stages, as published.
ACTS = ["relu", "relu", "relu", "h_swish", "h_swish", "h_swish"]
SE = [False, False, True, False, True, True]

IMAGENET = {"stem_stride": 2, "strides": [1, 2, 2, 2, 1, 2]}
CIFAR = {"stem_stride": 2, "strides": [1, 1, 2, 1, 2, 1]}


def residual(conv, c_in, c_out, stride):
    """A block has a shortcut if and only if stride is 1 and the widths agree."""
    shortcut = IdentityLayer(c_in, c_out) if stride == 1 and c_in == c_out else None
    return ResidualBlock(conv, shortcut)


def supernet(stem_stride, strides):
    """OFAMobileNetV3 with its parts exchanged for narrow ones.

    The original constructor knows only the published strides and base widths;
    the layers, the forward pass and everything elastic remain the original's.
    """
    net = OFAMobileNetV3(CLASSES, dropout_rate=0, ks_list=KS, expand_ratio_list=E, depth_list=D)
    net.first_conv = ConvLayer(3, STEM, kernel_size=3, stride=stem_stride, act_func="h_swish")
    first = MBConvLayer(STEM, BLOCK0, kernel_size=3, stride=strides[0], expand_ratio=1, act_func=ACTS[0], use_se=SE[0])
    blocks = [residual(first, STEM, BLOCK0, strides[0])]
    c_in = BLOCK0
    for stage, c_out in enumerate(STAGE_WIDTHS, start=1):
        for i in range(max(D)):
            stride = strides[stage] if i == 0 else 1
            conv = DynamicMBConvLayer([c_in], [c_out], KS, E, stride=stride, act_func=ACTS[stage], use_se=SE[stage])
            blocks.append(residual(conv, c_in, c_out, stride))
            c_in = c_out
    net.blocks = torch.nn.ModuleList(blocks)
    net.final_expand_layer = ConvLayer(c_in, FINAL_EXPAND, kernel_size=1, act_func="h_swish")
    net.feature_mix_layer = ConvLayer(FINAL_EXPAND, FEATURE_MIX, kernel_size=1, use_bn=False, act_func="h_swish")
    net.classifier = LinearLayer(FEATURE_MIX, CLASSES, dropout_rate=0)
    net.set_bn_param(momentum=0.1, eps=1e-5)
    return net


def randomise_weights(net):
    """Gives every parameter a value that would be missed, and keeps a part of
    the image in the logits of every sub-network.

    The energy of the depthwise kernels lies in their middle, as it does after
    training: else the 3x3 slice of a 7x7 kernel would hardly see anything.
    """
    for m in net.modules():
        if isinstance(m, torch.nn.Conv2d):
            m.weight.data.normal_(0, math.sqrt(2 / m.weight[0].numel()))
            m.weight.data.mul_(window(m.kernel_size[0]))
    for name, p in net.named_parameters():
        if name.endswith("_matrix"):
            p.data.add_(0.1 * torch.randn_like(p))
        elif name.endswith("bias"):
            p.data.normal_(0, 0.2)
        elif ".bn." in name:
            p.data.uniform_(0.6, 1.4)
    linear = next(m for m in net.classifier.modules() if isinstance(m, torch.nn.Linear))
    linear.weight.data.normal_(0, 0.5)  # the image decides, not the bias


def window(k):
    """A Gaussian of k x k with a mean square of 1."""
    x = torch.arange(k) - (k - 1) / 2
    w = torch.exp(-x * x / 2)
    w = w.view(1, -1) * w.view(-1, 1)
    return w / w.square().mean().sqrt()


def randomise_statistics(net, images):
    """Running statistics of the largest sub-network, as published files have
    them, then disturbed so that no channel is merely normalised."""
    net.set_max_net()
    set_running_statistics(net, [(images, None)])
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            # Relative to the spread: a larger shift would drown the image.
            m.running_mean.add_(0.1 * m.running_var.sqrt() * torch.randn_like(m.running_mean))
            m.running_var.mul_(torch.empty_like(m.running_var).uniform_(0.7, 1.4))
            m.num_batches_tracked.fill_(1000)


def published_name(name):
    """The name in the published checkpoints of what today's code calls
    'blocks.N.conv.'."""
    if not name.startswith("blocks."):
        return name
    blocks, number, conv, rest = name.split(".", 3)
    assert conv == "conv"
    return f"{blocks}.{number}.mobile_inverted_conv.{rest}"


def half(state):
    return {name: t.half() if t.is_floating_point() else t for name, t in state.items()}


def uniform(k, e, d, r):
    return {"ks": [k] * BLOCKS, "e": [e] * BLOCKS, "d": [d] * STAGES, "r": r}


def mixed(r):
    """A random architecture; slots beyond a stage's depth keep their value."""
    return {
        "ks": random.choices(KS, k=BLOCKS),
        "e": random.choices(E, k=BLOCKS),
        "d": random.choices(D, k=STAGES),
        "r": r,
    }


def static_subnet(net, arch):
    net.set_active_subnet(**{name: value for name, value in arch.items() if name != "r"})
    return net.get_active_subnet(preserve_weight=True).eval()


def write(path, tensor):
    path.write_bytes(tensor.detach().numpy().astype("<f4").tobytes())


def logits_of(subnet, images):
    with torch.no_grad():
        return subnet(images)


def first_bn(net):
    return next(m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))


def calibration(folder, net, arch, sizes):
    """Statistics as set_running_statistics leaves them, and logits with them."""
    r = arch["r"]
    batches = [torch.randn(n, 3, r, r) for n in sizes]
    names = [f"calib_batch_{i}.f32" for i in range(len(sizes))]
    for name, batch in zip(names, batches):
        write(folder / name, batch)
    subnet = static_subnet(net, arch)
    set_running_statistics(subnet, [(batch, None) for batch in batches])
    image = torch.from_numpy(np.fromfile(folder / f"input_{r}.f32", "<f4")).view(1, 3, r, r)
    logits = logits_of(subnet, image)
    write(folder / "calib_logits.f32", logits)
    return {
        "arch": arch,
        "batches": names,
        "batch_sizes": sizes,
        "input": f"input_{r}.f32",
        "logits": "calib_logits.f32",
        "first_bn_mean": first_bn(subnet).running_mean[:4].tolist(),
        "first_bn_var": first_bn(subnet).running_var[:4].tolist(),
        "std": logits.std().item(),
    }


def cases(folder, net, archs, calibrated, sizes, kind="ofa_mbv3_narrow"):
    """Writes inputs, logits and cases.json for the architectures."""
    inputs = {r: torch.randn(1, 3, r, r) for r in sorted({a["r"] for a in archs})}
    for r, image in inputs.items():
        write(folder / f"input_{r}.f32", image)
    rows = []
    for i, arch in enumerate(archs):
        subnet = static_subnet(net, arch)
        logits = logits_of(subnet, inputs[arch["r"]])
        write(folder / f"logits_{i}.f32", logits)
        rows.append({
            "arch": arch,
            "input": f"input_{arch['r']}.f32",
            "logits": f"logits_{i}.f32",
            "params": sum(p.numel() for p in subnet.parameters()),
            "std": logits.std().item(),
            "argmax": logits.argmax().item(),
        })
    doc = {"kind": kind, "cases": rows, "calibration": calibration(folder, net, calibrated, sizes)}
    (folder / "cases.json").write_text(json.dumps(doc, indent=1) + "\n")


def make_imagenet():
    """Published structure, published names, legacy container, float32."""
    folder = HERE / "imagenet"
    folder.mkdir(exist_ok=True)
    net = supernet(**IMAGENET).eval()
    randomise_weights(net)
    randomise_statistics(net, torch.randn(32, 3, 64, 64))
    state = net.state_dict()
    old = {published_name(name): tensor for name, tensor in state.items()}
    torch.save({"state_dict": old}, folder / "supernet.pth", _use_new_zipfile_serialization=False)
    archs = [uniform(7, 6, 4, 48), uniform(3, 3, 2, 32), uniform(5, 4, 3, 36), mixed(48), mixed(32), mixed(36)]
    cases(folder, net, archs, mixed(36), [3, 2])
    return state


def make_cifar(state):
    """The same weights with strides for small images and statistics of their
    own; today's names, zip container, float16.

    The reference computes in float32 with the rounded weights: what the file
    holds is what is compared, so no tolerance is spent on the rounding.
    """
    folder = HERE / "cifar"
    folder.mkdir(exist_ok=True)
    net = supernet(**CIFAR).eval()
    net.load_state_dict(state)
    randomise_statistics(net, torch.randn(32, 3, 32, 32))
    stored = half(net.state_dict())
    torch.save({"state_dict": stored}, folder / "supernet.pth")
    net.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in stored.items()})
    description = {
        "kind": "ofa_mbv3", "bn_eps": 1e-5, **CIFAR, "acts": ACTS, "se": SE,
        "ks": KS, "e": E, "d": D, "resolutions": [24, 28, 32],
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "resize": "bilinear", "antialias": True, "crop": "none",
        "classes": [f"class {i}" for i in range(CLASSES)],
    }
    (folder / "supernet.json").write_text(json.dumps(description, indent=1) + "\n")
    archs = [uniform(7, 6, 4, 32), uniform(3, 3, 2, 24), uniform(5, 4, 3, 28), mixed(32), mixed(24), mixed(28)]
    cases(folder, net, archs, mixed(24), [4, 2])


def tiny_state():
    """One tensor for each thing a reader may get wrong; checkpoint_test.go
    repeats these numbers."""
    ten = torch.arange(10, dtype=torch.float32)
    square = torch.arange(8, dtype=torch.float32).view(1, 2, 2, 2)
    state = collections.OrderedDict()
    state["float32"] = torch.arange(6, dtype=torch.float32).view(2, 3) - 2.5
    state["float16"] = torch.tensor([0.5, -65504, 2.0**-24, 2.0**-14, float("inf")], dtype=torch.float16)
    state["bfloat16"] = torch.tensor([1, -2.5, 3.140625], dtype=torch.bfloat16)
    state["float64"] = torch.tensor([0.1, -2], dtype=torch.float64)
    state["scalar"] = torch.tensor(7.5)
    state["empty"] = torch.zeros(0, 3)
    state["head"] = ten[:3]  # shares its storage with tail
    state["tail"] = ten[6:]
    state["every third"] = ten[1::3]
    state["transposed"] = ten[:6].view(2, 3).t()
    state["channels last"] = square.contiguous(memory_format=torch.channels_last)
    state["parameter"] = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    state["num_batches_tracked"] = torch.tensor(5)
    state["mask"] = torch.tensor([True, False])
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return state


def make_containers():
    folder = HERE / "containers"
    folder.mkdir(exist_ok=True)
    state = tiny_state()
    full = {
        "epoch": 3, "lr": 0.1, "best": True, "note": None, "big": 2**40, "small": -3, "seen": [1, 2.5],
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "state_dict": state,
    }
    torch.save(full, folder / "zip.pth")
    torch.save(full, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(state, folder / "bare_zip_protocol4.pth", pickle_protocol=4)
    torch.save(state, folder / "bare_legacy_protocol4.pth", pickle_protocol=4, _use_new_zipfile_serialization=False)
    # A whole module instead of its state_dict: to be refused, naming the class.
    torch.save(torch.nn.Linear(2, 2), folder / "module.pth")


def make_proxyless():
    """Width multiplier 0.1: 8 channels nearly everywhere. The original
    constructor makes it as it is. Legacy container, float16."""
    folder = HERE / "proxyless"
    folder.mkdir(exist_ok=True)
    net = OFAProxylessNASNets(CLASSES, dropout_rate=0, width_mult=0.1, ks_list=KS, expand_ratio_list=E, depth_list=D).eval()
    randomise_weights(net)
    randomise_statistics(net, torch.randn(32, 3, 64, 64))
    stored = half(net.state_dict())
    net.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in stored.items()})
    old = {published_name(name): tensor for name, tensor in stored.items()}
    torch.save({"state_dict": old}, folder / "supernet.pth", _use_new_zipfile_serialization=False)

    def arch(ks, e, d, r):
        return {"ks": ks, "e": e, "d": [*d, 1], "r": r}

    def one(k, e, d, r):
        return arch([k] * 21, [e] * 21, [d] * 5, r)

    def some(r):
        return arch(random.choices(KS, k=21), random.choices(E, k=21), random.choices(D, k=5), r)

    archs = [one(7, 6, 4, 48), one(3, 3, 2, 32), some(36), some(48)]
    cases(folder, net, archs, some(36), [3, 2], "ofa_proxyless_narrow")


def make_resnet():
    """A ResNet50 of an eighth of the width. The original constructor reads the
    stages' widths from the class; the stem's are rounded up to 8 channels."""
    folder = HERE / "resnet"
    folder.mkdir(exist_ok=True)
    published = ResNets.STAGE_WIDTH_LIST
    ResNets.STAGE_WIDTH_LIST = [32, 64, 64, 96]
    ratios = [0.2, 0.25, 0.35]
    net = OFAResNets(CLASSES, depth_list=[0, 1, 2], expand_ratio_list=ratios, width_mult_list=[0.65, 0.8, 1.0]).eval()
    ResNets.STAGE_WIDTH_LIST = published
    randomise_weights(net)
    # As after training, a block adds less than it is given. Else eighteen random
    # blocks amplify float32's own rounding beyond the tolerance.
    for block in net.blocks:
        block.conv3.bn.bn.weight.data.mul_(0.4)
    randomise_statistics(net, torch.randn(16, 3, 64, 64))
    stored = half(net.state_dict())
    torch.save({"state_dict": stored}, folder / "supernet.pth")
    # Not by load_state_dict, which here takes apart the names it is given.
    for name, t in net.state_dict().items():
        t.copy_(stored[name])

    def some(r):
        return {
            "e": random.choices(ratios, k=18), "d": [random.choice([0, 2]), *random.choices([0, 1, 2], k=4)],
            "w": random.choices([0, 1, 2], k=6), "r": r,
        }

    archs = [
        {"e": [0.35] * 18, "d": [2] * 5, "w": [2] * 6, "r": 64},
        {"e": [0.2] * 18, "d": [0] * 5, "w": [0] * 6, "r": 36},
        some(50), some(64), some(36), some(50),
    ]
    cases(folder, net, archs, some(50), [3, 2], "ofa_resnet50_narrow")


def main():
    random.seed(SEED)
    torch.manual_seed(SEED)
    make_containers()
    make_cifar(make_imagenet())
    make_proxyless()
    make_resnet()


if __name__ == "__main__":
    main()

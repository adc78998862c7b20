"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): the
momentum of a weight matrix, made orthogonal before it is subtracted, so that
directions with small gradients learn as fast as those with large ones.

Here it is for 1x1 convolutions. A sandwich step always has the gradient of the
largest member, so the matrix is whole however small the other members are.
"""
import torch

MOST = 128  # rows or columns of the shorter side: the cost grows with its square
STEPS = 5  # of Newton and Schulz's iteration, with Jordan's coefficients
COEFFICIENTS = 3.4445, -4.7750, 2.0315


def fits(p):
    """Whether a parameter is a 1x1 convolution that Muon is cheap for."""
    return p.ndim == 4 and p.shape[2:] == (1, 1) and 1 < min(p.shape[:2]) <= MOST


def orthogonal(g):
    """The nearest matrix whose singular values are all about 1."""
    a, b, c = COEFFICIENTS
    tall = g.shape[0] > g.shape[1]
    x = (g.t() if tall else g) / (g.norm() + 1e-7)
    for _ in range(STEPS):
        s = x @ x.t()
        x = torch.addmm(x, torch.addmm(s, s, s, beta=b, alpha=c), x, beta=a)
    return x.t() if tall else x


class Muon(torch.optim.Optimizer):
    """lr is the size of a step's singular values for a wide matrix; a tall one
    takes larger steps, by the square root of its shape."""

    def __init__(self, params, lr=0.01, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, pool):
        """One step; the matrices are shared out over a pool of threads."""
        work = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        list(pool.map(lambda w: self.move(*w), work))

    @torch.no_grad()
    def move(self, group, p):
        g = p.grad.flatten(1)
        if not self.state[p]:
            self.state[p]["momentum"] = torch.zeros_like(g)
        m = self.state[p]["momentum"].lerp_(g, 1 - group["momentum"])
        u = orthogonal(g.lerp(m, group["momentum"]))
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(u.view_as(p), alpha=-group["lr"] * max(1, g.shape[0] / g.shape[1]) ** 0.5)

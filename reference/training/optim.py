"""Muon for matrices and convolution kernels, AdamW for the rest, one object with one state.

Muon (Jordan 2024): the momentum of a matrix [out, everything else] is made nearly orthogonal by Newton-Schulz steps.
"""

import math

import torch

MUON_RATE, ADAM_RATE = 0.01, 2e-3
ENDS = (
    "conv_in.",
    "patch_embedding",
    "head.",
    "modulation",
    "router",
    "shared",
    "relative_attention_bias",
    "time_embedding",
)


@torch.no_grad()
def orthogonal(matrix, steps=4):
    """The nearest orthogonal matrix, roughly: five-term Newton-Schulz in bfloat16. A shuffling step up is taken as the
    matrices [128, in] of its sub-pixels: wide ones as a whole would cost more than the rest of the network."""
    rows, columns = matrix.shape
    parts = rows // 128 if min(rows, columns) >= 256 and rows % 128 == 0 else 1
    x = matrix.bfloat16().view(-1, parts, columns).transpose(0, 1)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    x = x.mT if tall else x
    return x.transpose(0, 1).reshape(rows, columns).float()


def is_matrix(name, p):
    """Whether Muon takes a parameter: no first or last layer, no depth-wise kernel, nothing thin."""
    if p.dim() < 2 or any(end in name for end in ENDS) or p.shape[1] == 1 or min(p.shape[0], p[0].numel()) < 16:
        return False
    return not (p.dim() == 5 and p.shape[0] == 3)


class Optimizer:
    """named: list of (name, parameter). `step(gradients, rate)` takes a list in the same order, None where there is none."""

    def __init__(self, named, weight_decay=0.0):
        self.named, self.weight_decay, self.count = named, weight_decay, 0
        self.muon = [is_matrix(name, p) for name, p in named]
        self.first = [torch.zeros_like(p) for _, p in named]
        self.second = [None if muon else torch.zeros_like(p) for muon, (_, p) in zip(self.muon, named)]

    @torch.no_grad()
    def step(self, gradients, rate, run=None):
        """`rate` multiplies both rates; `run(function, items)` maps in parallel, if given."""
        self.count += 1
        work = [i for i, g in enumerate(gradients) if g is not None]
        matrices = sorted((i for i in work if self.muon[i]), key=lambda i: -self.named[i][1].numel())
        adam = [i for i in work if not self.muon[i]]
        (run or (lambda f, items: [f(i) for i in items]))(lambda i: self.muon_step(i, gradients[i], rate), matrices)
        self.adam_step(adam, gradients, rate)

    @torch.no_grad()
    def muon_step(self, i, gradient, rate):
        p, momentum, rate = self.named[i][1], self.first[i], MUON_RATE * rate
        momentum.lerp_(gradient, 0.05)
        matrix = gradient.lerp(momentum, 0.95).reshape(len(p), -1)
        scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        if self.weight_decay:
            p.mul_(1 - rate * self.weight_decay)
        p.add_(orthogonal(matrix).reshape(p.shape), alpha=-rate * scale)

    def adam_step(self, chosen, gradients, rate, betas=(0.9, 0.98)):
        if not chosen:
            return
        g = [gradients[i] for i in chosen]
        p, first, second = ([many[i] for i in chosen] for many in ([q for _, q in self.named], self.first, self.second))
        torch._foreach_lerp_(first, g, 1 - betas[0])
        torch._foreach_mul_(second, betas[1])
        torch._foreach_addcmul_(second, g, g, 1 - betas[1])
        correction = math.sqrt(1 - betas[1] ** self.count)
        size = ADAM_RATE * rate * correction / (1 - betas[0] ** self.count)
        below = torch._foreach_sqrt(second)
        torch._foreach_add_(below, 1e-8 * correction)
        if self.weight_decay:
            torch._foreach_mul_(p, 1 - ADAM_RATE * rate * self.weight_decay)
        torch._foreach_addcdiv_(p, first, below, -size)

    def state(self):
        return {"count": self.count, "first": self.first, "second": self.second}

    def load(self, state):
        self.count = state["count"]
        for mine, theirs in ((self.first, state["first"]), (self.second, state["second"])):
            for a, b in zip(mine, theirs):
                if a is not None:
                    a.copy_(b)


def rate_at(fraction):
    """Warm-up over the first hundredth, then a cosine to 2 %."""
    return min(1.0, (fraction + 1e-4) / 0.01) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction))))

"""The renderer for a GPU: many scenes at once, the formulas of `render.py` in float32 (bytes may differ by one)."""

import math

import numpy as np
import torch

from .render import FRAMES, tracks
from .scenes import SHAPES


def distances(p, q, r):
    """Signed distances of the four kinds of shapes, in the order of SHAPES."""
    rho = (p * p + q * q).sqrt()
    outer, wedge = 1.15 * r, math.pi / 5
    inner = 0.5 * outer
    psi = (torch.remainder(torch.atan2(p, -q) + wedge, 2 * wedge) - wedge).abs()
    edge_x, edge_y = inner * math.cos(wedge) - outer, inner * math.sin(wedge)
    star = (edge_y * (rho * psi.cos() - outer) - edge_x * rho * psi.sin()) / torch.hypot(edge_x, edge_y)
    square = torch.maximum(p.abs(), q.abs()) - 0.87 * r
    return rho - r, square, torch.maximum(0.866025404 * p.abs() - 0.5 * q, q) - 0.575 * r, star


def render_all(scenes, size, chosen, device):
    """chosen: a list of frame numbers a scene, all equally many -> (video float [B, T, S, S, 3] of whole numbers from 0 to 255,
    mask [B, T, S, S])."""

    def tensor(values):
        return torch.tensor(np.array(values), dtype=torch.float32, device=device)

    count = len(scenes)
    at = (torch.arange(size, device=device) + 0.5) / size
    x, y = at.view(1, 1, 1, -1), at.view(1, 1, -1, 1)
    angle = tensor([s["background"]["angle"] for s in scenes]).view(-1, 1, 1, 1)
    first, last = (tensor([s["background"][end] for s in scenes]).view(-1, 1, 1, 1, 3) for end in ("from", "to"))
    ramp = (0.5 + 0.7 * ((x - 0.5) * angle.cos() + (y - 0.5) * angle.sin())).clamp(0, 1)
    video = (first + (last - first) * ramp[..., None]).repeat(1, len(chosen[0]), 1, 1, 1)
    mask = torch.zeros(video.shape[:-1], device=device)
    softness = tensor([s["softness"] for s in scenes]).view(-1, 1, 1, 1)
    for slot in range(max(len(s["shapes"]) for s in scenes)):
        there = [slot < len(s["shapes"]) for s in scenes]
        shapes = [s["shapes"][slot if here else 0] for s, here in zip(scenes, there)]
        path = tensor([tracks({"shapes": [shape]}, FRAMES)[0][frames] for shape, frames in zip(shapes, chosen)])
        cx, cy, r, turn = (v[..., None, None] for v in path.unbind(-1))
        dx, dy = x - cx, y - cy
        p, q = dx * turn.cos() + dy * turn.sin(), dy * turn.cos() - dx * turn.sin()
        kinds = torch.tensor([SHAPES.index(shape["shape"]) for shape in shapes], device=device).view(-1, 1, 1, 1)
        s = sum(torch.where(kinds == k, d, torch.zeros_like(d)) for k, d in enumerate(distances(p, q, r)))
        alpha = (0.5 - s * size / softness).clamp(0, 1) * tensor(there).view(-1, 1, 1, 1)
        colour = tensor([shape["rgb"] for shape in shapes]).view(count, 1, 1, 1, 3)
        video = video + (colour - video) * alpha[..., None]
        mask = torch.maximum(mask, alpha)
    vignette = tensor([s["vignette"] for s in scenes]).view(-1, 1, 1, 1, 1)
    video = video * (1 - 2 * vignette * ((x - 0.5) ** 2 + (y - 0.5) ** 2)[..., None])
    return (video + 0.5).floor().clamp(0, 255), mask

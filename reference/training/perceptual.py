"""Perceptual loss: whether each shape can be told, by a small network that was taught on true clips which shape it sees.

Losses of pixels alone make a decoder that is not sure of a corner round it off: the median of what a star may look like at any turn is
a disc. The paper's answer are LPIPS and a discriminator (fsvideo-spec.md A20). LPIPS is features of a network that knows photos; here
the network knows the four shapes. Crops follow the true tracks, so a shape that is somewhere else is no shape.
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from .clips import draw_scenes, to_tensors
from .render import FRAMES, render, tracks
from .scenes import SHAPES

SIDE = 32  # of a crop in pixels
REACH = 1.35  # half of a crop's side in radii of the shape, whose points reach to 1.15
JITTER = 0.2  # crops lie beside the shape's centre by up to so many radii
CLIPS = 48  # in a step of teaching
WIDTHS = (16, 32, 64, 64)
FEATURE_WEIGHT, NAME_WEIGHT = 0.3, 0.12  # beside losses.video_loss, whose value is about 0.3
FIRST_FRAME, LAST_FRAME = 0.4, 1.6  # what a clip's first and last frame count; the farther from the picture, the harder


class ShapeNet(nn.Module):
    """Crops [N, 3, 32, 32] in [-1, 1] -> logits [N, 4] of scenes.SHAPES, and the features of its levels."""

    def __init__(self):
        super().__init__()
        ins = (3, *WIDTHS[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(i, o, 3, 2 if level else 1, 1), nn.GroupNorm(4, o), nn.SiLU(),
                nn.Conv2d(o, o, 3, 1, 1), nn.GroupNorm(4, o), nn.SiLU(),
            )
            for level, (i, o) in enumerate(zip(ins, WIDTHS))
        )  # fmt: skip
        self.head = nn.Linear(WIDTHS[-1], len(SHAPES))

    def forward(self, x):
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return self.head(x.mean((2, 3))), features


def boxes(draw, scenes, frames=slice(None)):
    """-> (clip of each shape [N], centres and half sides of its crops [N, T, 3] in parts of the side, names [N])."""
    found = [(i, path, shape["shape"]) for i, scene in enumerate(scenes) for shape, path in zip(scene["shapes"], tracks(scene))]
    clips, paths, names = zip(*found)
    device = draw.torch.device
    places = torch.tensor(np.stack(paths)[:, frames, :3], dtype=torch.float32, device=device)
    beside = 2 * draw.uniform(*places.shape[:2], 2) - 1
    places[..., :2] += JITTER * places[..., 2:] * beside
    places[..., 2] *= REACH
    return torch.tensor(clips, device=device), places, torch.tensor([SHAPES.index(name) for name in names], device=device)


def crops(video, clips, places):
    """[B, 3, T, S, S] -> [N * T, 3, SIDE, SIDE]: means of four points each, between pixels linearly."""
    at = (torch.arange(2 * SIDE, device=video.device) + 0.5) / SIDE - 1
    x, y, half = (each.flatten()[:, None, None] for each in (2 * places).unbind(-1))
    columns = (x - 1 + half * at).expand(-1, 2 * SIDE, -1)
    rows = (y - 1 + half * at[:, None]).expand(-1, -1, 2 * SIDE)
    frames = video.float().transpose(1, 2)[clips].flatten(0, 1)
    points = F.grid_sample(frames, torch.stack([columns, rows], -1), padding_mode="border", align_corners=False)
    return F.avg_pool2d(points, 2)


def perceptual_loss(network, output, video, draw, scenes):
    """-> (loss, share of the crops whose shape is told). Distance of features, normalised over the channels as in LPIPS, and
    cross-entropy of the name."""
    clips, places, names = boxes(draw, scenes)
    count, frames = places.shape[:2]
    names = names.repeat_interleave(frames)
    weight = torch.linspace(FIRST_FRAME, LAST_FRAME, frames, device=video.device).repeat(count)
    logits, features = network(crops(output, clips, places))
    with torch.no_grad():
        _, wanted = network(crops(video, clips, places))
    distance = sum(
        (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2)) for a, b in zip(features, wanted)
    )
    loss = FEATURE_WEIGHT * distance + NAME_WEIGHT * F.cross_entropy(logits, names, reduction="none")
    return (weight * loss).mean(), (logits.argmax(1) == names).float().mean().item()


def spoiled(x, draw):
    """Crops as a decoder may make them: half of them blurred, all with some noise; their shape can still be told."""
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = draw.uniform(len(x), 1, 1, 1) * (draw.uniform(len(x), 1, 1, 1) < 0.5)
    return x + share * (blurred - x) + 0.15 * draw.uniform(len(x), 1, 1, 1) * draw.normal(*x.shape)


def shape_phase(studio):
    """Teaches the shapes on true frames."""
    network = studio.network("shape_net")

    def loss(draw, fraction):
        scenes = draw_scenes(draw, CLIPS)
        frame = int(draw.numpy.integers(FRAMES))
        video, _ = to_tensors([render(scene, studio.size, only=[frame]) for scene in scenes], studio.device)
        clips, places, names = boxes(draw, scenes, slice(frame, frame + 1))
        logits, _ = network(spoiled(crops(video, clips, places), draw))
        error = F.cross_entropy(logits, names)
        return error, {"error": error.item(), "told": (logits.argmax(1) == names).float().mean().item()}

    return {"shape_net": network}, loss, None

"""Clips as tensors: what the autoencoder is trained on and scored with.

Videos are [B, 3, T, S, S] in [-1, 1], channels-last in memory; masks [B, 1, T, S, S] in [0, 1].
"""

import numpy as np
import torch

from .render import FRAMES, render
from .render_torch import render_all
from .scenes import scene_of

NOISY = 0.2  # part of the training clips whose encoder sees sensor noise


def to_tensors(clips, device):
    """[(uint8 [T, S, S, 3], mask [T, S, S]), ...] -> (videos, masks)."""
    video = torch.from_numpy(np.stack([video for video, _ in clips])).to(device)
    mask = torch.from_numpy(np.stack([mask for _, mask in clips])).to(device)[:, None]
    return video.permute(0, 4, 1, 2, 3).float().mul_(2 / 255).sub_(1), mask


def cropped(clip, rng, size):
    """A window of size x size, that with the shape in it more often than not."""
    video, mask = clip
    room = video.shape[1] - size
    where = np.argwhere(mask[0] > 0.5)
    if len(where) and rng.random() < 0.7:
        corner = where[rng.integers(len(where))] - rng.integers(0, size, 2)
        top, left = np.clip(corner, 0, room)
    else:
        top, left = rng.integers(0, room + 1, 2)
    window = slice(top, top + size), slice(left, left + size)
    return video[:, window[0], window[1]], mask[:, window[0], window[1]]


def draw_clips(draw, count, size, frames, crop=None):
    """A worker's clips: `frames` neighbouring frames of rendered scenes, cut to `crop` if given."""
    return clips_of(draw, draw_scenes(draw, count), size, frames, crop)


def draw_scenes(draw, count):
    """A worker's scenes of a step."""
    return [scene_of(draw.clip(i, count)) for i in range(count)]


def clips_of(draw, scenes, size, frames, crop=None):
    """The same of given scenes."""
    chosen = [[int(start) + t for t in range(frames)] for start in draw.numpy.integers(0, FRAMES - frames + 1, len(scenes))]
    if draw.torch.device.type == "cuda":
        return draw_on_gpu(draw, scenes, size, chosen, crop)
    clips = [render(scene, size, only=some) for scene, some in zip(scenes, chosen)]
    if crop:
        clips = [cropped(clip, draw.numpy, crop) for clip in clips]
    return to_tensors(clips, draw.torch.device)


def draw_on_gpu(draw, scenes, size, chosen, crop):
    """The same with all scenes rendered at once; windows are where they fall."""
    video, mask = render_all(scenes, size, chosen, draw.torch.device)
    if crop:
        corners = draw.numpy.integers(0, size - crop + 1, (len(scenes), 2))
        windows = [(..., slice(i, i + crop), slice(j, j + crop)) for i, j in corners]
        mask = torch.stack([m[window] for m, window in zip(mask, windows)])
        video = torch.stack([v[(*window, slice(None))] for v, window in zip(video, windows)])
    return video.permute(0, 4, 1, 2, 3).mul(2 / 255).sub_(1), mask[:, None]


def seen(video, draw):
    """What the encoder sees: the video, a part of the clips with sensor noise."""
    level = (draw.uniform(len(video), 1, 1, 1, 1) * 0.06 * (draw.uniform(len(video), 1, 1, 1, 1) < NOISY)).to(video)
    return video + level * draw.normal(*video.shape)

"""Quick scores in PyTorch on held-out scenes: the autoencoder, and clips that the whole pipeline makes.

    python3 -m training.score --from DIR [--count 48] [--guidance 3] [--strip FILE.png]

The colour tracker knows each scene's ground and colours: a pixel belongs to a shape by how far it lies on the way from the
ground to the shape's colour. Official scores come from the engine.
"""

import argparse
import json
import math

import numpy as np
import torch

from fsvideo.pipeline import Inputs, Models, image_to_video

from . import captions, fast, words
from .autoencoder_phases import autoencoder_score, reconstruct
from .clips import to_tensors
from .latents import Latents
from .render import FRAMES, coverage, ground, render, tracks
from .scenes import DIRECTIONS, HELD_OUT, scene_of
from .studio import Studio
from .words import TEXT_LEN

SCHEDULER = {
    "frames": FRAMES,
    "fps": 8,
    "size_multiple": 128,
    "max_pixels": 65536,
    "base": {"steps": 30, "solver": "unipc", "shift": 3, "guidance_scale": 3, "sigma_start": 1},
    "refiner": {"steps": 8, "solver": "euler", "shift": 3, "sigma_start": 1},
    "mask": {"lo": 0.1, "hi": 0.9, "granularity": "map", "polarity": "error"},
    "condition": "zero_latents",
    "pad": "replicate",
    "negative_prompt": "",
}


def track(frame, shape, back):
    """Where a colour is in a frame [S, S, 3] (0..255) in front of the ground `back`: (x, y, area) in parts of the picture,
    and the soft mask [S, S]; x is None where nothing is found."""
    colour = np.array(shape["rgb"], float)
    way = colour - back
    along = ((frame - back) * way).sum(-1) / (way * way).sum(-1)
    beside = np.abs(frame - back - along[..., None] * way).sum(-1)
    mask = np.where((along > 0.4) & (beside < 100), np.clip(along, 0, 1), 0.0)
    area, at = mask.mean(), (np.arange(len(frame)) + 0.5) / len(frame)
    if area < 0.002:
        return None, None, area, mask
    total = mask.sum()
    return (mask * at[None]).sum() / total, (mask * at[:, None]).sum() / total, area, mask


def follow(video, scene):
    """The first shape's track [T, 3] (x, y, area; nan where lost) and its masks [T, S, S] in uint8 frames [T, S, S, 3]."""
    size = video.shape[1]
    at = (np.arange(size) + 0.5) / size - 0.5
    shade = 1 - 2 * scene["vignette"] * (at[None] ** 2 + at[:, None] ** 2)[..., None]
    found = [track(frame.astype(float), scene["shapes"][0], ground(scene, size) * shade) for frame in video]
    path = np.array([[np.nan if v is None else v for v in f[:3]] for f in found], float)
    return path, np.stack([f[3] for f in found])


def shape_of(mask):
    """The shape whose coverage, at the mask's place and area and any turn, differs least from the mask."""
    size, area = len(mask), mask.mean()
    if area < 0.002:
        return None
    at = (np.arange(size) + 0.5) / size
    x, y = (mask * at[None]).sum() / mask.sum(), (mask * at[:, None]).sum() / mask.sum()
    best = (math.inf, None)
    for kind, fill in (("circle", math.pi), ("square", 3.0276), ("triangle", 1.7181), ("star", 1.9431)):
        r = math.sqrt(area / fill)
        for turn in (0.0,) if kind == "circle" else np.arange(0, 2 * math.pi / 3, math.pi / 12):
            shape = {"shape": kind, "start": (x, y), "radius": r, "angle": turn, "motion": "still", "travel": 0.0}
            rows, columns, alpha = coverage(shape, 0.0, size, 1.0)
            error = (mask**2).sum() - (mask[rows, columns] ** 2).sum() + ((mask[rows, columns] - alpha) ** 2).sum()
            best = min(best, (error, kind))
    return best[1]


def judge(video, scene, motion=None):
    """Figures of one clip: direction as told, colour and shape kept in the last frame, position error in parts of the side."""
    path, masks = follow(video, scene)
    truth, size = tracks(scene)[0], video.shape[1]
    motion = motion or scene["shapes"][0]["motion"]
    moved, wanted = path[-1, :2] - path[0, :2], truth[-1, :2] - truth[0, :2]
    figures = {}
    if motion in DIRECTIONS:
        unit, length = np.array(DIRECTIONS[motion]), np.linalg.norm(moved)
        right = not np.isnan(length) and moved @ unit > math.cos(math.pi / 6) * length
        figures["direction"] = float(right and length > 0.4 * np.linalg.norm(wanted))
    area = render(scene, size, only=[FRAMES - 1])[1].mean()
    figures["colour"] = float(not np.isnan(path[-1, 0]) and 0.4 < path[-1, 2] / area < 2.5)
    figures["shape"] = float(shape_of(masks[-1]) == scene["shapes"][0]["shape"])
    figures["position"] = float(np.linalg.norm(path[-1, :2] - truth[-1, :2]))
    return figures


def to_bytes(video):
    """[1, 3, T, S, S] in [-1, 1] -> uint8 [T, S, S, 3]."""
    return ((video[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).cpu().numpy()


def mean(rows):
    """Means of figures over clips, those that are not a number left out; the position error's median."""
    keys = {key for row in rows for key in row}
    columns = {key: [row[key] for row in rows if key in row and not math.isnan(row[key])] for key in keys}
    return {key: float(np.median(v) if key == "position" else np.mean(v)) for key, v in columns.items() if v}


class Pipeline:
    """The trained networks together."""

    def __init__(self, studio, decoder="decoder", base="transformer"):
        names = ("encoder", decoder, base, "refiner", "latent_upsampler")
        self.models = Models(*(studio.network(name).eval() for name in names))
        self.text_encoder = studio.network("text_encoder").eval()
        found = Latents(studio) if not studio.has("statistics") else None
        mean, std = (found.mean, found.std) if found else studio.weights("statistics").values()
        self.models.encoder.mean, self.models.encoder.std = mean.to(studio.device), std.to(studio.device)
        self.device, self.size = studio.device, studio.size

    def generate(self, scene, prompt, seed, scheduler=SCHEDULER):
        """-> uint8 [17, S, S, 3] from the scene's first frame."""
        pictures = [render(scene, size, only=[0])[0] for size in (self.size // 2, self.size)]
        low, high = (torch.from_numpy(p).permute(3, 0, 1, 2)[None].float().div(127.5).sub(1) for p in pictures)
        ids = words.encode(prompt), words.encode(scheduler["negative_prompt"])
        text, negative = (self.text_encoder.embed([each], TEXT_LEN) for each in ids)
        draw, cells = torch.Generator().manual_seed(seed), self.size // 64
        noise = [torch.randn(1, 128, 5, n, n, generator=draw).to(self.device) for n in (cells // 2, cells)]
        low, high = low.to(self.device), high.to(self.device)
        inputs = Inputs(low, high, text, negative, None, noise[0], noise[1])
        with torch.no_grad():
            return to_bytes(image_to_video(self.models, inputs, scheduler)["video"])


def generation_score(pipeline, count, scheduler=SCHEDULER, strip=None):
    """Eight directions in turn on held-out scenes of one shape; the same with the prompt of another direction."""
    names, told, exchanged, rows = list(DIRECTIONS), [], [], []
    for i in range(count):
        motion = names[i % 8]
        scene = scene_of(HELD_OUT + 50_000 + i, motion, 1)
        video = pipeline.generate(scene, captions.plain(scene), i, scheduler)
        truth = render(scene, pipeline.size)[0]
        square = ((video[0].astype(float) - truth[0]) / 255) ** 2
        told.append({**judge(video, scene), "first_psnr": -10 * math.log10(max(square.mean(), 1e-10))})
        other = scene_of(HELD_OUT + 50_000 + (i * 37 + 11) % 1000, names[(i + 1 + i // 8 % 7) % 8], 1)
        if i % 2 == 0:
            wrong = judge(pipeline.generate(scene, captions.plain(other), i, scheduler), scene)
            exchanged.append({"exchanged": wrong["direction"]})
        if len(rows) < 16:
            rows += [np.concatenate(list(v[::4]), 1) for v in (truth, video)]
    if strip:
        from PIL import Image

        Image.fromarray(np.concatenate(rows)).save(strip)
    return {**mean(told), **mean(exchanged)}


def ceiling_score(encoder, decoder, count, size):
    """The tracker's figures on the autoencoder's reconstruction of the same scenes: what no generator can exceed."""
    rows = []
    for i in range(count):
        scene = scene_of(HELD_OUT + 50_000 + i, list(DIRECTIONS)[i % 8], 1)
        video, _ = to_tensors([render(scene, size)], next(encoder.parameters()).device)
        rows.append(judge(to_bytes(reconstruct(encoder, decoder, video)), scene))
    return {f"ceiling_{key}": value for key, value in mean(rows).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--guidance", type=float, default=SCHEDULER["base"]["guidance_scale"])
    parser.add_argument("--decoder", default="decoder")
    parser.add_argument("--base", default="transformer")
    parser.add_argument("--refiner-steps", type=int, default=SCHEDULER["refiner"]["steps"])
    parser.add_argument("--strip")
    options = parser.parse_args()
    fast.install()
    studio = Studio(options.folder, options.device, options.size, 1)
    networks = studio.network("encoder"), studio.network(options.decoder)
    print(json.dumps(autoencoder_score(*networks, studio.size, studio.device)), flush=True)
    print(json.dumps(ceiling_score(*networks, options.count, studio.size)), flush=True)
    scheduler = {**SCHEDULER, "base": {**SCHEDULER["base"], "guidance_scale": options.guidance}}
    scheduler["refiner"] = {**SCHEDULER["refiner"], "steps": options.refiner_steps}
    pipeline = Pipeline(studio, options.decoder, options.base)
    print(json.dumps(generation_score(pipeline, options.count, scheduler, options.strip)))


if __name__ == "__main__":
    main()

"""The latents of many clips at the base's size and at the full size: computed once, then the DITs train on them.

Chunks of 256 clips lie in DIR/latents/: {"low": half [N, C, t, h, w], "high": half [N, C, t, 2h, 2w], "first": first scene
number}. What the scenes are, and so their captions, follows from their numbers. DIR/latents/encoder says which encoder made
them; with another one they are made again. Statistics per channel make the latents' normalisation.
"""

import glob
import hashlib
import os
import shutil
import time

import torch
import torch.nn.functional as F

from . import captions, fast, words
from .clips import to_tensors
from .loop import atomically, precision
from .render import FRAMES, render
from .render_torch import render_all
from .scenes import scene_of

CHUNK, FIRST_SCENE = 256, 100_000_000


def fingerprint(encoder):
    digest = hashlib.sha256()
    for p in encoder.parameters():
        digest.update(p.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def encode(encoder, video):
    """Latents [B, C, t, h, w] in float32, the autoencoder's own units."""
    with torch.no_grad(), precision(video.device):
        return encoder(video.contiguous(memory_format=fast.LAST))[0].float()


def encode_scenes(studio, encoder, numbers):
    """Latents (low, high) of scenes by number, the work shared by the workers. Every second scene's small video is its large
    one made smaller, as a user's picture will be; the others' are drawn at that size."""

    def videos(scenes, size):
        if studio.gpu:
            video = render_all(scenes, size, [list(range(FRAMES))] * len(scenes), studio.device)[0]
            return video.permute(0, 4, 1, 2, 3).mul(2 / 255).sub_(1)
        return to_tensors([render(scene, size) for scene in scenes], studio.device)[0]

    def part(some):
        scenes = [scene_of(number) for number in some]
        high, low = videos(scenes, studio.size), videos(scenes, studio.size // 2)
        low[::2] = F.avg_pool3d(high[::2], (1, 2, 2))
        return encode(encoder, low).cpu(), encode(encoder, high).cpu()

    each = 8 if not studio.gpu else 32
    parts = studio.workers.run(part, [numbers[i : i + each] for i in range(0, len(numbers), each)])
    return [torch.cat(some) for some in zip(*parts)]


def make(studio, minutes, log=print):
    """Adds chunks until the time is used up, one to score with and one to learn from at least; starts afresh where the encoder has
    changed."""
    encoder = studio.network("encoder").eval()
    folder, mark = studio.path("latents"), fingerprint(encoder)
    if os.path.exists(os.path.join(folder, "encoder")):
        with open(os.path.join(folder, "encoder")) as file:
            if file.read() != mark:
                shutil.rmtree(folder)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "encoder"), "w") as file:
        file.write(mark)
    start, count = time.monotonic(), len(glob.glob(os.path.join(folder, "*.pt")))
    while count < 2 or time.monotonic() - start < 60 * minutes:
        first = FIRST_SCENE + CHUNK * chunk_number(count, studio.clips_seen())
        numbers = list(range(first, first + CHUNK))
        low, high = (latents.half() for latents in encode_scenes(studio, encoder, numbers))
        if not (low.isfinite().all() and high.isfinite().all()):
            raise RuntimeError("latents are not finite")
        chunk = {"low": low, "high": high, "first": first}
        atomically(os.path.join(folder, f"{count:05}.pt"), lambda path, chunk=chunk: torch.save(chunk, path))
        count += 1
    log(f"{count * CHUNK} clips")
    return True


def chunk_number(i, clips_seen):
    """The i-th chunk that is made: the first is kept for the loss on unseen clips, the others are those that the weights
    which the run began with were not trained on."""
    return 0 if i == 0 else max(1, clips_seen // CHUNK) + i - 1


class Latents:
    """All cached latents, normalised: low [N, C, t, h, w], high [N, C, t, 2h, 2w], and the scenes."""

    def __init__(self, studio):
        paths = sorted(glob.glob(studio.path("latents", "*.pt")))
        chunks = [torch.load(path, weights_only=True) for path in paths]
        low, high = (torch.cat([chunk[key] for chunk in chunks]).float() for key in ("low", "high"))
        self.mean, self.std = statistics(low, high)
        self.low = ((low - self.mean) / self.std).to(studio.device)
        self.high = ((high - self.mean) / self.std).to(studio.device)
        self.mean, self.std = self.mean.to(studio.device), self.std.to(studio.device)
        self.numbers = [chunk["first"] + i for chunk in chunks for i in range(len(chunk["low"]))]
        self.scenes = [scene_of(number) for number in self.numbers]

    def __len__(self):
        return len(self.scenes)

    def own_units(self, normalised):
        return normalised * self.std + self.mean

    def normalise(self, latents):
        return (latents - self.mean) / self.std

    def prompts(self, rng, chosen, forget=0.0):
        """Token ids of a caption of each chosen clip; empty (`</s>` alone) for a part of them."""
        empty = words.encode("")
        return [
            empty if rng.random() < forget else worn(rng, words.encode(captions.caption(rng, self.scenes[i])))
            for i in chosen
        ]


def worn(rng, ids, part=0.006):
    """A prompt in which a few words are not known, so that a stranger's prompt does no harm."""
    return [words.IDS[words.UNKNOWN] if i > 2 and rng.random() < part else i for i in ids]


def statistics(low, high):
    """Mean and standard deviation per channel [C, 1, 1, 1], both sizes alike."""
    mean = (low.mean((0, 2, 3, 4)) + high.mean((0, 2, 3, 4))) / 2
    square = [(z - mean.view(-1, 1, 1, 1)).square().mean((0, 2, 3, 4)) for z in (low, high)]
    std = ((square[0] + square[1]) / 2).sqrt().clamp(min=1e-3)
    return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)

"""What upsampler and refiner make of the cached clips' small latents: the latents that a decoder meets in use.

`decoder` phases learn from them beside the encoder's own: what the refiner loses of a shape, the first frame's features still
tell. Files lie in DIR/refined/ beside those of DIR/latents/, normalised, with the number of their first scene; DIR/refined/networks says by
which upsampler and refiner they were made, and with others they are made again.
"""

import glob
import os
import shutil
import time

import torch

from fsvideo.pipeline import network_velocity
from fsvideo.sampling import make_sigmas, sample

from .dit_phases import refiner_inputs
from .latents import Latents, fingerprint
from .loop import Draw, atomically
from .scenes import scene_of
from .text import embed
from .words import TEXT_LEN

CHUNK = 256
STEPS, SHIFT, DISTURBED = 8, 3.0, 0.35  # small latents are off by up to so much of the standard deviation, as the base's are


def make(studio, minutes, log=print):
    """Refines chunk after chunk until the time is used up or all are there."""
    latents, upsampler = Latents(studio), studio.network("latent_upsampler").eval()
    refiner, text_encoder = studio.network("refiner").eval(), studio.network("text_encoder").eval()
    folder, mark = studio.path("refined"), fingerprint(upsampler) + fingerprint(refiner)
    marks = os.path.join(folder, "networks")
    if os.path.exists(marks):
        with open(marks) as file:
            if file.read() != mark:
                shutil.rmtree(folder)
    os.makedirs(folder, exist_ok=True)
    with open(marks, "w") as file:
        file.write(mark)

    def part(chosen):
        draw = Draw(10, chosen[0], 0, 1, studio.device)
        low, high = latents.low[chosen], latents.high[chosen]
        level = DISTURBED * draw.uniform(len(chosen), 1, 1, 1, 1)
        low = torch.cat([low[:, :, :1], (low + level * draw.normal(*low.shape))[:, :, 1:]], 2)
        with torch.no_grad():
            mask, condition = refiner_inputs(latents, upsampler, low, high)
            text = embed(text_encoder, latents.prompts(draw.numpy, chosen), TEXT_LEN)
            velocity = network_velocity(refiner, mask, condition, [text], None)
            return sample("euler", velocity, draw.normal(*high.shape), make_sigmas("euler", STEPS, SHIFT)).half().cpu()

    start, count = time.monotonic(), len(glob.glob(os.path.join(folder, "*.pt")))
    while time.monotonic() - start < 60 * minutes and (count + 1) * CHUNK <= len(latents):
        chosen = list(range(count * CHUNK, (count + 1) * CHUNK))
        parts = studio.workers.run(part, [chosen[i : i + 64] for i in range(0, CHUNK, 64)])
        chunk = {"refined": torch.cat(parts), "scenes": torch.tensor([latents.numbers[i] for i in chosen])}
        atomically(os.path.join(folder, f"{count:05}.pt"), lambda path, chunk=chunk: torch.save(chunk, path))
        count += 1
    log(f"{count * CHUNK} clips refined")
    return True


class Refined:
    """All refined latents in the autoencoder's own units, [N, C, t, h, w], and their scenes."""

    def __init__(self, studio):
        chunks = [torch.load(path, weights_only=True) for path in sorted(glob.glob(studio.path("refined", "*.pt")))]
        self.latents = torch.cat([chunk["refined"] for chunk in chunks]).float() if chunks else torch.empty(0)
        if chunks:
            cached = Latents(studio)
            self.latents = cached.own_units(self.latents.to(studio.device))
        self.numbers = [int(number) for chunk in chunks for number in chunk["scenes"]]

    def __len__(self):
        return len(self.numbers)

    def draw(self, draw, count):
        """-> (latents, scenes) of some clips."""
        chosen = [int(i) for i in draw.numpy.integers(0, len(self), count)]
        return self.latents[chosen], [scene_of(self.numbers[i]) for i in chosen]

"""Does the refiner gain from more steps, or from guidance? If not, there is nothing to distil.

    python3 -m training.few_steps --from DIR [--count 64]

Refines cached held-out clips from their small latents and prints the mean squared error of the normalised latents behind
frame 0 (1 is the variance of the data) for some samplings. The first is the one that the model is shipped with.
"""

import argparse
import json

import torch

from fsvideo.pipeline import network_velocity
from fsvideo.sampling import make_sigmas, sample

from . import fast
from .dit_phases import refiner_inputs
from .latents import Latents
from .loop import Draw
from .studio import Studio
from .text import embed
from .words import TEXT_LEN, encode

SAMPLINGS = (("euler", 8, 1.0), ("euler", 4, 1.0), ("euler", 30, 1.0), ("unipc", 30, 1.0), ("euler", 30, 3.0))


def errors(studio, count, shift=3.0):
    """-> {sampling: error} of the refiner, and the upsampled latents' own error."""
    latents, draw = Latents(studio), Draw(0, 1, 0, 1, studio.device)
    upsampler, refiner, encoder = (studio.network(n) for n in ("latent_upsampler", "refiner", "text_encoder"))
    chosen = list(range(count))
    low, high = latents.low[chosen], latents.high[chosen]
    mask, condition = refiner_inputs(latents, upsampler, low, high)
    text = embed(encoder, latents.prompts(draw.numpy, chosen), TEXT_LEN)
    none = embed(encoder, [encode("")] * count, TEXT_LEN)
    noise, found = draw.normal(*high.shape), {}

    def error(x):
        return (x - high)[:, :, 1:].square().mean().item()

    for solver, steps, guidance in SAMPLINGS:
        texts = [text] if guidance == 1 else [text, none]
        velocity = network_velocity(refiner, mask, condition, texts, None, guidance)
        refined = sample(solver, velocity, noise, make_sigmas(solver, steps, shift))
        found[f"{solver}, {steps} steps, guidance {guidance:g}"] = error(refined)
    return {**found, "upsampled only": error(condition)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", required=True)
    parser.add_argument("--count", type=int, default=64)
    options = parser.parse_args()
    fast.install()
    with torch.no_grad():
        print(json.dumps(errors(Studio(options.folder, "cpu", workers=1), options.count), indent=2))


if __name__ == "__main__":
    main()

"""Trains everything, phase by phase, and goes on where it stopped.

    python3 -m training.train --out DIR                       (in reference/)
        --device auto|cpu|cuda    cuda where there is one
        --minutes N               in all, shared out among the phases as the plan says
        --stage NAME              this phase only; with --minutes a finished one is prolonged by a warm restart, and one on
                                  its way gets this budget

A GPU trains for 256 pixels, CPU cores for 128. SIGTERM writes a checkpoint and ends.
"""

import argparse
import sys

import torch

from . import fast, latents
from .autoencoder_phases import decoder_phase, symmetric_phase
from .dit_phases import base_phase, refiner_phase, upsampler_phase
from .in_use import in_use_phase
from .loop import Run
from .perceptual import shape_phase
from .studio import Studio

# name: (seed, minutes on two CPU cores, minutes on a GPU, highest rate, what makes it)
PHASES = {
    "images": (1, 10, 3, 0.7, lambda s: symmetric_phase(s, True)),
    "video": (2, 26, 12, 0.35, lambda s: symmetric_phase(s, False)),
    "shapes": (12, 2, 1, 1.0, shape_phase),
    "decoder": (3, 8, 6, 0.3, lambda s: decoder_phase(s, "decoder")),
    "latents": (5, 4, 3, 0.0, latents.make),
    "base": (6, 8, 8, 1.0, base_phase),
    "upsampler": (7, 2, 3, 1.0, upsampler_phase),
    "refiner": (8, 6, 8, 1.0, refiner_phase),
    "in_use": (11, 12, 5, 0.2, lambda s: in_use_phase(s, "decoder", teach_refiner=True)),
    "decoder_lite": (4, 5, 5, 0.5, lambda s: in_use_phase(s, "decoder_lite", teach_refiner=False)),
    "base_plain": (9, 8, 6, 1.0, lambda s: base_phase(s, memory=False)),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--stage", choices=PHASES)
    parser.add_argument("--size", type=int, help="of the finished video in pixels, 128 or 256")
    parser.add_argument("--workers", type=int, help="threads that share a batch")
    return parser.parse_args()


def run_phase(studio, name, minutes, prolong):
    """-> whether the phase is finished."""
    seed, _, _, rate, make = PHASES[name]
    if make is latents.make:
        return make(studio, minutes)
    networks, loss, score = make(studio)
    decay = 0.05 if any("transformer" in kind or kind == "refiner" for kind in networks) else 0.0
    run = Run(name, seed, networks, loss, studio.folder, studio.workers, 60 * minutes, score, decay, rate=rate)
    if run.resume():
        if run.elapsed >= run.budget and not prolong:
            return True
        if run.elapsed >= run.budget:
            run.prolong(60 * minutes)
        elif prolong:
            run.budget = 60 * minutes
    size = sum(p.numel() for p in run.parameters)
    run.log(event="start", budget=run.budget, parameters=size, device=studio.device.type, workers=studio.workers.count)
    return run.train()


def main():
    options = arguments()
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    fast.install()
    studio = Studio(options.out, device, options.size, options.workers)
    planned = {name: phase[2 if studio.gpu else 1] for name, phase in PHASES.items()}
    if options.minutes and not options.stage:
        scale = options.minutes / sum(planned.values())
        planned = {name: scale * minutes for name, minutes in planned.items()}
    for name in [options.stage] if options.stage else PHASES:
        minutes = options.minutes if options.stage and options.minutes else planned[name]
        if not run_phase(studio, name, minutes, bool(options.stage and options.minutes)):
            print(f"stopped in phase {name}; the same command goes on")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

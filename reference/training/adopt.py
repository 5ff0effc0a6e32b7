"""Starts the folder of a run from a model folder, so that training goes on from weights that were shipped.

    python3 -m training.adopt --from ../models/shapes --out DIR [--clips-seen 16384]

Checkpoints do not travel with a model: the optimizer begins anew, and so do the phases' budgets. `latents` are made again,
of other clips than those that the model's DITs were trained on, if it is told how many these were.
"""

import argparse
import os

import torch

from fsvideo import safetensors_io

from .autoencoder_phases import build_network
from .export import COMPONENTS
from .loop import atomically


def adopt(model, folder, clips_seen=0):
    """Copies every component's weights, in float32, to where the phases look for those of earlier phases."""
    for name in COMPONENTS:
        tensors, _ = safetensors_io.load(os.path.join(model, name, "model.safetensors"))
        weights = {key: value.float() for key, value in tensors.items()}
        build_network(name).load_state_dict(weights)  # raises where a tensor is missing, unknown or of another shape
        target = os.path.join(folder, "networks", f"{name}.pt")
        atomically(target, lambda path, weights=weights: torch.save(weights, path))
    with open(os.path.join(folder, "clips_seen"), "w") as file:
        file.write(str(clips_seen))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--clips-seen", type=int, default=0)
    options = parser.parse_args()
    adopt(options.model, options.out, options.clips_seen)


if __name__ == "__main__":
    main()

"""Writes a trained folder as a model folder (models/FORMAT.md).

python3 -m training.export --from DIR --to models/shapes
"""

import argparse
import json
import os

import torch

from fsvideo import safetensors_io

from . import networks, words
from .latents import Latents
from .score import SCHEDULER
from .studio import Studio

COMPONENTS = {
    "encoder": "Encoder",
    "decoder": "Decoder",
    "decoder_lite": "Decoder",
    "transformer": "DIT",
    "refiner": "DIT",
    "latent_upsampler": "LatentUpsampler",
    "text_encoder": "UMT5Encoder",
}
MOST_BYTES = 32_000_000


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")


def export(studio, target, without_memory=False):
    """-> bytes of all weights. `without_memory` puts the ablation's base in the place of the base."""
    found, total = Latents(studio), 0
    statistics = {
        f"latents_{key}": [round(v, 6) for v in y.flatten().tolist()]
        for key, y in (("mean", found.mean), ("std", found.std))
    }
    for name in COMPONENTS:
        source = "transformer_plain" if name == "transformer" and without_memory else name
        config = networks.KINDS[source][1]
        config = {**config, **statistics} if name == "encoder" else config
        write_json(os.path.join(target, name, "config.json"), config)
        tensors = {key: value.to(torch.bfloat16) for key, value in studio.weights(source).items()}
        path = os.path.join(target, name, "model.safetensors")
        safetensors_io.save(path, tensors)
        total += os.path.getsize(path)
    for file, value in words.tokenizer_files().items():
        write_json(os.path.join(target, "tokenizer", file), value)
    scheduler = {**SCHEDULER, "size_multiple": 128, "max_pixels": studio.size**2}
    write_json(os.path.join(target, "scheduler", "scheduler_config.json"), scheduler)
    index = {"_class_name": "FSVideoPipeline", **{name: ["fsvideo", kind] for name, kind in COMPONENTS.items()}}
    write_json(os.path.join(target, "model_index.json"), index)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="folder", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--size", type=int)
    parser.add_argument("--without-memory", action="store_true")
    options = parser.parse_args()
    total = export(Studio(options.folder, "cpu", options.size, 1), options.to, options.without_memory)
    print(f"{options.to}: {total / 1e6:.1f} MB of weights")
    if total > MOST_BYTES:
        raise SystemExit(f"more than {MOST_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()

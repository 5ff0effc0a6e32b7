"""A trained model folder, run by the reference on one picture and one prompt: what the engine must give on the same noise.

    python3 reference/trained_golden.py models/shapes reference/trained/shapes.safetensors

The picture is made of whole numbers, so that the test can make it too: `square_picture`. Weights are read as they are
stored and computed with in float32. `config` is the scheduler's; `in.prompt_ids` are the tokenizer's for `prompt`.
"""

import argparse
import json
import os

import torch

from fsvideo import DIT, Decoder, Encoder, LatentUpsampler, UMT5Encoder
from fsvideo import random as philox
from fsvideo.pipeline import Inputs, Models, image_to_video
from fsvideo.safetensors_io import load, save

KINDS = {
    "encoder": Encoder, "decoder": Decoder, "transformer": DIT, "refiner": DIT, "latent_upsampler": LatentUpsampler,
    "text_encoder": UMT5Encoder,
}  # fmt: skip
SEED = 7
PROMPT = "a large red square moves right"
STRIDE = 5


def read_json(*path):
    with open(os.path.join(*path)) as file:
        return json.load(file)


def component(folder, name):
    module = KINDS[name](read_json(folder, name, "config.json"))
    tensors, _ = load(os.path.join(folder, name, "model.safetensors"))
    module.load_state_dict({key: value.float() for key, value in tensors.items()})
    return module.eval()


def square_picture(side):
    """[1, 3, 1, side, side] in [-1, 1]: a red square, three eighths of the side wide, on a light ground."""
    picture = torch.tensor([205.0, 200.0, 190.0]).view(3, 1, 1).repeat(1, side, side)
    box = slice(side * 5 // 16, side * 11 // 16)
    left = slice(side // 8, side // 2)
    picture[:, box, left] = torch.tensor([225.0, 40.0, 40.0]).view(3, 1, 1)
    return (picture / 127.5 - 1)[None, :, None]


def encode(folder, text):
    """Ids of the word-level tokenizer: words and commas, then </s>."""
    vocabulary = read_json(folder, "tokenizer", "tokenizer.json")["model"]["vocab"]
    return [vocabulary[word] for word in text.replace(",", " ,").split()] + [vocabulary["</s>"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out")
    options = parser.parse_args()
    parts = {name: component(options.model, name) for name in KINDS}
    scheduler = read_json(options.model, "scheduler", "scheduler_config.json")
    side = int(scheduler["max_pixels"] ** 0.5)
    frames, cells = 1 + (scheduler["frames"] - 1) // 4, side // 64
    latent_channels, text_len = parts["encoder"].config["latent_channels"], parts["transformer"].config["text_len"]
    ids = encode(options.model, PROMPT)
    with torch.no_grad():
        text, negative = (parts["text_encoder"].embed([each], text_len) for each in (ids, ids[-1:]))
        noise = [
            philox.video_noise(SEED, stream, (latent_channels, frames, n, n))
            for stream, n in ((philox.BASE_NOISE, cells // 2), (philox.REFINER_NOISE, cells))
        ]
        names = ("encoder", "decoder", "transformer", "refiner", "latent_upsampler")
        decoder_noise = philox.decoder_noise(SEED, torch.float32)
        pictures = square_picture(side // 2), square_picture(side)
        inputs = Inputs(*pictures, text, negative, None, *noise, decoder_noise)
        out = image_to_video(Models(*(parts[name] for name in names)), inputs, scheduler)
    channels_last = {name: value.permute(0, 2, 3, 4, 1) for name, value in out.items() if name != "video"}
    tensors = {f"out.{name}": channels_last[name] for name in ("base_latents", "refined")}
    tensors["out.video_every5"] = out["video"].permute(0, 2, 3, 4, 1)[:, ::4, ::STRIDE, ::STRIDE]
    tensors["in.prompt_ids"] = torch.tensor(ids, dtype=torch.int32)
    metadata = {"config": scheduler, "seed": SEED, "prompt": PROMPT, "side": side}
    os.makedirs(os.path.dirname(options.out) or ".", exist_ok=True)
    save(options.out, tensors, {key: json.dumps(value) for key, value in metadata.items()})
    print(f"{options.out}: {os.path.getsize(options.out) / 1e3:.0f} kB, torch {torch.__version__}")


if __name__ == "__main__":
    main()

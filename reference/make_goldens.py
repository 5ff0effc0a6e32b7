"""Write the golden files: weights, inputs and outputs of every block and of tiny whole networks.

    python3 reference/make_goldens.py [--out DIR] [--compare DIR]

Weights and inputs come from numpy's generator, so they are the same with every torch. Outputs are computed in
float64 and stored in float32; the error of the same run in float32 is printed, as what to expect of any float32 run.
`--compare` also prints the distance to the goldens in another folder and fails above 1e-6. README.md has the layout.
"""

import argparse
import copy
import json
import math
import os
import sys
import zlib

import numpy as np
import torch

from fsvideo import DIT, CLIPVision, Decoder, Encoder, LatentUpsampler, UMT5Encoder, sampling
from fsvideo import random as philox
from fsvideo.autoencoder import AttentionBlock, Downsample, FirstFrameAttention, ResidualBlock, Upsample
from fsvideo.dit import Block, layer_norm, modulate, rope_angles
from fsvideo.layers import Conv, Time
from fsvideo.pipeline import Inputs, Models, image_to_video
from fsvideo.safetensors_io import load, save

STRIDE = 5  # whole videos are stored at every 5th row and column: odd, so that all shuffle phases are seen

# The denominator of linear attention: whole networks, in which some spot of a picture always meets almost none of it, have
# one that leaves no jump there, which no 8 bits of mantissa could follow; blocks have the default.
SMOOTH, DEFAULT = {"linear_attention_eps": 1e-1}, {"linear_attention_eps": 1e-15}

# fmt: off
ENCODER = {
    "in_channels": 3, "latent_channels": 16,
    "widths": [8, 8, 16, 16, 16, 16, 16], "depths": [1, 1, 1, 1, 1, 1, 2],
    "attention_from_stage": 3, "head_dim": 8, "qkv_scales": [5], "glu_expand": 2, **SMOOTH,
    "temporal_stages": [0, 1], "resample": "shuffle", "resample_time_kernel": 3, "latent_time_kernel": 3,
    "norm_affine": False, "norm_eps": 1e-8, "conv": "causal", "time_padding": "replicate",
    "latents_mean": [round(0.3 * math.sin(i), 3) for i in range(16)],
    "latents_std": [round(1 + 0.4 * math.cos(i), 3) for i in range(16)], "scaling_factor": 0.9,
}
# Three stages with every option the other way round.
ENCODER_STRIDED = {
    **ENCODER, "latent_channels": 8, "widths": [8, 8, 16], "depths": [1, 1, 1], "attention_from_stage": 1,
    "qkv_scales": [3, 5], "linear_attention_eps": 1e-6, "temporal_stages": [0], "resample": "strided",
    "resample_time_kernel": 1, "latent_time_kernel": 1, "norm_affine": True, "norm_eps": 1e-5, "time_padding": "zeros",
    "latents_mean": None, "latents_std": None, "scaling_factor": 1.0,
}
DECODER = {
    "out_channels": 3, "latent_channels": 16,
    "widths": [8, 8, 16, 16, 16, 16, 16], "encoder_widths": [8, 8, 16, 16, 16, 16, 16],
    "depths": [2, 1, 1, 1, 1, 1, 1],
    "attention_from_stage": 3, "head_dim": 8, "qkv_scales": [5], "glu_expand": 2, **SMOOTH,
    "temporal_stages": [0, 1], "resample": "shuffle", "resample_time_kernel": 1, "latent_time_kernel": 3,
    "norm_affine": False, "norm_eps": 1e-8, "conv": "noncausal", "time_padding": "replicate", "noise_weight": 0.05,
    "first_frame_attention_stages": [2, 3, 4, 5, 6], "cross_head_dim": 8, "cross_norm_kv": False,
}
DECODER_LITE = {**DECODER, "conv": "group_causal"}
DECODER_INTERPOLATE = {
    **DECODER, "latent_channels": 8, "widths": [8, 8, 16], "encoder_widths": [8, 8, 24], "depths": [1, 1, 1],
    "attention_from_stage": 2, "qkv_scales": [], "linear_attention_eps": 1e-6, "temporal_stages": [0],
    "resample": "interpolate", "resample_time_kernel": 3, "latent_time_kernel": 1, "norm_affine": True,
    "norm_eps": 1e-5, "time_padding": "zeros", "noise_weight": 0.2, "first_frame_attention_stages": [1, 2],
    "cross_norm_kv": True,
}
DIT_CONFIG = {
    "dim": 48, "layers": 3, "heads": 3, "ffn_dim": 96, "patch_size": [1, 1, 1],
    "in_channels": 36, "out_channels": 16, "mask_channels": 4, "freq_dim": 32,
    "text_len": 10, "text_dim": 32, "image_len": 5, "image_dim": 40,
    "eps": 1e-6, "rope": [8, 4, 4], "rope_theta": 10000, "memory": {"enabled": True, "norm": "post_mix", "bias": True},
}
NO_MEMORY = {"enabled": False, "norm": "post_mix", "bias": True}
DIT_PRE_MIX = {**DIT_CONFIG, "memory": {"enabled": True, "norm": "pre_mix", "bias": True}}
NARROW = {**DIT_CONFIG, "dim": 32, "heads": 2, "ffn_dim": 80}
DIT_WAN = {**NARROW, "layers": 2, "patch_size": [1, 2, 2], "in_channels": 12, "out_channels": 4, "memory": NO_MEMORY}
DIT_NO_IMAGE = {
    **NARROW, "image_dim": None, "image_len": None, "memory": {"enabled": True, "norm": "pre_mix", "bias": False},
}
UPSAMPLER = {
    "in_channels": 16, "mid_channels": 16, "blocks": 2, "scale": 2, "norm_groups": 4, "norm_eps": 1e-5,
    "time_padding": "zeros",
}
UMT5 = {
    "vocab_size": 100, "d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 3,
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
}
CLIP = {
    "hidden_size": 40, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 28,
    "patch_size": 14, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "output_layer": -2,
}
SCHEDULER = {
    "frames": 9, "fps": 24, "size_multiple": 128,
    "base": {"steps": 3, "solver": "unipc", "shift": 5, "guidance_scale": 5, "sigma_start": 1},
    "refiner": {"steps": 2, "solver": "euler", "shift": 5, "sigma_start": 1},
    "mask": {"lo": 0.5, "hi": 0.9, "granularity": "map", "polarity": "error"},
    "condition": "zero_latents", "pad": "replicate", "negative_prompt": "",
}
# fmt: on


def seeded(name):
    """numpy's generator for a name: independent of the order in which goldens are made."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape).astype(np.float32))


def spread(name, shape):
    """(mean, deviation) of a random parameter: activations stay near 1 and no parameter is trivially 0 or 1."""
    if name.endswith("router.weight"):
        return 0.0, 1.5 / math.sqrt(shape[1])
    if name.endswith("modulation"):
        return 0.0, 0.3
    if name.endswith("SelfAttention.q.weight"):
        return 0.0, 0.5 / math.sqrt(shape[1])  # T5 does not scale its attention
    if "embedding" in name and name.endswith(("position_embedding.weight", "class_embedding")):
        return 0.0, 0.5
    if name.endswith(("shared.weight", "relative_attention_bias.weight")):
        return 0.0, 1.0
    if len(shape) == 1:
        return (1.0, 0.2) if name.endswith("weight") else (0.0, 0.2)
    return 0.0, 1 / math.sqrt(math.prod(shape[1:]))


def fill(name, module):
    """Random parameters from numpy; in place, returns the module."""
    rng = seeded("weights " + name)
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            mean, deviation = spread(key, parameter.shape)
            parameter.copy_(mean + deviation * normal(rng, *parameter.shape))
    return module.eval()


def taps(module, names, compute):
    """compute(), and by name the outputs of the submodules `names` in it."""
    found, modules = {}, dict(module.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda _m, _i, out, name=name: found.__setitem__(name, out))
        for name in names
    ]
    result = compute()
    for hook in hooks:
        hook.remove()
    return result, found


def relative_l2(value, truth):
    return float((value.double() - truth.double()).norm() / truth.double().norm().clamp(min=1e-30))


def convert(value, dtype):
    """Floating tensors anywhere in lists and dicts to another precision."""
    if isinstance(value, dict):
        return {key: convert(entry, dtype) for key, entry in value.items()}
    if isinstance(value, list):
        return [convert(entry, dtype) for entry in value]
    return value.to(dtype) if torch.is_tensor(value) and value.is_floating_point() else value


def entries(prefix, values):
    """Nested dicts and lists of tensors -> flat names; videos become channels-last, integers int32."""
    for name, value in values.items() if isinstance(values, dict) else enumerate(values):
        key = f"{prefix}.{name}"
        if isinstance(value, (dict, list)):
            yield from entries(key, value)
        elif value is not None:
            value = value.movedim(1, -1) if value.ndim == 5 else value
            yield key, value.to(torch.float32 if value.is_floating_point() else torch.int32)


class Goldens:
    """The folder that is being written, and what is printed about it."""

    def __init__(self, out):
        self.out, self.bytes = out, 0
        os.makedirs(out, exist_ok=True)

    def record(self, name, config, module, inputs, compute, weights_from=None, **metadata):
        """Run compute(module, inputs) in float64 and float32 and write the file `name`. Weights that another file
        already holds are only referred to. Returns the float64 outputs."""
        with torch.no_grad():
            single = compute(module, inputs)
            truth = compute(copy.deepcopy(module).double(), convert(inputs, torch.float64))
        tensors = {}
        if weights_from is None:
            tensors.update(("weights." + key, value) for key, value in module.state_dict().items())
        tensors.update(entries("in", inputs))
        expected = dict(entries("out", truth))
        assert all(torch.isfinite(value).all() for value in expected.values()), name
        tensors.update(expected)
        metadata = {key: json.dumps(value) for key, value in metadata.items()}
        if weights_from is not None:
            metadata["weights_from"] = json.dumps(weights_from)
        self.write(name, tensors, {"config": json.dumps(config), **metadata})
        error = max(relative_l2(value, expected[key]) for key, value in entries("out", single))
        size = max(float(value.double().square().mean().sqrt()) for value in expected.values())
        print(f"{name:28} float32 error {error:.1e}   largest rms {size:.2f}")
        return truth

    def write(self, name, tensors, metadata):
        path = os.path.join(self.out, name + ".safetensors")
        save(path, tensors, metadata)
        self.bytes += os.path.getsize(path)


def autoencoder_blocks(goldens):
    def block(name, config, make, channels, shape, time=None, compute=None, **metadata):
        """One block: `make(*channels, config, time)`, on a random x of `shape`."""
        time = time or Time(config["conv"], config["time_padding"])
        module = fill(name, make(*channels, config, time))
        inputs = {"x": normal(seeded("in " + name), shape[0], channels[0], *shape[1:])}
        compute = compute or (lambda m, i: {"y": m(i["x"])})
        goldens.record(name, config, module, inputs, compute, channels=channels, **metadata)

    def step(kind, factors):
        return lambda inputs, outputs, config, time: kind(inputs, outputs, factors, config, time)

    affine = {**ENCODER, "norm_affine": True, "norm_eps": 1e-5}
    two_scales = {**ENCODER, **DEFAULT, "qkv_scales": [3, 5], "norm_affine": True}
    block("encoder_resblock", ENCODER, ResidualBlock, [8], (2, 3, 5, 6))
    block("encoder_resblock_affine", affine, ResidualBlock, [8], (1, 2, 6, 5))
    block("attention_block", {**ENCODER, **DEFAULT}, AttentionBlock, [16], (2, 3, 5, 6))
    block("attention_block_two_scales", two_scales, AttentionBlock, [16], (1, 2, 7, 4))
    block("attention_block_lite", {**DECODER_LITE, **DEFAULT}, AttentionBlock, [16], (1, 3, 3, 4), group=1)

    def with_noise(m, i):
        maps = [philox.normals(3, philox.DECODER_NOISE + j, 30) for j in range(2)]
        maps = iter([torch.from_numpy(v).float().to(i["x"].dtype).view(5, 6) for v in maps])
        return {"y": m(i["x"], lambda h: h + DECODER["noise_weight"] * next(maps))}

    block("decoder_resblock_noise", DECODER, ResidualBlock, [8], (1, 3, 5, 6), compute=with_noise, seed=3)

    both, spatial = (2, 2, 2), (1, 2, 2)
    strided = {**ENCODER_STRIDED, "resample_time_kernel": 3}
    down, down_spatial = step(Downsample, both), step(Downsample, spatial)
    block("downsample_shuffle", ENCODER, down, [8, 16], (1, 5, 6, 8), factors=both)
    block("downsample_shuffle_spatial", ENCODER, down_spatial, [16, 16], (1, 3, 4, 6), factors=spatial)
    block("downsample_strided", strided, down, [8, 16], (1, 5, 6, 8), factors=both)
    block("downsample_strided_spatial", strided, down_spatial, [16, 16], (1, 3, 4, 6), factors=spatial)
    kernel3 = {**DECODER, "resample_time_kernel": 3}
    up, up_spatial = step(Upsample, both), step(Upsample, spatial)
    block("upsample_shuffle", DECODER, up, [16, 4], (1, 3, 3, 4), factors=both)
    block("upsample_shuffle_spatial", kernel3, up_spatial, [8, 8], (1, 3, 3, 2), factors=spatial)
    block("upsample_interpolate", DECODER_INTERPOLATE, up, [16, 4], (1, 3, 3, 4), factors=both)

    def conv(inputs, outputs, config, time):
        return Conv(inputs, outputs, (3, 3, 3), time)

    for padding in ("replicate", "zeros"):
        for group in (1, 2, 4):
            config, time = {"conv": "group_causal", "time_padding": padding}, Time("group_causal", padding, group)
            block(
                f"conv_group_causal_{group}_{padding}",
                config,
                conv,
                [4, 6],
                (1, 1 + 2 * group, 4, 5),
                time,
                group=group,
            )

    name = "first_frame_attention"
    config, channels, rng = DECODER_INTERPOLATE, [16, 24], seeded("in " + name)
    module = fill(name, FirstFrameAttention(*channels, config))
    inputs = {"x": normal(rng, 2, 16, 3, 4, 5), "features": 3 * normal(rng, 2, 24, 1, 4, 5)}
    goldens.record(name, config, module, inputs, lambda m, i: {"y": m(i["x"], i["features"])}, channels=channels)


def encoders(goldens):
    def encode(m, inputs):
        deep = range(len(m.config["widths"]))[-5:]  # what lies before is large
        (latents, features), found = taps(m, [f"down_blocks.{s}" for s in deep], lambda: m(inputs["video"]))
        kept = {str(s): features[s] for s in deep}
        return {"latents": latents, "normalized": m.normalize(latents), "features": kept, **found}

    for name, config, shape in (
        ("encoder", ENCODER, (1, 3, 9, 64, 64)),
        ("encoder_strided", ENCODER_STRIDED, (2, 3, 5, 12, 16)),
    ):
        video = normal(seeded("in " + name), *shape).tanh()
        goldens.record(name, config, fill(name, Encoder(config)), {"video": video}, encode)


def decoders(goldens):
    def inputs_of(config, name, batch, latent_frames, height, width):
        rng, stages = seeded("in " + name), len(config["widths"])
        features = [None] * stages
        for s in sorted(config["first_frame_attention_stages"]):
            below = min(s + 1, stages - 1)
            scale = 2 ** (stages - 1 - below)
            features[s] = normal(rng, batch, config["encoder_widths"][below], 1, height * scale, width * scale)
        latents = normal(rng, batch, config["latent_channels"], latent_frames, height, width)
        return {"latents": latents, "features": features}

    def decode(seed, tapped):
        def compute(m, inputs):
            latents, features = inputs["latents"], inputs["features"]
            video, found = taps(m, tapped, lambda: m(latents, features))
            noisy = m(latents, features, philox.decoder_noise(seed, latents.dtype))
            video, noisy = video[..., ::STRIDE, ::STRIDE], noisy[..., ::STRIDE, ::STRIDE]
            return {"video_every5": video, "noisy_every5": noisy, **found}

        return compute

    inputs = inputs_of(DECODER, "decoder", 1, 3, 1, 2)
    tapped = [f"up_blocks.{s}" for s in (3, 4, 5, 6)]
    decoder = fill("decoder", Decoder(DECODER))
    goldens.record("decoder_standard", DECODER, decoder, inputs, decode(7, tapped), seed=7)
    lite = Decoder(DECODER_LITE)
    lite.load_state_dict(decoder.state_dict())
    goldens.record("decoder_lite", DECODER_LITE, lite, inputs, decode(7, tapped), "decoder_standard", seed=7)

    inputs = inputs_of(DECODER_INTERPOLATE, "decoder_interpolate", 1, 3, 3, 4)
    decoder = fill("decoder_interpolate", Decoder(DECODER_INTERPOLATE))
    tapped = ["up_blocks.1", "up_blocks.2"]
    goldens.record("decoder_interpolate", DECODER_INTERPOLATE, decoder, inputs, decode(8, tapped), seed=8)
    lite = Decoder({**DECODER_INTERPOLATE, "conv": "group_causal"})
    lite.load_state_dict(decoder.state_dict())
    goldens.record(
        "decoder_interpolate_lite", lite.config, lite, inputs, decode(8, tapped), "decoder_interpolate", seed=8
    )


def transformers(goldens):
    def inputs_of(config, name, batch, grid):
        rng = seeded("in " + name)
        return {
            "x": normal(rng, batch, config["in_channels"], *grid),
            "timestep": torch.tensor([[937.5], [62.5]])[:batch, 0],
            "text": normal(rng, batch, config["text_len"], config["text_dim"]),
            "image": None
            if config["image_dim"] is None
            else normal(rng, batch, config["image_len"], config["image_dim"]),
        }

    def velocity(m, inputs):
        names = ["time_embedding", "text_embedding"] + [f"blocks.{i}" for i in range(len(m.blocks))]
        names += ["img_emb"] if m.img_emb is not None else []
        out, found = taps(m, names, lambda: m(**inputs))
        return {"velocity": out, **found}

    inputs = inputs_of(DIT_CONFIG, "dit", 2, (3, 2, 4))
    inputs["text"][:, 6:] = 0  # a short prompt: zeros behind it take part in the attention
    dit = fill("dit", DIT(DIT_CONFIG))
    goldens.record("dit", DIT_CONFIG, dit, inputs, velocity)
    pre_mix = DIT(DIT_PRE_MIX)
    pre_mix.load_state_dict(dit.state_dict())
    goldens.record("dit_pre_mix", DIT_PRE_MIX, pre_mix, inputs, velocity, "dit")
    for name, config, grid in (("dit_wan", DIT_WAN, (2, 4, 6)), ("dit_no_image", DIT_NO_IMAGE, (2, 3, 2))):
        goldens.record(name, config, fill(name, DIT(config)), inputs_of(config, name, 2, grid), velocity)

    grid, index = (2, 3, 2), 2
    rng = seeded("in dit_block")
    inputs = {
        "states": [normal(rng, 2, 12, 48) for _ in range(index + 1)],
        "modulation": 0.3 * normal(rng, 2, 6, 48),
        "text": normal(rng, 2, 10, 48),
        "image": normal(rng, 2, 5, 48),
    }

    def block(m, i):
        angles = rope_angles(grid, DIT_CONFIG["rope"], DIT_CONFIG["rope_theta"], "cpu")
        shift, scale = (m.modulation + i["modulation"])[:, :2].chunk(2, 1)
        h = modulate(layer_norm(i["states"][-1], m.eps), shift, scale)
        memory = {"router": m.self_attn.router(h).softmax(-1), "memory": m.remember(h, i["states"], shift, scale)}
        return {"y": m(i["states"], i["modulation"], i["text"], i["image"], angles), **memory}

    for norm, config, shared in (("post_mix", DIT_CONFIG, None), ("pre_mix", DIT_PRE_MIX, "dit_block_post_mix")):
        module = fill("dit_block", Block(config, index))
        goldens.record("dit_block_" + norm, config, module, inputs, block, shared, grid=grid, index=index)


def upsampler(goldens):
    def compute(m, inputs):
        out, found = taps(m, ["res_blocks.0", "res_blocks.1"], lambda: m(inputs["latents"]))
        return {"latents": out, **found}

    inputs = {"latents": normal(seeded("in latent_upsampler"), 2, 16, 3, 2, 3)}
    goldens.record("latent_upsampler", UPSAMPLER, fill("latent_upsampler", LatentUpsampler(UPSAMPLER)), inputs, compute)


def embedders(goldens):
    def encode_text(m, inputs):
        names = ["encoder.block.0", "encoder.block.1"]
        out, found = taps(m, names, lambda: m(inputs["ids"]))
        bias = m.encoder.block[0].layer[0].SelfAttention.bias(inputs["ids"].shape[1])
        return {"hidden": out, "padded": m.embed(inputs["ids"][:, :6].tolist(), 10), "bias": bias, **found}

    # 40 tokens, so that the logarithmic buckets are reached
    ids = torch.from_numpy(seeded("in text_encoder").integers(0, UMT5["vocab_size"], (2, 40)))
    goldens.record("text_encoder", UMT5, fill("text_encoder", UMT5Encoder(UMT5)), {"ids": ids}, encode_text)

    def encode_image(m, inputs):
        names = ["vision_model.pre_layrnorm", "vision_model.encoder.layers.0"]
        out, found = taps(m, names, lambda: m(inputs["pixels"][:, :, 0]))
        return {"hidden": out, **found}

    pixels = normal(seeded("in image_encoder"), 2, 3, 1, 28, 28)
    goldens.record("image_encoder", CLIP, fill("image_encoder", CLIPVision(CLIP)), {"pixels": pixels}, encode_image)


class Solvers(torch.nn.Module):
    """A toy velocity field, nonlinear in x; has no parameters."""

    def forward(self, x, sigma, target):
        return 0.7 * x + torch.sin(2 * x + sigma) - target


def samplers(goldens):
    cases = {
        "unipc": sampling.make_sigmas("unipc", 6, 5.0),
        "unipc_from_one": sampling.make_sigmas("euler", 6, 5.0),
        "euler": sampling.make_sigmas("euler", 6, 5.0),
        "renoise": sampling.make_sigmas("renoise", 4, 1.0, 0.8),
    }
    rng, shape = seeded("in sampling"), (2, 30)
    inputs = {name: {"x": normal(rng, *shape)} for name in cases}
    inputs["target"] = normal(rng, *shape)
    inputs["renoise"]["noise"] = [normal(rng, *shape) for _ in range(3)]
    inputs["guidance"] = {"conditional": normal(rng, *shape), "unconditional": normal(rng, *shape)}

    def compute(field, i):
        outputs = {"guidance": sampling.guide(i["guidance"]["conditional"], i["guidance"]["unconditional"], 5.0)}
        for name, sigmas in cases.items():
            states, velocities = [], []

            def velocity(x, sigma):
                states.append(x)
                velocities.append(field(x, sigma, i["target"]))
                return velocities[-1]

            noise = i["renoise"]["noise"].__getitem__
            final = sampling.sample(name.split("_")[0], velocity, i[name]["x"], sigmas, noise)
            outputs[name] = {"x": states, "velocity": velocities, "final": final}
        return outputs

    config = {name: {"sigmas": sigmas} for name, sigmas in cases.items()}
    config["guidance"] = {"scale": 5.0}
    goldens.record("sampling", config, Solvers(), inputs, compute)


def random_numbers(goldens):
    tensors = {}
    for seed in (0, 7, 2**32 + 5, 2**53 - 1):
        for stream in (0, 1, 2**16 + 3, 2**32 + 3):
            tensors[f"out.normals.{seed}.{stream}"] = torch.from_numpy(philox.normals(seed, stream, 1003)).float()
    goldens.write("random", tensors, {"config": "{}"})


def pipeline(goldens):
    """End to end with the weights of the files above: base and refiner are the same tiny DIT."""
    parts = {
        "encoder": ("encoder", Encoder(ENCODER)),
        "decoder": ("decoder_standard", Decoder(DECODER)),
        "transformer": ("dit", DIT(DIT_CONFIG)),
        "refiner": ("dit", DIT(DIT_CONFIG)),
        "latent_upsampler": ("latent_upsampler", LatentUpsampler(UPSAMPLER)),
        "text_encoder": ("text_encoder", UMT5Encoder(UMT5)),
        "image_encoder": ("image_encoder", CLIPVision(CLIP)),
    }
    for file, module in parts.values():
        tensors, _ = load(os.path.join(goldens.out, file + ".safetensors"))
        module.load_state_dict({key[8:]: value for key, value in tensors.items() if key.startswith("weights.")})
    modules = torch.nn.ModuleDict({name: module for name, (_, module) in parts.items()})
    seed, rng = 42, seeded("in pipeline f")
    inputs = {
        "high": normal(rng, 1, 3, 1, 128, 256).tanh(),
        "pixels": normal(rng, 1, 3, 1, 28, 28),
        "prompt_ids": torch.tensor([3, 14, 15, 92, 65, 1]),
        "negative_ids": torch.tensor([27, 1]),
    }
    inputs["low"] = torch.nn.functional.avg_pool3d(inputs["high"], (1, 2, 2))
    frames = 1 + (SCHEDULER["frames"] - 1) // 4
    inputs["base_noise"] = philox.video_noise(seed, philox.BASE_NOISE, (16, frames, 1, 2))
    inputs["refiner_noise"] = philox.video_noise(seed, philox.REFINER_NOISE, (16, frames, 2, 4))

    def compute(m, i):
        models = Models(*(m[name] for name in ("encoder", "decoder", "transformer", "refiner", "latent_upsampler")))
        text, negative = (
            m["text_encoder"].embed([i[name].tolist()], DIT_CONFIG["text_len"])
            for name in ("prompt_ids", "negative_ids")
        )
        clip = m["image_encoder"](i["pixels"][:, :, 0])
        noise = philox.decoder_noise(seed, i["high"].dtype)
        given = Inputs(i["low"], i["high"], text, negative, clip, i["base_noise"], i["refiner_noise"], noise)
        out = image_to_video(models, given, SCHEDULER)
        out["video_every5"] = out.pop("video")[..., ::STRIDE, ::STRIDE]
        return {"text": text, "negative": negative, "clip": clip, **out}

    files = {name: file for name, (file, _) in parts.items()}
    goldens.record("pipeline", SCHEDULER, modules, inputs, compute, files, seed=seed)


PARTS = [
    autoencoder_blocks, encoders, decoders, transformers, upsampler, embedders, samplers, random_numbers, pipeline,
]  # fmt: skip


def compare(folder, other):
    """Largest relative L2 between the outputs of two folders; both must hold the same files and names."""
    worst = (0.0, "nothing")
    assert sorted(os.listdir(folder)) == sorted(os.listdir(other)), "different files"
    for file in sorted(os.listdir(folder)):
        (mine, config), (theirs, their_config) = load(os.path.join(folder, file)), load(os.path.join(other, file))
        assert config == their_config and mine.keys() == theirs.keys(), f"{file}: different configuration or names"
        for name, value in mine.items():
            worst = max(worst, (relative_l2(value, theirs[name]), f"{file} {name}"))
    print(f"largest relative L2 to {other}: {worst[0]:.1e} ({worst[1]})")
    return worst[0]


def main():
    parser = argparse.ArgumentParser(description="Write the golden files of the reference networks.")
    parser.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "goldens"))
    parser.add_argument("--compare", metavar="DIR", help="also compare with the goldens in DIR")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    goldens = Goldens(arguments.out)
    for part in PARTS:
        part(goldens)
    print(f"torch {torch.__version__}, {goldens.bytes / 1e6:.2f} MB in {arguments.out}")
    if arguments.compare and compare(arguments.out, arguments.compare) > 1e-6:
        sys.exit(1)


if __name__ == "__main__":
    main()

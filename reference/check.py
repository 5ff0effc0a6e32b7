"""Properties of the reference networks that need no trained weights (specification section 10), and parameter counts.

    python3 reference/check.py

Networks run in float64, so that equal means a relative L2 of 1e-10. Exits 1 if a check fails.
"""

import json
import math
import os
import re
import sys

import torch
from torch.overrides import TorchFunctionMode

import make_goldens as tiny
from fsvideo import DIT, Decoder, Encoder, LatentUpsampler, sampling
from fsvideo import random as philox
from fsvideo.pipeline import dynamic_mask

FORMAT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models", "FORMAT.md")
failures = []


def check(what, passed, detail=""):
    print(("ok    " if passed else "WRONG ") + what + (f"   {detail}" if detail else ""))
    if not passed:
        failures.append(what)


def equal(what, value, truth):
    distance = tiny.relative_l2(value, truth)
    check(what, value.shape == truth.shape and distance < 1e-10, f"{distance:.1e}")


def network(name, kind, config):
    return tiny.fill(name, kind(config)).double()


def randn(name, *shape):
    return tiny.normal(tiny.seeded(name), *shape).double()


def encoder_is_causal():
    for config in (tiny.ENCODER, {**tiny.ENCODER, "resample": "strided", "time_padding": "zeros"}):
        kind = config["resample"]
        encoder = network("causal", Encoder, config)
        video = randn("causal video", 1, 3, 9, 64, 128)
        latents, features = encoder(video)
        for j in (0, 1):
            other = video.clone()
            other[:, :, 4 * j + 1 :] += 1
            changed = encoder(other)[0]
            equal(
                f"{kind}: latent {j} knows pixel frames <= {4 * j} only", changed[:, :, : j + 1], latents[:, :, : j + 1]
            )
            check(
                f"{kind}: latent {j + 1} knows more",
                tiny.relative_l2(changed[:, :, j + 1], latents[:, :, j + 1]) > 1e-3,
            )
        alone, alone_features = encoder(video[:, :, :1])
        equal(f"{kind}: one frame encodes to latent 0", alone, latents[:, :, :1])
        equal(f"{kind}: and to the same features", alone_features[-1], features[-1])
        equal(f"{kind}: denormalize undoes normalize", encoder.denormalize(encoder.normalize(latents)), latents)


def lite_decoder_streams():
    for config in (tiny.DECODER_LITE, {**tiny.DECODER_LITE, "resample": "interpolate", "time_padding": "zeros"}):
        decoder = network("lite", Decoder, config)
        latents, features = randn("lite latents", 1, 16, 4, 1, 2), [None] * 7
        for stage, size in ((2, 8), (3, 4), (4, 2), (5, 1), (6, 1)):
            features[stage] = randn(f"lite features {stage}", 1, 16, 1, size, 2 * size)
        noise = philox.decoder_noise(5, torch.float64)
        video = decoder(latents, features, noise)
        check("Lite: 1 + 3 latent frames are 13 frames of 64 x 128", video.shape[2:] == (13, 64, 128))
        for count in (1, 2, 3):
            part = decoder(latents[:, :, :count], features, noise)
            equal(
                f"Lite: the first {count} latent frames give their frames of the whole",
                part,
                video[:, :, : 4 * count - 3],
            )
        standard = Decoder({**config, "conv": "noncausal"}).double()
        standard.load_state_dict(decoder.state_dict())
        ahead = standard(latents[:, :, :2], features)
        check("Standard looks ahead", tiny.relative_l2(ahead, standard(latents, features)[:, :, :5]) > 1e-3)


def layer_memory():
    x, text = randn("memory x", 1, 36, 3, 2, 2), randn("memory text", 1, 10, 32)
    image, timestep = randn("memory image", 1, 5, 40), torch.tensor([500.0], dtype=torch.float64)
    plain = network("memory", DIT, {**tiny.DIT_CONFIG, "memory": tiny.NO_MEMORY})
    for norm in ("post_mix", "pre_mix"):
        dit = DIT({**tiny.DIT_CONFIG, "memory": {"enabled": True, "norm": norm, "bias": True}}).double()
        routers = dit.load_state_dict(plain.state_dict(), strict=False)
        check(f"{norm}: only routers are new", not routers.unexpected_keys and len(routers.missing_keys) == 4)
        with torch.no_grad():
            for i, block in enumerate(list(dit.blocks)[1:], 1):
                block.self_attn.router.weight.zero_()
                block.self_attn.router.bias.copy_(1e4 * (torch.arange(i + 1) == i))
            equal(
                f"{norm}: one-hot routers are no memory", dit(x, timestep, text, image), plain(x, timestep, text, image)
            )
            tiny.fill("memory routers", dit)
            states = [randn(f"state {i}", 1, 12, 48) for i in range(3)]
            h, shift, scale = randn("h", 1, 12, 48), randn("shift", 1, 1, 48), randn("scale", 1, 1, 48)
            block, order = dit.blocks[2], torch.randperm(12)
            rows = block.self_attn.router(h).softmax(-1).sum(-1)
            equal(f"{norm}: router rows sum to 1", rows, torch.ones_like(rows))
            mixed = block.remember(h, states, shift, scale)
            permuted = block.remember(h[:, order], [s[:, order] for s in states], shift, scale)
            equal(f"{norm}: permuted tokens, permuted memory", permuted, mixed[:, order])


def gaussian_flow(spread):
    """Clean data N(0, spread^2): a velocity linear in x, whose solution scales like the square root of the variance."""

    def variance(sigma):
        return sigma**2 + (1 - sigma) ** 2 * spread**2

    def velocity(x, sigma):
        return x * (sigma - (1 - sigma) * spread**2) / variance(sigma)

    return velocity, variance


def unipc_local_error(part, velocity, variance, h):
    """One step of the predictor or the corrector along the exact solution, at distance h in log SNR."""
    sigmas = [1 / (1 + math.exp(-1 + i * h)) for i in range(4)]
    snr = [sampling.log_snr(sigma) for sigma in sigmas]
    x = [math.sqrt(variance(sigma)) for sigma in sigmas]
    m = [a - sigma * velocity(a, sigma) for a, sigma in zip(x, sigmas)]
    if part == "predictor":
        return abs(sampling.predict(x[1], sigmas, snr, 1, m[1], m[0]) - x[2])
    return abs(sampling.correct(x[1], sigmas, snr, 2, m[2], m[1], m[0]) - x[2])


def solvers():
    velocity, variance = gaussian_flow(0.5)
    x = torch.ones(1, dtype=torch.float64)
    for solver, order in (("euler", 1), ("unipc", 2)):
        errors = []
        for steps in (40, 80):
            sigmas = [0.95 + (0.1 - 0.95) * i / steps for i in range(steps + 1)]
            exact = math.sqrt(variance(sigmas[-1]) / variance(sigmas[0]))
            errors.append(abs(float(sampling.sample(solver, velocity, x, sigmas)) - exact))
        observed = math.log2(errors[0] / errors[1])
        check(f"{solver} converges with order {order}", abs(observed - order) < 0.25, f"{observed:.2f}")
    for name, order in (("predictor", 3), ("corrector", 4)):
        errors = [unipc_local_error(name, velocity, variance, h) for h in (0.1, 0.05)]
        observed = math.log2(errors[0] / errors[1])
        check(f"unipc's {name} has a local error of order {order}", abs(observed - order) < 0.25, f"{observed:.2f}")
    calls = []

    def recorded(x, sigma):
        calls.append((x, sigma, velocity(x, sigma)))
        return calls[-1][2]

    for first in ("unipc", "euler"):  # a grid from below 1, and one from 1 itself, where log SNR is infinite
        result = sampling.unipc(recorded, x, sampling.make_sigmas(first, 6, 5.0))
        x_last, sigma, v = calls[-1]
        equal(f"unipc's last step returns the predicted clean sample ({first} grid)", result, x_last - sigma * v)
    sigmas = sampling.make_sigmas("euler", 8, 5.0)
    stated = [1, 0.972, 0.938, 0.893, 0.833, 0.75, 0.625, 0.417, 0]
    check("refiner's levels", all(abs(a - b) < 6e-4 for a, b in zip(sigmas, stated)))


def mask():
    real, estimate = randn("mask a", 2, 16, 1, 3, 4), randn("mask b", 2, 16, 1, 3, 4)
    error = dynamic_mask(real, estimate, 0.1, 0.9, "map", "error")
    confidence = dynamic_mask(real, estimate, 0.1, 0.9, "map", "confidence")
    extremes = torch.stack([error.amin((1, 2, 3, 4)), error.amax((1, 2, 3, 4))])
    equal("mask spans [lo, hi] in each sample", extremes, torch.tensor([[0.1, 0.1], [0.9, 0.9]], dtype=torch.float64))
    equal("the polarities mirror each other", error + confidence, torch.ones_like(error))
    flat = dynamic_mask(real, real, 0.1, 0.9, "map", "error")
    equal("no error anywhere: lo", flat, torch.full_like(flat, 0.1))


def random_numbers():
    """Known answers of Random123's Philox 4x32-10."""
    digits = philox.philox(0, 0, 0, 1)[0].tolist()
    check("Philox of zeros", digits == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8])
    digits = philox.philox(0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88, 1)[0].tolist()
    check("Philox of pi", digits == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1])
    values = torch.from_numpy(philox.normals(1, 0, 1 << 18))
    moments = [float((values**k).mean()) for k in (1, 2, 3, 4)]
    check("normals have the moments 0, 1, 0, 3", all(abs(a - b) < 0.03 for a, b in zip(moments, (0, 1, 0, 3))))


class OnMeta(TorchFunctionMode):
    """Tensors get a shape but no memory, also in torch 1.13, which has no `torch.device` context."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = dict(keywords or {})
        if function in (torch.empty, torch.zeros, torch.ones, torch.randn, torch.arange):
            keywords["device"] = "meta"
        return function(*arguments, **keywords)


def parameters(kind, config, without=()):
    with OnMeta():
        named = kind(config).named_parameters()
    return sum(p.numel() for name, p in named if not any(part in name for part in without))


def full_configurations():
    """The JSON blocks of models/FORMAT.md by heading: the one place where the full configurations are written."""
    with open(FORMAT) as file:
        return {
            name: json.loads(block)
            for name, block in re.findall(r"^## (\w+)\n+```json\n(.*?)```", file.read(), re.M | re.S)
        }


def parameter_counts():
    full = full_configurations()
    dit, encoder, decoder = full["DIT"], full["Encoder"], full["Decoder"]
    wan = {
        **dit,
        "patch_size": [1, 2, 2],
        "in_channels": 36,
        "out_channels": 16,
        "memory": {**dit["memory"], "enabled": False},
    }
    for name, config, expected in (("Wan2.1 I2V", wan, 16_394_878_784), ("FSVideo DIT", dit, 16_399_994_547)):
        count = parameters(DIT, config)
        check(f"parameters of {name}: {expected}", count == expected, str(count))

    def about(name, millions, count):
        check(f"parameters of {name}: {millions} M", abs(count / 1e6 - millions) < 0.06, f"{count / 1e6:.2f}")

    wide = [128, 256, 512, 512, 1024, 1024, 2048]
    for name, resample, widths, encoder_millions, decoder_millions in (
        ("shuffle", ("shuffle", "shuffle"), encoder["widths"], 238.9, 584.3),
        ("strided, interpolate", ("strided", "interpolate"), encoder["widths"], 301.1, 319.7),
        ("shuffle, last stage 2048", ("shuffle", "shuffle"), wide, 411.2, 862.7),
        ("strided, interpolate, last stage 2048", ("strided", "interpolate"), wide, 494.7, 513.2),
    ):
        config = {**encoder, "widths": widths, "resample": resample[0]}
        about(f"encoder ({name})", encoder_millions, parameters(Encoder, config))
        config = {**decoder, "widths": widths, "encoder_widths": widths, "resample": resample[1]}
        about(
            f"decoder ({name}) without cross-attention", decoder_millions, parameters(Decoder, config, ["cross_attn"])
        )
    for mid, millions in ((256, 61.1), (512, 235.4), (1024, 923.8)):
        config = {**full["LatentUpsampler"], "mid_channels": mid}
        about(f"latent upsampler of width {mid}", millions, parameters(LatentUpsampler, config))


def main():
    torch.set_num_threads(2)
    with torch.no_grad():
        for part in (
            encoder_is_causal,
            lite_decoder_streams,
            layer_memory,
            solvers,
            mask,
            random_numbers,
            parameter_counts,
        ):
            part()
    print(f"torch {torch.__version__}: " + (f"{len(failures)} checks failed" if failures else "all checks passed"))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()

"""From image and embeddings to frames: the dataflow between the networks (specification section 4.4).

Base at half the size with guidance, latent upsampler, dynamic mask, refiner at full size, decoder. Everything here
is a tensor; reading pictures, prompts and model folders is the engine's business.
"""

from dataclasses import dataclass
from typing import Any

import torch

from .sampling import guide, make_sigmas, sample


@dataclass
class Models:
    encoder: Any
    decoder: Any
    transformer: Any
    refiner: Any
    latent_upsampler: Any


@dataclass
class Inputs:
    """low, high: the image at both sizes, [B, 3, 1, H, W] in [-1, 1]; text, negative [B, text_len, text_dim];
    clip [B, image_len, image_dim] or None; base_noise, refiner_noise [B, C, t, h, w]; decoder_noise as
    `Decoder.forward` takes it; base_renoise, refiner_renoise(j) for the solver "renoise"."""

    low: torch.Tensor
    high: torch.Tensor
    text: torch.Tensor
    negative: torch.Tensor
    clip: Any
    base_noise: torch.Tensor
    refiner_noise: torch.Tensor
    decoder_noise: Any = None
    base_renoise: Any = None
    refiner_renoise: Any = None


def network_velocity(dit, mask, condition, texts, clip, guidance_scale=1.0):
    """velocity(x, sigma) of a DIT under [noise | mask | condition]. texts: [prompt] or [prompt, negative prompt];
    both are one forward of a batch twice as large."""
    n = len(texts)
    text = torch.cat(texts)
    clip = None if clip is None else clip.repeat(n, 1, 1)

    def velocity(x, sigma):
        inputs = torch.cat([x, mask, condition], 1).repeat(n, 1, 1, 1, 1)
        timestep = torch.full((len(inputs),), 1000 * sigma, dtype=torch.float64, device=x.device)
        out = dit(inputs, timestep, text, clip).chunk(n)
        return guide(out[0], out[1], guidance_scale) if n == 2 else out[0]

    return velocity


def first_frame_mask(values, channels, frames):
    """Mask [B, channels, frames, h, w]: 1 in frame 0, `values` [B, 1, 1, h, w] behind it."""
    rest = values.expand(-1, channels, frames - 1, -1, -1)
    return torch.cat([torch.ones_like(values).expand(-1, channels, -1, -1, -1), rest], 2)


def dynamic_mask(real, estimate, lo, hi, granularity, polarity):
    """How far the upsampled first latent is from the real one, in [lo, hi]: 2 x [B, C, 1, h, w] -> [B, 1, 1, h, w]."""
    error = (real - estimate).abs().mean(1, keepdim=True)
    least, most = error.amin((2, 3, 4), keepdim=True), error.amax((2, 3, 4), keepdim=True)
    span = torch.where(most > least, most - least, torch.ones_like(most))
    mask = lo + (hi - lo) * (error - least) / span
    if polarity == "confidence":
        mask = lo + hi - mask
    if granularity == "scalar":
        mask = mask.mean((2, 3, 4), keepdim=True).expand_as(mask)
    return mask


def base_condition(encoder, image, frames, mode):
    """Normalised condition latents [B, C, frames, h, w]: the image in frame 0, nothing behind it."""
    if mode == "zero_pixels":
        pixels = image.new_zeros(*image.shape[:2], 4 * (frames - 1), *image.shape[3:])
        return encoder.normalize(encoder(torch.cat([image, pixels], 2))[0])
    latent = encoder.normalize(encoder(image)[0])
    return torch.cat([latent, latent.new_zeros(*latent.shape[:2], frames - 1, *latent.shape[3:])], 2)


def image_to_video(models, inputs, options):
    """The whole of it. `options` is a scheduler configuration. Returns what passes between the networks by name:
    base_latents, upsampled (both normalised), mask, refined, and the video [B, 3, T, H, W]."""
    encoder, upsampler = models.encoder, models.latent_upsampler
    base, refiner = options["base"], options["refiner"]
    frames = inputs.base_noise.shape[2]
    mask_channels = models.transformer.config["mask_channels"]

    condition = base_condition(encoder, inputs.low, frames, options["condition"])
    values = torch.zeros_like(condition[:, :1, :1])
    mask = first_frame_mask(values, mask_channels, frames)
    guided = base["guidance_scale"] != 1
    texts = [inputs.text, inputs.negative] if guided else [inputs.text]
    velocity = network_velocity(models.transformer, mask, condition, texts, inputs.clip, base["guidance_scale"])
    sigmas = make_sigmas(base["solver"], base["steps"], base["shift"], base["sigma_start"])
    base_latents = sample(base["solver"], velocity, inputs.base_noise, sigmas, inputs.base_renoise)

    upsampled = encoder.normalize(upsampler(encoder.denormalize(base_latents)))
    low_latent, (high_latent, features) = encoder(inputs.low)[0], encoder(inputs.high)
    values = dynamic_mask(high_latent, upsampler(low_latent), **options["mask"])
    mask = first_frame_mask(values, mask_channels, frames)
    condition = torch.cat([encoder.normalize(high_latent), upsampled[:, :, 1:]], 2)

    sigmas = make_sigmas(refiner["solver"], refiner["steps"], refiner["shift"], refiner["sigma_start"])
    x = inputs.refiner_noise
    if refiner["sigma_start"] < 1:
        x = (1 - sigmas[0]) * upsampled + sigmas[0] * x
    velocity = network_velocity(models.refiner, mask, condition, [inputs.text], inputs.clip)
    refined = sample(refiner["solver"], velocity, x, sigmas, inputs.refiner_renoise)

    video = models.decoder(encoder.denormalize(refined), features, inputs.decoder_noise)
    return {"base_latents": base_latents, "upsampled": upsampled, "mask": values, "refined": refined, "video": video}

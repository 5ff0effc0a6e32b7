"""Training of the latent networks: base DIT with the text encoder, latent upsampler, refiner.

Rectified flow: x = (1 - sigma) x_0 + sigma noise, the network answers noise - x_0. Inputs are put together exactly as
`fsvideo.pipeline` does it: [noise | mask | condition], all latents normalised.
"""

import torch

from fsvideo.pipeline import dynamic_mask, first_frame_mask

from . import networks
from .latents import Latents
from .loop import precision
from .text import embed
from .words import TEXT_LEN

SHIFT = 3.0  # of the training's noise levels
NO_PROMPT = 0.1  # part of the samples without their prompt, for guidance
MASK = {"lo": 0.1, "hi": 0.9, "granularity": "map", "polarity": "error"}
MASK_CHANNELS = networks.BASE["mask_channels"]
HELD = 256  # clips of the cache that are kept for the loss on unseen ones


def levels(draw, count):
    """Noise levels [B, 1, 1, 1, 1]: logit-normal, shifted."""
    u = torch.sigmoid(draw.normal(count))
    return (SHIFT * u / (1 + (SHIFT - 1) * u)).view(-1, 1, 1, 1, 1)


def flow_loss(dit, clean, mask, condition, text, sigma, noise):
    """Squared error of the velocity."""
    x = (1 - sigma) * clean + sigma * noise
    with precision(clean.device):
        found = dit(torch.cat([x, mask, condition], 1), 1000 * sigma.flatten(), text)
    return (found.float() - (noise - clean)).square().mean()


def base_inputs(clean):
    """-> (mask, condition) of the base: frame 0 is known, nothing else."""
    values = torch.zeros_like(clean[:, :1, :1])
    mask = first_frame_mask(values, MASK_CHANNELS, clean.shape[2])
    return mask, torch.cat([clean[:, :, :1], torch.zeros_like(clean[:, :, 1:])], 2)


def choose(draw, latents, count):
    return [int(i) for i in draw.numpy.integers(HELD, len(latents), count)]


def base_phase(studio, memory=True):
    """With memory: the base and the text encoder. Without: the base of the ablation, behind that text encoder."""
    latents, text_encoder = Latents(studio), studio.network("text_encoder")
    name = "transformer" if memory else "transformer_plain"
    dit, count = studio.network(name), studio.batch("base")
    parts = {name: dit, "text_encoder": text_encoder} if memory else {name: dit}
    text_encoder.requires_grad_(memory)

    def loss(draw, fraction):
        chosen = choose(draw, latents, count)
        prompts = latents.prompts(draw.numpy, chosen, NO_PROMPT)
        clean = latents.low[chosen]
        with precision(studio.device):
            text = embed(text_encoder, prompts, TEXT_LEN)
        mask, condition = base_inputs(clean)
        error = flow_loss(dit, clean, mask, condition, text, levels(draw, count), draw.normal(*clean.shape))
        return error, {}

    return (
        parts,
        loss,
        held_score(studio, latents, lambda draw, chosen: base_held(latents, dit, text_encoder, draw, chosen)),
    )


def base_held(latents, dit, text_encoder, draw, chosen):
    clean = latents.low[chosen]
    text = embed(text_encoder, latents.prompts(draw.numpy, chosen), TEXT_LEN)
    return flow_loss(dit, clean, *base_inputs(clean), text, levels(draw, len(chosen)), draw.normal(*clean.shape))


def held_score(studio, latents, function):
    """score() of a phase: the loss on clips that are kept out, always with the same noise."""
    from .loop import Draw

    def score():
        draw = Draw(0, 0, 0, 1, studio.device)
        with torch.no_grad():
            return {"held_loss": function(draw, list(range(HELD))).item()}

    return score


def upsampler_phase(studio):
    """Squared error of the normalised latents; half of the inputs are a little off, as the base's are."""
    latents, upsampler = Latents(studio), studio.network("latent_upsampler")
    count = studio.batch("upsampler")

    def distance(low, high):
        with precision(studio.device):
            found = upsampler(latents.own_units(low)).float()
        return (latents.normalise(found) - high).square().mean()

    def loss(draw, fraction):
        chosen = choose(draw, latents, count)
        low, high = latents.low[chosen], latents.high[chosen]
        level = 0.15 * (draw.uniform(count, 1, 1, 1, 1) < 0.5)
        low = low + level * draw.normal(*low.shape)
        if draw.uniform(1).item() < 0.25:  # the dynamic mask needs single frames
            low, high = low[:, :, :1], high[:, :, :1]
        return distance(low, high), {}

    def held(draw, chosen):
        return distance(latents.low[chosen], latents.high[chosen])

    return {"latent_upsampler": upsampler}, loss, held_score(studio, latents, held)


def refiner_inputs(latents, upsampler, low, high):
    """-> (mask, condition) of the refiner from normalised latents of the base's size and the true first frame."""
    with torch.no_grad(), precision(low.device):
        upsampled = latents.normalise(upsampler(latents.own_units(low)).float())
        estimate = upsampler(latents.own_units(low[:, :, :1])).float()
    values = dynamic_mask(latents.own_units(high[:, :, :1]), estimate, **MASK)
    mask = first_frame_mask(values, MASK_CHANNELS, low.shape[2])
    return mask, torch.cat([high[:, :, :1], upsampled[:, :, 1:]], 2)


def refiner_phase(studio):
    """The refiner starts as the base does in the paper, and learns from latents of the base's size that are a little off."""
    latents, upsampler = Latents(studio), studio.network("latent_upsampler").requires_grad_(False)
    text_encoder, dit = studio.network("text_encoder").requires_grad_(False), studio.network("refiner")
    if studio.has("transformer") and not studio.has("refiner"):
        studio.lend("transformer", dit)
    count = studio.batch("refiner")

    def error_of(draw, chosen, forget):
        low, high = latents.low[chosen], latents.high[chosen]
        level = 0.3 * draw.uniform(len(chosen), 1, 1, 1, 1)
        disturbed = torch.cat([low[:, :, :1], (low + level * draw.normal(*low.shape))[:, :, 1:]], 2)
        mask, condition = refiner_inputs(latents, upsampler, disturbed, high)
        with torch.no_grad(), precision(studio.device):
            text = embed(text_encoder, latents.prompts(draw.numpy, chosen, forget), TEXT_LEN)
        return flow_loss(dit, high, mask, condition, text.float(), levels(draw, len(chosen)), draw.normal(*high.shape))

    def loss(draw, fraction):
        return error_of(draw, choose(draw, latents, count), NO_PROMPT), {}

    def held(draw, chosen):
        return error_of(draw, chosen, 0.0)

    return {"refiner": dit}, loss, held_score(studio, latents, held)

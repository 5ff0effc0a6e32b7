"""Decoder and refiner learn together from what they show in use: small latents as the base makes them, refined, decoded.

On its own the refiner learns squared errors of latents, which know nothing of corners, and a decoder that is trained on the encoder's
latents has never met what the refiner makes. Here the gradient of the decoder's losses goes back through the refiner's last steps, as a
reward's does in DRaFT-K (Clark et al. 2023; the paper's ReFL, section 2.3.2, goes back through one). Small latents are the true ones with
noise on them that the base has taken off again (SDEdit, Meng et al. 2021): they are off in the base's own way, less far than its own, and
still belong to the clip's motion.
"""

import torch

from fsvideo.pipeline import network_velocity
from fsvideo.sampling import make_sigmas, sample

from .autoencoder_phases import Autoencoder, decoder_parts
from .dit_phases import base_inputs, choose, flow_loss, levels, refiner_inputs
from .latents import Latents
from .text import embed
from .words import TEXT_LEN

# Most noise, before the shift. Clips come out off by 0.32 of the spread at most; from pure noise, with guidance as in use, by 0.57 and with
# their shapes elsewhere than in the true video, which the losses compare with.
START = 0.4
BASE_STEPS, REFINER_STEPS, LEARNED_STEPS, SHIFT = 4, 8, 4, 3.0
# Of the refiner's own loss, which holds it to the latents' distribution; so weighed its gradient is about a third of the decoder's.
FLOW_CLIPS, FLOW_WEIGHT = 8, 4.0


class Chain:
    """What comes between a clip's true latents and its decoder."""

    def __init__(self, studio):
        self.latents, self.count = Latents(studio), studio.batch("autoencoder")
        frozen = ("transformer", "text_encoder", "latent_upsampler")
        self.base, self.text_encoder, self.upsampler = (studio.network(n).eval().requires_grad_(False) for n in frozen)
        self.refiner = studio.network("refiner")

    def small(self, draw, low, text):
        """Small latents, off by what the base makes of a random amount of noise; a clip's first frame is known to it."""
        sigmas = make_sigmas("euler", BASE_STEPS, SHIFT, START * draw.uniform(1).item())
        noisy = (1 - sigmas[0]) * low + sigmas[0] * draw.normal(*low.shape)
        found = sample("euler", network_velocity(self.base, *base_inputs(low), [text], None), noisy, sigmas)
        return torch.cat([low[:, :, :1], found[:, :, 1:].float()], 2)

    def refined(self, draw, learn=True):
        """-> (latents [B, C, t, h, w] of some clips in the autoencoder's own units, their scenes, the refiner's own loss). The gradient
        goes back to the refiner only if it is to learn."""
        chosen = choose(draw, self.latents, self.count + (FLOW_CLIPS if learn else 0))
        low, high = self.latents.low[chosen], self.latents.high[chosen]
        with torch.no_grad():
            text = embed(self.text_encoder, self.latents.prompts(draw.numpy, chosen), TEXT_LEN).float()
            mask, condition = refiner_inputs(self.latents, self.upsampler, self.small(draw, low, text), high)
        own = torch.zeros(())
        if learn:
            sigma, noise = levels(draw, len(chosen)), draw.normal(*high.shape)
            own = FLOW_WEIGHT * flow_loss(self.refiner, high, mask, condition, text, sigma, noise)

        shown = slice(self.count)
        velocity = network_velocity(self.refiner, mask[shown], condition[shown], [text[shown]], None)
        sigmas = make_sigmas("euler", REFINER_STEPS, SHIFT)
        with torch.no_grad():
            x = sample("euler", velocity, draw.normal(*high[shown].shape), sigmas[: -LEARNED_STEPS])
        with torch.set_grad_enabled(learn):
            x = sample("euler", velocity, x, sigmas[-LEARNED_STEPS - 1 :])
        return self.latents.own_units(x.float()), [self.latents.scenes[i] for i in chosen[shown]], own


def in_use_phase(studio, name, teach_refiner):
    """The decoder `name`, alone or with the refiner."""
    encoder, decoder, shape_net = decoder_parts(studio, name)
    chain, work = Chain(studio), Autoencoder(studio.size, studio.device, studio.batch("autoencoder"))
    networks = {name: decoder, "refiner": chain.refiner} if teach_refiner else {name: decoder}
    loss = work.decoder_loss(encoder, decoder, shape_net, lambda draw: chain.refined(draw, teach_refiner))
    return networks, loss, work.score(encoder, decoder)

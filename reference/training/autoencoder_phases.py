"""Training of the autoencoder: the symmetric one on images, then on video, then the two decoders behind a frozen encoder.

The symmetric autoencoder has no first-frame attention, through which a decoder would copy a still picture past the
latents (paper section 2.2: the asymmetric decoder comes second). Its decoder is the Standard one without that part.
"""

import os

import torch

from fsvideo.autoencoder import Upsample
from fsvideo.layers import Conv

from . import fast, networks
from .clips import clips_of, draw_clips, draw_scenes, seen, to_tensors
from .loop import precision
from .losses import quality, video_loss
from .perceptual import ShapeNet, perceptual_loss
from .render import render
from .scenes import HELD_OUT, scene_of

LATENT_WEIGHT = 1e-3  # of the mean square of the latents, whose scale runs away otherwise
REFINED_UNLIKE = 2.0  # the perceptual loss counts so much more where latents are refined: pixels are not where they were there
SCORE_CLIPS = 16


def symmetric(decoder):
    """The decoder without first-frame attention."""
    for stage in decoder.up_blocks:
        stage.cross_attn = None
    return decoder


def decode(decoder, latents, features, draw=None):
    """A decoded video; with the decoder's noise if `draw` is given."""
    noise = None
    if draw is not None:

        def noise(j, height, width):
            return draw.normal(height, width)

    return decoder(latents, features, noise)


def disturbed(latents, draw, most):
    """Half of the latents with noise, up to `most` of their standard deviation: what the DITs make is not exact."""
    spread = latents.detach().float().std(dim=(0, 2, 3, 4), keepdim=True)
    level = most * draw.uniform(len(latents), 1, 1, 1, 1) * (draw.uniform(len(latents), 1, 1, 1, 1) < 0.5)
    return latents + level * spread * draw.normal(*latents.shape)


def as_generated(latents, draw):
    """As `disturbed`, as much as the refiner is off (0.46 of the standard deviation) and with an exact first frame: a
    decoder then learns to take from the first frame's features what the latents do not tell."""
    return torch.cat([latents[:, :, :1], disturbed(latents[:, :, 1:], draw, 0.5)], 2)


def sharpness(fraction):
    """Weight of the loss of differences: none in the first half."""
    return 0.5 * max(0.0, min(1.0, (fraction - 0.5) / 0.1))


def reconstruct(encoder, decoder, video, size_of_batch=4, attention=True):
    """Decoded videos [B, 3, T, S, S], float32, without noise."""
    outputs = []
    with torch.no_grad(), precision(video.device):
        for part in video.split(size_of_batch):
            latents, features = encoder(part.contiguous(memory_format=fast.LAST))
            outputs.append(decoder(latents, features if attention else [None] * 7).float())
    return torch.cat(outputs)


def held_out(count, size, device, frames=17, first=0):
    """Videos and masks of held-out clips of one shape."""
    clips = [render(scene_of(HELD_OUT + first + i, count=1), size, only=range(frames)) for i in range(count)]
    return to_tensors(clips, device)


def autoencoder_score(encoder, decoder, size, device, frames=17, count=SCORE_CLIPS, attention=True):
    video, mask = held_out(count, size, device, frames)
    return quality(reconstruct(encoder, decoder, video, attention=attention), video, mask)


class Autoencoder:
    """Losses and scores of the four phases. `size` is that of the output; the base works at half of it."""

    def __init__(self, size, device, batch):
        self.size, self.device, self.batch = size, device, batch

    def shapes_of_step(self, step, images):
        """-> (clips a worker, rendered size, crop): the full size, the base's size, and windows of the full size."""
        half, n = self.size // 2, self.batch * (6 if images else 1)
        return [(n, self.size, None), (4 * n, half, None), (4 * n, self.size, half)][step % 3]

    def symmetric_loss(self, encoder, decoder, images):
        def loss(draw, fraction):
            count, size, crop = self.shapes_of_step(draw.step, images)
            frames = 1 if images else 17 if draw.step // 3 % 2 else 9
            count = count * 2 if frames == 9 else count
            video, mask = draw_clips(draw, count, size, frames, crop)
            with precision(self.device):
                latents, _ = encoder(seen(video, draw).contiguous(memory_format=fast.LAST))
                output = decode(decoder, disturbed(latents.float(), draw, 0.2), [None] * 7)
            error = video_loss(output, video, mask, sharpness(fraction))
            energy = latents.float().square().mean()
            return error + LATENT_WEIGHT * energy, {"error": error.item(), "latent_rms": energy.sqrt().item()}

        return loss

    def decoder_loss(self, encoder, decoder, shape_net, refined=None):
        """With `refined(draw)` -> (latents, scenes, what they cost of their own) three of four steps decode these latents instead of
        the encoder's."""

        def encoded(draw):
            small = draw.step % 8 == 3
            count, size = (4 * self.batch, self.size // 2) if small else (self.batch, self.size)
            scenes = draw_scenes(draw, count)
            video, mask = clips_of(draw, scenes, size, 17)
            with torch.no_grad():
                latents, features = encoder(seen(video, draw).contiguous(memory_format=fast.LAST))
            return scenes, video, mask, as_generated(latents.float(), draw), features, torch.zeros(())

        def generated(draw):
            latents, scenes, own = refined(draw)
            video, mask = clips_of(draw, scenes, self.size, 17)
            with torch.no_grad():
                _, features = encoder(seen(video[:, :, :1], draw).contiguous(memory_format=fast.LAST))
            return scenes, video, mask, latents, features, own

        def loss(draw, fraction):
            with precision(self.device):
                make = generated if refined and draw.step % 4 != 3 else encoded
                scenes, video, mask, latents, features, own = make(draw)
                output = decode(decoder, latents, features, draw)
            error = video_loss(output, video, mask, sharpness(fraction))
            unlike, told = perceptual_loss(shape_net, output, video, draw, scenes)
            unlike = unlike * (REFINED_UNLIKE if make is generated else 1.0)
            figures = {"error": error.item(), "unlike": unlike.item(), "told": told, "own": own.item()}
            return error + unlike + own, figures

        return loss

    def score(self, encoder, decoder, frames=17, attention=True):
        def score():
            numbers = {}
            for size in (self.size, self.size // 2):
                found = autoencoder_score(encoder, decoder, size, self.device, frames, attention=attention)
                numbers |= {f"{key}_{size}": value for key, value in found.items()}
            return numbers

        return score


def inflate(network):
    """Makes an autoencoder part that has seen images only fit for video: what a single frame gave, every frame gives.

    A single frame was convolved with the sum of the taps in time, and of the two frames of a temporal step up only the
    second was looked at. The sum goes into the tap of the frame itself, the second frame's weights into the first's."""
    for module in network.modules():
        if isinstance(module, Conv) and module.kernel_size[0] == 3:
            own = 2 if module.time.conv == "causal" else 1
            weight = torch.zeros_like(module.weight)
            weight[:, :, own] = module.weight.detach().sum(2)
            module.weight.data.copy_(weight)
        if isinstance(module, Upsample) and module.factors[0] == 2:
            weight, bias = module.conv.weight.data, module.conv.bias.data
            for first in range(len(weight)):
                second = first + 4
                if first % 8 < 4:
                    weight[first], bias[first] = weight[second], bias[second]
                    weight[first, second // module.copies, 1, 1, 1] += 1  # its shortcut shows other channels
                    weight[first, first // module.copies, 1, 1, 1] -= 1
    return network


def symmetric_phase(studio, images):
    encoder, decoder = studio.network("encoder"), studio.network("decoder_symmetric")
    if not images and not os.path.exists(studio.path("checkpoints", "video.pt")):
        inflate(encoder), inflate(decoder)
    work = Autoencoder(studio.size, studio.device, studio.batch("autoencoder"))
    score = work.score(encoder, decoder, 1 if images else 17, attention=False)
    parts = {"encoder": encoder, "decoder_symmetric": decoder}
    return parts, work.symmetric_loss(encoder, decoder, images), score


def decoder_parts(studio, name):
    """-> (encoder, decoder, what tells shapes); only the decoder learns. The Standard decoder goes on from the symmetric one, the Lite
    one from what fits of the Standard one."""
    encoder = studio.network("encoder").requires_grad_(False)
    decoder = studio.network(name)
    if not studio.has(name):
        studio.lend("decoder_symmetric" if name == "decoder" else "decoder", decoder)
    if name == "decoder":
        open_attention(decoder)
    if not studio.has("shape_net"):
        raise ValueError("a decoder learns from what can tell shapes: run `--stage shapes` first")
    return encoder, decoder, studio.network("shape_net").requires_grad_(False)


def decoder_phase(studio, name):
    encoder, decoder, shape_net = decoder_parts(studio, name)
    work = Autoencoder(studio.size, studio.device, studio.batch("autoencoder"))
    return {name: decoder}, work.decoder_loss(encoder, decoder, shape_net), work.score(encoder, decoder)


def open_attention(decoder):
    """First output weights of first-frame attention: zeros would let no gradient through to its other weights."""
    for stage in decoder.up_blocks:
        if stage.cross_attn is not None and not stage.cross_attn.to_out.weight.any():
            generator = torch.Generator().manual_seed(1)
            weight = 0.02 * torch.randn(stage.cross_attn.to_out.weight.shape, generator=generator)
            stage.cross_attn.to_out.weight.data.copy_(weight)


def build_network(name):
    """`networks.build`, and what only training needs: the decoder of the symmetric autoencoder, and what tells shapes."""
    if name == "decoder_symmetric":
        return symmetric(networks.build("decoder"))
    if name == "shape_net":
        torch.manual_seed(1)
        return ShapeNet()
    return networks.build(name)

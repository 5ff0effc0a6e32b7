"""The fast forwards of `fast.py` against the plain ones: outputs and gradients, every kind of clip; the two renderers.

python3 -m training.test_fast
"""

import copy

import numpy as np
import torch

from . import fast, networks
from .render import FRAMES, render
from .render_torch import render_all
from .scenes import scene_of


def results(encoder, decoder, video):
    latents, features = encoder(video)
    output = decoder(latents, features)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    gradients = torch.autograd.grad((output * output.detach().cos()).sum(), parameters, allow_unused=True)
    return [latents, output, *(torch.zeros(1) if g is None else g for g in gradients)]


def distance(value, truth):
    return ((value - truth).norm() / truth.norm().clamp(min=1e-3)).item()


def check_renderers():
    scenes = [scene_of(seed) for seed in range(40)]
    frames = [[seed % FRAMES, (3 * seed) % FRAMES] for seed in range(40)]
    video, mask = render_all(scenes, 64, frames, "cpu")
    for scene, some, v, m in zip(scenes, frames, video, mask):
        truth, covered = render(scene, 64, only=some)
        assert np.abs(v.numpy() - truth).max() <= 2 and np.abs(m.numpy() - covered).max() < 1e-2
    print("ok    the GPU's renderer draws the same")


def check_dit():
    torch.manual_seed(0)
    for name in ("transformer", "transformer_plain"):
        plain = networks.build(name).double()
        torch.nn.init.normal_(plain.head.head.weight, std=0.1)
        x, text = torch.randn(2, 260, 3, 2, 2).double(), torch.randn(2, 32, 128).double()
        timestep = torch.tensor([100.0, 900.0]).double()

        def run(network):
            out = network(x, timestep, text)
            return [out, *torch.autograd.grad(out.square().sum(), list(network.parameters()))]

        truth = run(plain)
        fast.install()
        found = run(plain)
        fast.remove()
        assert max(distance(a, b) for a, b in zip(found, truth)) < 1e-8
    print("ok    so are those of the DITs")


def check_bfloat16():
    """Gradients of the Lite decoder at its full size: where oneDNN writes beyond its memory, this process ends."""
    encoder, decoder = (fast.channels_last(networks.build(name)) for name in ("encoder", "decoder_lite"))
    fast.install()
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        with torch.no_grad():
            latents, features = encoder(torch.randn(1, 3, 17, 128, 128).contiguous(memory_format=fast.LAST))
        output = decoder(latents, features)
    gradients = torch.autograd.grad(output.float().square().mean(), list(decoder.parameters()), allow_unused=True)
    fast.remove()
    assert all(g.isfinite().all() for g in gradients if g is not None)
    print("ok    gradients in bfloat16")


def main():
    check_renderers()
    check_dit()
    check_bfloat16()
    worst = 0.0
    for name in ("decoder", "decoder_lite"):
        encoder, decoder = networks.build("encoder").double(), networks.build(name).double()
        for module in decoder.modules():  # first-frame attention that does something
            if hasattr(module, "to_out"):
                torch.nn.init.normal_(module.to_out.weight, std=0.1)
        quick = fast.channels_last(copy.deepcopy(encoder)), fast.channels_last(copy.deepcopy(decoder))
        for batch, frames, size in ((1, 1, 64), (1, 1, 128), (1, 5, 128), (2, 9, 64)):
            video = torch.randn(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(frames)).double()
            truth = results(encoder, decoder, video)
            fast.install()
            found = results(*quick, video.contiguous(memory_format=fast.LAST))
            fast.remove()
            worst = max([worst, *(distance(a, b) for a, b in zip(found, truth))])
            assert worst < 1e-8, (name, batch, frames, size, worst)
    print(f"ok    fast forwards are the plain ones (largest relative distance {worst:.1e})")


if __name__ == "__main__":
    main()

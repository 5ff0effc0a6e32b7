"""The loop: resume, guard, checkpoints; the batched text encoder; images made fit for video; caches of latents; a model folder
as the start of a run, in which decoder and refiner learn together; the perceptual loss.

python3 -m training.test_loop
"""

import itertools
import os
import tempfile
from unittest import mock

import torch

from fsvideo import safetensors_io
from fsvideo.sampling import make_sigmas

from . import captions, dit_phases, in_use, latents, networks, perceptual, text, words
from .adopt import adopt
from .autoencoder_phases import decoder_phase, inflate, symmetric
from .clips import to_tensors
from .loop import Draw, NotFinite, Run, Workers
from .optim import rate_at
from .render import render
from .scenes import SHAPES as NAMES
from .scenes import scene_of
from .studio import Studio

SHAPES = os.path.join(os.path.dirname(__file__), "../../models/shapes")


def small_run(folder, budget, broken=(), workers=1):
    """A phase of one second a step that teaches a small network to answer its input."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.SiLU(), torch.nn.Linear(32, 32))

    def loss(draw, fraction):
        x = draw.normal(16, 32)
        error = (network(x) - x).square().mean()
        return error * (float("nan") if draw.step in broken else 1.0), {"error": error.item()}

    clock = itertools.count(step=0.25)  # it is asked four times a step
    device = Workers(torch.device("cpu"), workers)
    return Run("small", 1, {"network": network}, loss, folder, device, budget, clock=lambda: next(clock))


def quiet(run):
    run.log = lambda **values: None
    return run


def check_resume():
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        whole = quiet(small_run(folder, 40.0))
        whole.train()
        half = quiet(small_run(other, 40.0))
        original = half.gradients
        half.gradients = lambda: original() if half.step < 20 else (_ for _ in ()).throw(KeyboardInterrupt())
        try:
            half.train()
        except KeyboardInterrupt:
            half.save()
        rest = quiet(small_run(other, 40.0))
        assert rest.resume() and rest.step == 20
        rest.train()
        assert rest.step == whole.step
        for a, b in zip(whole.parameters + whole.average, rest.parameters + rest.average):
            assert torch.equal(a, b)
        assert not [name for name in os.listdir(os.path.join(other, "checkpoints")) if name.endswith(".part")]
        rest.prolong(20.0)
        rest.train()
        assert rest.rounds == 2 and rest.step > whole.step


def check_learning():
    with tempfile.TemporaryDirectory() as folder:
        run = quiet(small_run(folder, 300.0, workers=2))
        before = run.gradients()[0]
        run.train()
        assert run.gradients()[0] < 0.2 * before, (before, run.gradients()[0])


def check_guard():
    with tempfile.TemporaryDirectory() as folder:
        run = quiet(small_run(folder, 40.0, broken=(3, 4, 9)))
        run.train()
        assert run.skipped == 3 and all(p.isfinite().all() for p in run.parameters)
        run = quiet(small_run(folder, 40.0, broken=(10, 11, 12)))
        try:
            run.train()
        except NotFinite:
            assert run.step == 13
        else:
            raise AssertionError("three steps that are not finite did not stop the run")


def check_rate():
    assert rate_at(0) < 0.02 and rate_at(0.01) > 0.99 and abs(rate_at(1) - 0.02) < 1e-6


def check_text():
    encoder = networks.build("text_encoder").double()
    prompts = [
        words.encode(p) for p in ("a red star moves left", "", "the big blue circle grows", "a red star moves left")
    ]
    truth = encoder.embed(prompts, words.TEXT_LEN)
    assert (text.embed(encoder, prompts, words.TEXT_LEN) - truth).abs().max() < 1e-9


def check_inflate():
    encoder, decoder = networks.build("encoder").double(), symmetric(networks.build("decoder")).double()
    image, nothing = torch.randn(1, 3, 1, 64, 64).double(), [None] * 7
    with torch.no_grad():
        before = decoder(encoder(image)[0], nothing)
        inflate(encoder), inflate(decoder)
        still = decoder(encoder(image.expand(-1, -1, 9, -1, -1))[0], nothing)
    assert still.shape[2] == 9 and (still - before).abs().max() < 1e-9


def check_chunks():
    assert [latents.chunk_number(i, 0) for i in range(3)] == [0, 1, 2]
    assert [latents.chunk_number(i, 16384) for i in range(3)] == [0, 64, 65]  # the first stays that of unseen clips


def check_adopt_and_in_use():
    """What was adopted is what the folder holds; from it refiner and decoder learn together on a few clips."""
    with tempfile.TemporaryDirectory() as folder:
        adopt(SHAPES, folder, 512)
        studio = Studio(folder, "cpu", 128, 1)
        tensors, _ = safetensors_io.load(os.path.join(SHAPES, "refiner", "model.safetensors"))
        assert all(torch.equal(studio.weights("refiner")[key], value.float()) for key, value in tensors.items())
        assert studio.clips_seen() == 512
        with mock.patch.object(latents, "CHUNK", 4), mock.patch.object(dit_phases, "HELD", 4):
            latents.make(studio, 0, log=lambda *_: None)  # no time at all still makes a chunk to learn from
            check_in_use(studio)


def check_in_use(studio):
    try:
        decoder_phase(studio, "decoder")
        raise AssertionError("a decoder was about to learn from a network that knows nothing")
    except ValueError as error:
        assert "--stage shapes" in str(error)
    torch.save(studio.network("shape_net").state_dict(), studio.path("networks", "shape_net.pt"))
    chain, draw = in_use.Chain(studio), Draw(1, 0, 0, 1, studio.device)
    low, high = chain.latents.low, chain.latents.high
    prompts = [words.encode(captions.plain(scene)) for scene in chain.latents.scenes]
    off = {}
    for start in (0.0, 0.4):
        with torch.no_grad(), mock.patch.object(in_use, "START", start):
            small = chain.small(draw, low, text.embed(chain.text_encoder, prompts, words.TEXT_LEN))
        assert torch.equal(small[:, :, 0], low[:, :, 0])
        off[start] = (small - low).square().mean().sqrt().item()
    assert off[0.0] < 1e-6 and 0.1 < off[0.4] < 0.8, off  # 1 is the spread of the latents
    with mock.patch.object(in_use, "sample", wraps=in_use.sample) as sampled:
        found, scenes, own = chain.refined(draw)
    _, early, late = (call.args[3] for call in sampled.call_args_list)
    assert [*early, *late[1:]] == make_sigmas("euler", 8, 3.0), (early, late)
    which = chain.latents.scenes.index(scenes[0])
    near = (chain.latents.normalise(found) - high[which])[:, :, 1:].square().mean().item()
    assert 0.01 < near < 0.8 and 0.05 < own / in_use.FLOW_WEIGHT < 0.8, (near, own)

    for teach in (True, False):
        networks, loss, _ = in_use.in_use_phase(studio, "decoder", teach)
        assert list(networks) == ["decoder", *["refiner"] * teach]
        for step in (0, 3):  # refined latents, the encoder's own
            total, figures = loss(Draw(1, step, 0, 1, studio.device), 0.0)
            assert 0 < figures["error"] < 0.8 and (figures["own"] > 0) == (teach and step == 0), figures
            assert abs(total.item() - figures["error"] - figures["unlike"] - figures["own"]) < 1e-4, figures
            total.backward()
            reached = {name: [p.grad is not None for p in network.parameters()] for name, network in networks.items()}
            assert any(reached["decoder"]) and (not teach or any(reached["refiner"]) == (step == 0)), reached
            for network in networks.values():
                network.zero_grad()


def check_perceptual():
    """Crops follow the shape; a few steps teach its name; what is blurred is unlike, and pixels are told how to change."""
    with tempfile.TemporaryDirectory() as folder:
        studio, draw = Studio(folder, "cpu", 64, 1), Draw(1, 0, 0, 1, torch.device("cpu"))
        scenes = [scene_of(number, "right", 2) for number in (3, 4)]
        video, mask = to_tensors([render(scene, 64) for scene in scenes], studio.device)
        clips, places, names = perceptual.boxes(draw, scenes)
        assert clips.tolist() == [0, 0, 1, 1] and places.shape == (4, 17, 3)
        assert [NAMES[n] for n in names] == [shape["shape"] for scene in scenes for shape in scene["shapes"]]
        middle = perceptual.crops(mask.float(), clips, places)[:, 0, 14:18, 14:18]  # every shape covers its centre's surroundings
        assert middle.shape[0] == 68 and middle.mean((1, 2)).min() > 0.9, middle.mean((1, 2)).min()
        alone = [scene_of(number, "still", 1) for number in range(6)]
        _, whole = to_tensors([render(scene, 64) for scene in alone], studio.device)
        clips, places, _ = perceptual.boxes(draw, alone)
        seen = perceptual.crops(whole, clips, places)[:, 0].mean((1, 2)) * (2 * places[..., 2].flatten()) ** 2
        share = seen / whole.mean((1, 3, 4)).flatten()  # of the shape's area that lies in its crop
        assert share.min() > 0.96 and share.max() < 1.04, (share.min(), share.max())

        run = quiet(Run("shapes", 12, *perceptual.shape_phase(studio)[:2], folder, studio.workers, 1.0))
        first, run.elapsed = run.gradients()[0], 0.2  # of a second: the rate is at its highest
        for _ in range(30):
            run.update(run.gradients()[2])
            run.step += 1
        last = run.gradients()[0]
        assert first > 1.2 and last < 0.8 * first, (first, last)

        network = run.networks["shape_net"]
        blurred = torch.nn.functional.avg_pool3d(video, (1, 9, 9), 1, (0, 4, 4)).requires_grad_()
        name_weight, perceptual.NAME_WEIGHT = perceptual.NAME_WEIGHT, 0.0
        try:
            by_features = [perceptual.perceptual_loss(network, v, video, Draw(1, 0, 0, 1, studio.device), scenes)[0] for v in (video, blurred)]
        finally:
            perceptual.NAME_WEIGHT = name_weight
        assert by_features[0] == 0 and by_features[1] > 0.01, by_features
        same, _ = perceptual.perceptual_loss(network, video, video, draw, scenes)
        unlike, _ = perceptual.perceptual_loss(network, blurred, video, draw, scenes)
        (slope,) = torch.autograd.grad(unlike, blurred)
        near = torch.nn.functional.max_pool3d(mask, (1, 25, 25), 1, (0, 12, 12)) > 0
        assert unlike > same > 1e-3 and slope.abs().sum() > 0 and slope[~near.expand_as(slope)].abs().sum() == 0

        def price(spoilt):
            draw = Draw(1, 0, 0, 1, studio.device)
            return perceptual.perceptual_loss(network, torch.cat(spoilt, 2), video, draw, scenes)[0].item() - same.item()

        late, early = price([video[:, :, :9], blurred[:, :, 9:]]), price([blurred[:, :, :8], video[:, :, 8:]])
        assert late > 1.3 * early > 0, (late, early)


def main():
    checks = (check_resume, check_learning, check_guard, check_rate, check_text, check_inflate, check_chunks)
    for check in (*checks, check_adopt_and_in_use, check_perceptual):
        check()
        print("ok   ", check.__name__.replace("_", " "))


if __name__ == "__main__":
    main()

"""Scenes, renderer, captions and tokenizer.

python3 -m training.test_clips          (needs numpy only)
python3 -m training.test_clips --write  writes scenes.json, the golden that ports of the renderer are tested with
"""

import json
import os
import sys

import numpy as np

from . import captions, words
from .render import FRAMES, render, tracks
from .scenes import DIRECTIONS, HELD_OUT, MOTIONS, scene_of

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "scenes.json")
PLACES = 24


def golden_of(number, motion, count, size):
    """A scene and some of its pixels: [frame, row, column, r, g, b], half of them on the shapes' edges."""
    scene = scene_of(HELD_OUT + number, motion, count)
    video, mask = render(scene, size)
    rng = np.random.default_rng(number)
    edges = np.argwhere((mask > 0.1) & (mask < 0.9))
    places = [edges[rng.integers(len(edges))] for _ in range(PLACES // 2)]
    places += [rng.integers(0, (FRAMES, size, size)) for _ in range(PLACES - len(places))]
    pixels = [[int(v) for v in (*place, *video[tuple(place)])] for place in places]
    ends = [[round(float(v), 9) for v in track[-1]] for track in tracks(scene)]
    texts = [captions.plain(scene)]
    return {"size": size, "frames": FRAMES, "scene": scene, "caption": texts[0], "last": ends, "pixels": pixels}


def goldens():
    """Every shape and every kind of motion, one and two shapes, soft edges and a vignette."""
    wanted = (("up and left", 1), ("bounce", 1), ("rotate", 1), ("grow", 2), ("shrink", 2), ("still", 1), ("right", 2))
    made = []
    for i, (motion, count) in enumerate(wanted):
        number = next(
            n for n in range(10_000 * (i + 1), 10_000 * (i + 2)) if suits(scene_of(HELD_OUT + n, motion, count), i)
        )
        made.append(golden_of(number, motion, count, 64 if i % 2 else 128))
    return made


def suits(scene, i):
    shape = ("circle", "square", "star", "triangle")[i % 4]
    soft, shaded = scene["softness"] > 1, scene["vignette"] > 0
    return scene["shapes"][0]["shape"] == shape and soft == (i == 3) and shaded == (i == 4)


def check_goldens():
    with open(GOLDEN) as file:
        saved = json.load(file)
    assert {shape["shape"] for entry in saved for shape in entry["scene"]["shapes"]} == {
        "circle",
        "square",
        "triangle",
        "star",
    }
    for entry in saved:
        video, _ = render(entry["scene"], entry["size"], entry["frames"])
        for t, row, column, *colour in entry["pixels"]:
            assert np.abs(video[t, row, column].astype(int) - colour).max() <= 1, entry["caption"]
        assert np.allclose(tracks(entry["scene"])[:, -1], entry["last"], atol=1e-8)
        assert captions.plain(entry["scene"]) == entry["caption"]


def check_seeds():
    for seed in (0, 1, 77, HELD_OUT):
        assert scene_of(seed) == scene_of(seed)
        assert json.loads(json.dumps(scene_of(seed))) == scene_of(seed)
        first, again = (render(scene_of(seed), 64)[0] for _ in range(2))
        assert (first == again).all()
    assert scene_of(0) != scene_of(1)


def check_captions():
    rng = np.random.default_rng(0)
    for seed in range(1500):
        scene = scene_of(seed)
        for text in (captions.caption(rng, scene), captions.plain(scene)):
            ids = words.encode(text)
            assert words.IDS[words.UNKNOWN] not in ids and len(ids) <= words.TEXT_LEN, text
    assert words.encode("A Red-circle!")[-1] == 1 and words.encode("zebra")[0] == 2


def check_masks():
    """The coverage of a shape against the share of 8 x 8 times as many points that lie in it. A square's distance is not
    Euclidean at corners, where coverage may be off by a little more."""
    for seed in range(30):
        scene = {**scene_of(seed, MOTIONS[seed % len(MOTIONS)], 1), "softness": 1.0}
        _, mask = render(scene, 64, only=[9])
        fine = render(scene, 512, only=[9])[1] > 0.5
        share = fine.reshape(64, 8, 64, 8).mean((1, 3))
        error = np.abs(mask[0] - share)
        assert error.max() < 0.45 and error.mean() < 2e-3, (seed, error.max(), error.mean())


def check_paths():
    for seed in range(300):
        scene = scene_of(seed)
        for shape, path in zip(scene["shapes"], tracks(scene)):
            assert (path[:, :2] - path[:, 2:3] > 0).all() and (path[:, :2] + path[:, 2:3] < 1).all()
            if shape["motion"] in DIRECTIONS:
                moved = path[-1, :2] - path[0, :2]
                assert np.allclose(moved, shape["travel"] * np.array(DIRECTIONS[shape["motion"]]))


def main():
    if "--write" in sys.argv:
        with open(GOLDEN, "w") as file:
            file.write("[\n" + ",\n".join(json.dumps(entry) for entry in goldens()) + "\n]\n")
    for check in (check_seeds, check_captions, check_masks, check_paths, check_goldens):
        check()
        print("ok   ", check.__name__.replace("_", " "))


if __name__ == "__main__":
    main()

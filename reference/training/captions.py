"""Captions of scenes, from a fixed grammar, and the words that they are made of.

caption  = phrase [(" and " | ", ") phrase]          one a shape, in any order
phrase   = article [size] colour kind verb           "the small red star moves up and to the left"
"""

from .scenes import COLOURS, DIRECTIONS, SHAPES

ARTICLES = ("a", "the", "")
SIZES = {"small": ("small", "little", ""), "large": ("big", "large", "")}
KINDS = {
    "circle": ("circle", "ball", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
}
GOING = ("moves", "goes", "slides", "flies", "is moving")
DOING = {
    "bounce": ("bounces", "is bouncing", "jumps"),
    "rotate": ("rotates", "turns", "spins", "is rotating"),
    "grow": ("grows", "gets bigger", "is growing"),
    "shrink": ("shrinks", "gets smaller", "is shrinking"),
    "still": ("stays still", "stands still", "does not move"),
}


def places(direction):
    """The ways to say a direction."""
    if " and " in direction:
        vertical, side = direction.split(" and ")
        return (direction, f"{vertical} and to the {side}", f"{vertical} {side}")
    return (direction, f"to the {direction}") if direction in ("left", "right") else (direction, f"{direction}wards")


def verbs(motion):
    """Everything that a phrase can end in for a motion, the plainest first."""
    if motion in DIRECTIONS:
        return [f"{going} {place}" for going in GOING for place in places(motion)]
    return list(DOING[motion])


def phrase(rng, shape):
    words = [ARTICLES, SIZES[shape["size"]], (shape["colour"],), KINDS[shape["shape"]]]
    chosen = [choices[rng.integers(len(choices))] for choices in words]
    endings = verbs(shape["motion"])
    ending = endings[0] if rng.random() < 0.5 else endings[rng.integers(len(endings))]
    return " ".join(word for word in (*chosen, ending) if word)


def caption(rng, scene):
    """One of the captions of a scene."""
    order = rng.permutation(len(scene["shapes"]))
    phrases = [phrase(rng, scene["shapes"][i]) for i in order]
    return (" and " if rng.random() < 0.7 else ", ").join(phrases)


def plain(scene, motion=None):
    """The plainest caption, in the scene's order; `motion` in place of the first shape's."""
    phrases = []
    for i, shape in enumerate(scene["shapes"]):
        size = SIZES[shape["size"]][0]
        moves = verbs(motion if motion and i == 0 else shape["motion"])[0]
        phrases.append(f"a {size} {shape['colour']} {shape['shape']} {moves}")
    return " and ".join(phrases)


def vocabulary():
    """Every word of the grammar and the comma, sorted."""
    words = {"and", ",", "a", "the", *COLOURS}
    words |= {word for sizes in SIZES.values() for word in sizes} - {""}
    words |= {word for kind in SHAPES for word in KINDS[kind]}
    for motion in (*DIRECTIONS, *DOING):
        words |= {word for verb in verbs(motion) for word in verb.split()}
    return sorted(words)

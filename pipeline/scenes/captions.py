"""Captions that say what is seen: who, in what clothes, doing what."""

from body import Shape
from clothes import Outfit

ACTIONS = {
    "backflip": "does a backflip",
    "cartwheel": "does a cartwheel",
    "crawl": "crawls on hands and knees",
    "dance_a": "dances with sweeping arms",
    "dance_b": "dances on the spot",
    "getup_facedown": "gets up from lying face down",
    "getup_faceup": "gets up from lying on the back",
    "jump": "jumps up",
    "kick": "kicks with one leg",
    "punch": "throws punches",
    "roll": "rolls over the floor",
    "run": "runs",
    "spin": "spins around",
    "spinkick": "does a spinning kick",
    "walk": "walks",
}


def describe(shape: Shape, outfit: Outfit, clip: str) -> str:
    """One line, such as "a woman with long brown hair in a striped yellow and white top and blue trousers runs"."""
    person = {"female": "woman", "male": "man"}[shape.sex]
    if shape.age == "old":
        person = f"old {person}"
    who = f"a bald {person}" if outfit.hair_style == "bald" else f"{_article(person)} {person}"
    if outfit.hair_style != "bald":
        who += f" with {outfit.hair_style} {outfit.hair} hair"
    colour = outfit.top if outfit.stripe is None else f"striped {outfit.top} and {outfit.stripe}"
    action = " and ".join(ACTIONS[part] for part in clip.split("+"))
    top = f"{outfit.sleeves} {colour} top"
    return f"{who} in {_article(top)} {top} and {outfit.bottom} {outfit.legs} {action}"


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"

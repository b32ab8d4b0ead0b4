"""Captions of scenes: the person, the clothes and the action."""

from body import Shape
from clips import parts
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
    # cuts of recordings; no left or right, because half of all scenes are mirrored
    "leap_a": "jumps forward with both feet",
    "leap_b": "jumps far forward",
    "leap_c": "crouches and jumps forward",
    "turn_a": "turns around with small steps",
    "turn_b": "steps around to face the other way",
    "turn_c": "turns and walks off",
    "walk_a": "walks with long steps",
    "walk_b": "walks in a curve",
    "walk_c": "strolls",
    "climb_a": "starts to climb, one foot raised",
    "climb_b": "climbs bent forward",
    "climb_c": "climbs down backwards",
    "climb_d": "walks up and starts to climb",
    "climb_e": "climbs with hands held out",
    "climb_f": "climbs down bent forward",
    "stoop_a": "leans forward with both hands low",
    "stoop_b": "stoops with stretched legs",
    "stoop_c": "stoops and raises a foot",
    "stoop_d": "climbs and leans forward",
    "stoop_e": "stands bent over",
    "straighten_a": "rises from a crouch",
    "straighten_b": "straightens up from bending",
    "reach_a": "walks and reaches up",
    "reach_b": "walks and raises both arms",
    "hang_a": "hangs by both hands",
    "hang_b": "stands with both arms up",
    "swing_a": "swings hanging by both hands",
    "swing_b": "swings far forward hanging by both hands",
    "let_go_a": "lowers both arms and turns away",
    "let_go_b": "lets go with raised arms and turns",
    "box_a": "lowers spread arms and raises the fists",
    "box_b": "boxes with guarded steps",
    "box_c": "boxes with quick punches",
    "box_d": "throws a wide punch, turning",
    "box_e": "boxes with both fists up",
    "box_f": "lunges with a punch",
    "box_g": "boxes and ducks",
    "box_h": "boxes on the spot",
    "box_i": "throws a high punch",
    "box_j": "steps back with low fists",
    "box_k": "stoops with low fists, turning",
    "box_l": "ducks and steps back",
    "box_m": "ducks and comes up with guarded face",
    "box_n": "staggers",
    "sit_down": "sinks down to sit on the floor",
    "sit_turn": "turns sitting on the floor",
    "crouch": "crouches, leaning on a hand",
    "stand_up": "stands up from a crouch",
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
    action = " and ".join(ACTIONS[part] + " in reverse" * backwards for part, _, backwards in parts(clip))
    top = f"{outfit.sleeves} {colour} top"
    return f"{who} in {_article(top)} {top} and {outfit.bottom} {outfit.legs} {action}"


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"

import numpy as np
import pytest
from body import Shape
from captions import ACTIONS, describe
from clips import CLIPS, CUTS
from clothes import (
    BOTTOM_COLOURS,
    COLOURS,
    FIELDS,
    HAIR_COLOURS,
    LEGS,
    SHOE_COLOURS,
    SLEEVES,
    TOP_COLOURS,
    Outfit,
    draw_outfit,
    paint,
)
from raycast import linear_to_srgb

OUTFIT = Outfit((210, 160, 130), "brown", "long", "yellow", "white", "short-sleeved", "blue", "trousers", "black")
# Points of a resting body in the form of `garment_fields` (stripes are light where height · 11 % 1 < 0.45).
NOWHERE = {"height": 1.0, "torso": 1.0, "arm_along": -1.0, "leg_along": -0.3, "foot": 0.0, "hand": 0.0, "scalp": -1.0,
           "mane": -1.0, "eye": 0.0}  # fmt: skip
PLACES = {
    "chest": {"height": 12.2 / 11, "leg_along": -0.5},
    "chest, other stripe": {"height": 12.8 / 11, "leg_along": -0.5},
    "upper arm": {"height": 12.8 / 11, "arm_along": 0.2, "leg_along": -0.5},
    "forearm": {"arm_along": 0.8, "leg_along": 0.1},
    "hand": {"arm_along": 1.05, "hand": 1.0, "leg_along": 0.2},
    "thigh": {"height": 0.7, "leg_along": 0.2},
    "shin": {"height": 0.3, "leg_along": 0.8},
    "foot": {"height": 0.02, "leg_along": 1.0, "foot": 1.0},
    "face": {"height": 1.6, "leg_along": -1.0, "torso": 0.0},
    "crown": {"height": 1.7, "leg_along": -1.0, "torso": 0.0, "scalp": 0.02, "mane": 0.03},
    "nape": {"height": 1.5, "leg_along": -1.0, "torso": 0.1, "scalp": -0.02, "mane": 0.03},
    "eye": {"height": 1.6, "leg_along": -1.0, "torso": 0.0, "eye": 1.0},
}


def shape(sex="female", age="young"):
    return Shape(sex, age, 0.5, 0.5, 1.7, (0.3, 0.3, 0.4))


def colour_at(place, outfit):
    values = NOWHERE | PLACES[place]
    linear = paint(np.array([[values[name] for name in FIELDS]]), outfit)[0]
    return tuple(np.round(linear_to_srgb(linear) * 255).astype(int).tolist())


def test_caption_names_everything_that_is_seen():
    assert describe(shape(), OUTFIT, "cartwheel") == (
        "a woman with long brown hair in a short-sleeved striped yellow and white top "
        "and blue trousers does a cartwheel"
    )
    plain = Outfit((90, 60, 40), "black", "bald", "orange", None, "long-sleeved", "grey", "shorts", "white")
    assert describe(shape("male", "old"), plain, "run") == (
        "a bald old man in a long-sleeved orange top and grey shorts runs"
    )
    short = Outfit((90, 60, 40), "grey", "short", "orange", None, "sleeveless", "grey", "shorts", "white")
    assert describe(shape("male", "old"), short, "walk") == (
        "an old man with short grey hair in a sleeveless orange top and grey shorts walks"
    )


def test_every_clip_has_an_action_of_its_own():
    assert set(ACTIONS) == {*CLIPS, *CUTS}
    assert len(set(ACTIONS.values())) == len(CLIPS) + len(CUTS)


def test_captions_name_no_side_since_half_of_the_scenes_are_mirrored():
    assert not [action for action in ACTIONS.values() if {"left", "right"} & set(action.split())]


def test_a_made_motion_is_called_by_what_it_is_made_of():
    assert describe(shape(), OUTFIT, "walk-mirrored").endswith(" trousers walks")
    assert describe(shape(), OUTFIT, "run-reversed+punch").endswith(" runs in reverse and throws punches")


def test_pictures_have_the_colours_that_captions_name():
    assert colour_at("chest", OUTFIT) == COLOURS["white"]
    assert colour_at("chest, other stripe", OUTFIT) == COLOURS["yellow"]
    assert colour_at("upper arm", OUTFIT) == COLOURS["yellow"]
    assert colour_at("forearm", OUTFIT) == OUTFIT.skin
    assert colour_at("hand", OUTFIT) == OUTFIT.skin
    assert colour_at("thigh", OUTFIT) == colour_at("shin", OUTFIT) == COLOURS["blue"]
    assert colour_at("foot", OUTFIT) == COLOURS["black"]
    assert colour_at("face", OUTFIT) == OUTFIT.skin
    assert colour_at("crown", OUTFIT) == colour_at("nape", OUTFIT) == HAIR_COLOURS["brown"]
    assert colour_at("eye", OUTFIT) == (52, 40, 36)


def test_lengths_of_sleeves_legs_and_hair():
    other = Outfit((90, 60, 40), "black", "short", "red", None, "long-sleeved", "navy", "shorts", "white")
    assert colour_at("chest", other) == colour_at("forearm", other) == COLOURS["red"]
    assert colour_at("hand", other) == other.skin
    assert colour_at("thigh", other) == COLOURS["navy"]
    assert colour_at("shin", other) == colour_at("nape", other) == other.skin
    assert colour_at("crown", other) == HAIR_COLOURS["black"]
    bald = Outfit((90, 60, 40), "black", "bald", "red", None, "sleeveless", "navy", "shorts", "white")
    assert colour_at("crown", bald) == colour_at("upper arm", bald) == bald.skin


@pytest.mark.parametrize("sex", ["female", "male"])
def test_drawn_outfits_come_from_the_tables_and_vary(sex):
    generator = np.random.default_rng(0)
    outfits = [draw_outfit(sex, "young", generator) for _ in range(300)]
    for outfit in outfits:
        assert outfit.bottom != outfit.top != outfit.stripe
        assert outfit.stripe is None or outfit.stripe in COLOURS
        assert outfit.hair_style != "bald" or sex == "male"
    assert {outfit.top for outfit in outfits} == set(TOP_COLOURS)
    assert {outfit.bottom for outfit in outfits} == set(BOTTOM_COLOURS)
    assert {outfit.shoes for outfit in outfits} == set(SHOE_COLOURS)
    assert {outfit.sleeves for outfit in outfits} == set(SLEEVES)
    assert {outfit.legs for outfit in outfits} == set(LEGS)
    assert len({describe(shape(sex), outfit, "walk") for outfit in outfits}) > 250
    assert all(draw_outfit(sex, "old", generator).hair == "grey" for _ in range(20))

"""Clothes, skin and hair: drawn at random by name, painted on the body, and given a small thickness.

Garments are regions of the resting body, computed at every pixel from interpolated fields. So hems are clean lines, and
no gap can open between cloth and skin in any pose.
"""

from dataclasses import dataclass

import numpy as np
from body import MESH_GROUPS, Body
from raycast import srgb_to_linear
from skinning import FINGERS, vertex_normals

# Common colour names → sRGB in 0…255.
COLOURS = {
    "white": (236, 234, 228), "grey": (138, 141, 146), "black": (38, 38, 42), "navy": (36, 48, 92),
    "blue": (52, 98, 176), "light blue": (138, 184, 222), "teal": (30, 130, 130), "green": (62, 132, 74),
    "olive": (110, 112, 62), "yellow": (228, 192, 62), "orange": (218, 122, 46), "red": (190, 48, 48),
    "maroon": (112, 36, 48), "pink": (226, 146, 168), "purple": (112, 72, 146), "beige": (204, 184, 150),
    "brown": (112, 78, 54),
}  # fmt: skip
TOP_COLOURS = tuple(COLOURS)
BOTTOM_COLOURS = ("navy", "blue", "black", "grey", "beige", "brown", "olive", "white", "maroon", "teal")
SHOE_COLOURS = ("white", "black", "grey", "brown", "red", "navy")
STRIPE_PARTNERS = ("white", "black", "navy", "grey", "yellow")
HAIR_COLOURS = {
    "black": (34, 29, 27), "brown": (84, 56, 38), "blond": (198, 160, 96), "red": (146, 72, 38),
    "grey": (158, 155, 150),
}  # fmt: skip
SKIN_TONES = ((243, 208, 184), (229, 184, 152), (206, 158, 122), (170, 121, 84), (128, 86, 60), (88, 58, 43))
SLEEVES = {"sleeveless": 0.06, "short-sleeved": 0.42, "long-sleeved": 0.97}  # covered share of the arm
LEGS = {"shorts": 0.42, "trousers": 0.95}  # covered share of the leg
HAIR_STYLES = {"female": ("long", "long", "short"), "male": ("short", "short", "short", "bald")}
CLOTH_THICKNESS_M, SHOE_THICKNESS_M = 0.012, 0.010
HAIR_THICKNESS_M = {"bald": 0.0, "short": 0.016, "long": 0.028}
STRIPES_PER_M = 11.0

FIELDS = ("height", "torso", "arm_along", "leg_along", "foot", "hand", "scalp", "mane", "eye")


@dataclass(frozen=True)
class Outfit:
    """A person's clothes and looks; colours are names from the tables above. `stripe` is None for a plain top."""

    skin: tuple[int, int, int]
    hair: str
    hair_style: str
    top: str
    stripe: str | None
    sleeves: str
    bottom: str
    legs: str
    shoes: str


def draw_outfit(sex: str, age: str, generator: np.random.Generator) -> Outfit:
    """A plausible outfit for a person of `sex` and `age`; top and bottom never have the same colour."""
    tone = generator.uniform(0, len(SKIN_TONES) - 1)
    low = int(tone)
    mixed = np.array(SKIN_TONES[low]) * (1 - tone + low) + np.array(SKIN_TONES[min(low + 1, 5)]) * (tone - low)
    natural = ["black", "brown", "brown", "blond", "red"] if tone < 2.5 else ["black", "black", "brown"]
    hair = "grey" if age == "old" else str(generator.choice(natural))
    top = str(generator.choice(TOP_COLOURS))
    stripe = None
    if generator.random() < 0.4:
        stripe = str(generator.choice([colour for colour in STRIPE_PARTNERS if colour != top]))
    return Outfit(
        skin=(round(mixed[0]), round(mixed[1]), round(mixed[2])),
        hair=hair,
        hair_style=str(generator.choice(HAIR_STYLES[sex])),
        top=top,
        stripe=stripe,
        sleeves=str(generator.choice(list(SLEEVES), p=[0.2, 0.45, 0.35])),
        bottom=str(generator.choice([colour for colour in BOTTOM_COLOURS if colour != top])),
        legs=str(generator.choice(list(LEGS), p=[0.35, 0.65])),
        shoes=str(generator.choice(SHOE_COLOURS)),
    )


def garment_fields(body: Body) -> np.ndarray:
    """Fields of every vertex (V, len(FIELDS)), from the resting body.

    `height` metres above the floor; `torso`, `foot`, `hand` bone influences in 0…1; `arm_along` 0 at the shoulder, 1 at
    the wrist, -1 off the arm; `leg_along` likewise from waist to ankle; `scalp` and `mane` metres inside short and long
    hair (negative outside); `eye` 1 on the eyes.
    """
    skeleton, vertices = body.skeleton, body.vertices
    arm_along = np.full(len(vertices), -1.0)
    for side in ("_l", "_r"):
        arm = body.influence("upperarm" + side, "lowerarm" + side, "hand" + side, *[f + "_" for f in FINGERS]) > 0.5
        arm &= (vertices[:, 2] < 0) == (skeleton.head("hand" + side)[2] < 0)
        shoulder, wrist = skeleton.head("upperarm" + side), skeleton.head("hand" + side)
        axis = wrist - shoulder
        arm_along[arm] = np.maximum((vertices[arm] - shoulder) @ axis / (axis @ axis), 0.0)
    waist = skeleton.head("spine_01")[1]
    ankle = skeleton.head("foot_l")[1]
    head = body.influence("head") > 0.6
    crown, chin = vertices[head, 1].max(), skeleton.head("head")[1]
    middle = (vertices[head, 0].max() + vertices[head, 0].min()) / 2
    size = crown - chin
    up, back = vertices[:, 1], middle - vertices[:, 0]
    brow, nape = crown - 0.26 * size, chin + 0.12 * size
    on_head = 10 * (body.influence("head", "neck") - 0.55)
    scalp = np.minimum(on_head, np.maximum(up - brow, np.minimum(back - 0.005, up - nape)))
    behind = np.minimum(back - 0.01, up - (chin - 0.75 * size))
    mane = np.minimum(np.maximum(up - brow + 0.01, behind), 10 * (0.35 - body.influence("upperarm", "lowerarm")))
    columns = {
        "height": up,
        "torso": 1 - body.influence("head", "neck"),
        "arm_along": arm_along,
        "leg_along": (waist - up) / (waist - ankle),
        "foot": body.influence("foot", "ball"),
        "hand": body.influence("hand", *[finger + "_" for finger in FINGERS]),
        "scalp": scalp,
        "mane": mane,
        "eye": (body.group != MESH_GROUPS.index("body")).astype(float),
    }
    return np.stack([columns[name] for name in FIELDS], axis=1)


def regions(fields: np.ndarray, outfit: Outfit) -> dict[str, np.ndarray]:
    """Fields (N, A) => masks (N,) of shoes, bottom, top, hair and eyes; the rest is skin."""
    value = dict(zip(FIELDS, fields.T, strict=True))
    on_arm = value["arm_along"] > -0.5
    shoes = (value["foot"] > 0.5) & ~on_arm
    bottom = (value["leg_along"] > 0) & (value["leg_along"] < LEGS[outfit.legs]) & ~on_arm & ~shoes
    sleeve = on_arm & (value["arm_along"] < SLEEVES[outfit.sleeves]) & (value["hand"] < 0.5)
    top = sleeve | (~on_arm & (value["leg_along"] <= 0) & (value["torso"] > 0.5))
    eyes = value["eye"] > 0.5
    hair_field = {"bald": -np.ones(len(fields)), "short": value["scalp"], "long": value["mane"]}[outfit.hair_style]
    hair = (hair_field > 0) & ~eyes
    return {"shoes": shoes, "bottom": bottom, "top": top & ~hair, "hair": hair, "eyes": eyes}


def paint(fields: np.ndarray, outfit: Outfit) -> np.ndarray:
    """Fields (N, A) at surface points => linear colours (N, 3)."""
    area = regions(fields, outfit)
    colours = np.tile(_linear(outfit.skin), (len(fields), 1))
    for name, colour in (("shoes", COLOURS[outfit.shoes]), ("bottom", COLOURS[outfit.bottom])):
        colours[area[name]] = _linear(colour)
    colours[area["top"]] = _linear(COLOURS[outfit.top])
    if outfit.stripe is not None:
        striped = area["top"] & (fields[:, FIELDS.index("height")] * STRIPES_PER_M % 1 < 0.45)
        colours[striped] = _linear(COLOURS[outfit.stripe])
    colours[area["hair"]] = _linear(HAIR_COLOURS[outfit.hair])
    colours[area["eyes"]] = _linear((52, 40, 36))
    return colours


def thickness(body: Body, fields: np.ndarray, outfit: Outfit) -> np.ndarray:
    """The resting vertices (V, 3), pushed outwards under cloth, shoes and hair, smoothed across borders."""
    area = regions(fields, outfit)
    depth = CLOTH_THICKNESS_M * (area["top"] | area["bottom"]) + SHOE_THICKNESS_M * area["shoes"]
    depth = depth + HAIR_THICKNESS_M[outfit.hair_style] * area["hair"]
    depth = np.where(area["eyes"], 0.0, depth)
    for _ in range(2):  # average with neighbours, so that borders are not steps
        total, count = np.zeros(len(depth)), np.zeros(len(depth))
        for a, b in ((0, 1), (1, 2), (2, 0)):
            for start, end in ((a, b), (b, a)):
                total += np.bincount(body.faces[:, start], depth[body.faces[:, end]], len(depth))
                count += np.bincount(body.faces[:, start], minlength=len(depth))
        depth = np.where(area["eyes"], 0.0, 0.5 * depth + 0.5 * total / np.maximum(count, 1))
    return body.vertices + depth[:, None] * vertex_normals(body.vertices, body.faces)


def _linear(colour: tuple[int, int, int]) -> np.ndarray:
    return srgb_to_linear(np.array(colour) / 255)

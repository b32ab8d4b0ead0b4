"""Augmentations that apply equally to all frames of a scene."""

import numpy as np
import pytest
from PIL import Image

from fourdistill.features.augmentations import PLAIN, Augmentation, augmentations
from fourdistill.features.encode import encode_images
from fourdistill.models.base.model import load_base


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize("mirror", [False, True])
def test_channels_change_places_and_columns_turn_round(image, mirror):
    changed = np.asarray(Augmentation(mirror, "GBR")(image))
    expected = np.asarray(image)[..., [1, 2, 0]]
    assert np.array_equal(changed, expected[:, ::-1] if mirror else expected)
    assert PLAIN(image) is image


@pytest.mark.parametrize(("mirror", "recolour", "count"), [(0, 0, 1), (1, 0, 2), (0, 1, 5), (1, 1, 6)])
def test_every_change_is_another_under_a_name_of_its_own(image, mirror, recolour, count):
    chosen = augmentations(bool(mirror), bool(recolour))
    assert chosen[0] == PLAIN and len({change.feature for change in chosen}) == count
    assert len({change(image).tobytes() for change in chosen}) == count
    assert any(change.mirror for change in chosen) == bool(mirror)


def test_encoding_adds_the_embeddings_of_changed_frames(tiny_base, image):
    base = load_base(str(tiny_base), with_ip_adapter=False)
    changes = augmentations(mirror=True, recolour=True)
    features = encode_images(base, [image], changes=changes)
    for change in changes:
        alone = encode_images(base, [change(image)])["image_embeds"]
        assert np.array_equal(features[change.feature], alone)
    assert set(features) == {"latents", *(change.feature for change in changes)}

"""Samples to rows: samples that fit no batch are refused individually."""

import json

import numpy as np
import pytest
import torch
from shard_folders import SHAPES, sample, to_npy

from fourdistill.shards.loader.decode import DECODE_ERRORS, Decoder, collate

WHOLE = sample(55, "train", SHAPES, 13)
PAIR = json.loads(WHOLE["json"])
EYE = PAIR["relative_pose"]


def decode(**changes):
    return Decoder(images=False).decode(WHOLE | {"json": json.dumps(PAIR | changes).encode()})


@pytest.mark.parametrize(
    "changes",
    [
        {"pair_id": 2**63 - 1},
        {"pair_id": 0},
        {"normalized_gap": -1},  # integers are numbers
        {"relative_pose": [-3.4e38, *EYE[1:]]},
        {"relative_pose": None, "delta_azimuth": None, "delta_elevation": None, "delta_radius": None, "kind": "time"},
        {"caption": "🩰 ballet"},
    ],
)
def test_what_fits(changes):
    batch = collate([decode(**changes), decode()])
    assert batch["pair_id"].tolist() == [changes.get("pair_id", 55), 55]
    assert torch.isfinite(batch["relative_pose"]).all() and torch.isfinite(batch["time"]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"pair_id": 2**63},
        {"pair_id": -1},
        {"pair_id": True},
        {"pair_id": 5.0},
        {"normalized_gap": 4e38},
        {"normalized_gap": float("nan")},
        {"relative_pose": [10**400, *EYE[1:]]},
        {"relative_pose": [*EYE, 0.0]},
        {"relative_pose": dict.fromkeys("abcdefghijkl")},
        {"delta_azimuth": -1e39},
        {"delta_radius": 10**39},
        {"caption": "\ud800"},  # valid JSON, but not valid Unicode
        {"caption": ["a"]},
        {"kind": "film"},
    ],
)
def test_what_fits_no_batch(changes):
    with pytest.raises(DECODE_ERRORS):
        decode(**changes)


def test_arrays_that_torch_does_not_know():
    with pytest.raises(DECODE_ERRORS, match="expected floating-point numbers"):
        Decoder(images=False).decode(WHOLE | {"source_embeds.npy": to_npy(np.ones(SHAPES[1]), np.longdouble)})

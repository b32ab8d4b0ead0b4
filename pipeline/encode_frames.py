"""Stage `encode_frames`: compute VAE latents and image embeddings of every frame."""

from dataclasses import replace
from typing import TYPE_CHECKING

from fourdistill.features.augmentations import augmentations
from fourdistill.features.encode import FrameEncoder
from fourdistill.features.files import encode_frames
from fourdistill.models.base.precision import default_device
from fourdistill.stage import run_stage

if TYPE_CHECKING:
    from fourdistill.params import Params


def main(params: "Params") -> None:
    """Encode every frame, also of the teacher, with the base's VAE and image encoder."""
    settings, paths = params.encode_frames, params.paths
    # Otherwise all worker processes of a machine would load the base on its first GPU.
    if settings.engine == "loky" and settings.jobs == -1 and default_device().type == "cuda":
        settings = replace(settings, jobs=1)
    changes = augmentations(params.augmentations.mirror, params.augmentations.recolour)
    encode_frames(
        paths.frames_table,
        paths.frames,
        paths.features,
        FrameEncoder(paths.base, settings.mixed_precision, changes),
        settings,
        teacher=params.teacher_frames,
        index_copy=paths.reports / "features.index.json",
    )


if __name__ == "__main__":
    run_stage(main)

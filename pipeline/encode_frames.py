"""Stage `encode_frames`: VAE latents and image embeddings, once per frame."""

from fourdistill.config import Params
from fourdistill.features.augmentations import augmentations
from fourdistill.features.encode import FrameEncoder
from fourdistill.features.files import encode_frames
from fourdistill.models.base.precision import default_device
from fourdistill.stage import run_stage


def main(params: Params) -> None:
    """Encode every frame of the frames table by the base's VAE and image encoder."""
    section, paths = params.encode_frames, params.paths
    # Worker processes of one machine would all load the base on its first GPU.
    on_gpu = section.engine == "loky" and default_device().type == "cuda"
    changes = augmentations(params.train_prior.mirror, params.train_prior.recolour)
    encode_frames(
        paths.frames_table,
        paths.frames,
        paths.features,
        FrameEncoder(paths.base, section.mixed_precision, changes),
        section.batch_size,
        engine=section.engine,
        jobs=1 if on_gpu and section.jobs == -1 else section.jobs,
        gpus=section.gpus,
        index_copy=paths.reports / "features.index.json",
    )


if __name__ == "__main__":
    run_stage(main)

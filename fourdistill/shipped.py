"""The base and the adapter shipped with the repository; available if the package is installed from a checkout."""

from pathlib import Path

from fourdistill.errors import InputError

ROOT = Path(__file__).parents[1]
BASE, ADAPTER, EXAMPLES = Path("data/base/mini"), Path("models/mini-adapter"), Path("examples")


def default_base(base: str | None) -> str:
    """The given base, or the folder of the mini base; raises `InputError` outside a checkout."""
    return _named_or_shipped(base, BASE, "--base")


def default_adapter(adapter: str | None) -> str:
    """The given adapter, or the folder of the mini adapter; raises `InputError` outside a checkout."""
    return _named_or_shipped(adapter, ADAPTER, "--adapter")


def default_examples() -> Path:
    """The folder of example source images; it does not exist outside a checkout."""
    return ROOT / EXAMPLES


def _named_or_shipped(name: str | None, folder: Path, option: str) -> str:
    if name is not None:
        if not name.strip():
            raise InputError(f"{option}: expected a folder or a Hub id, found an empty name")
        return name
    if not (ROOT / folder).is_dir():
        raise InputError(
            f"{option}: expected a folder or a Hub id: {folder} comes with the repository, not the package"
        )
    return str(ROOT / folder)

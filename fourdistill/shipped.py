"""The base, the adapter and the examples of the repository, which a package installed from a wheel does not contain.

They are found if the package is installed from a checkout, or if the working directory is a checkout.
"""

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
    return _find(EXAMPLES) or ROOT / EXAMPLES


def _named_or_shipped(name: str | None, folder: Path, option: str) -> str:
    if name is not None:
        if not name.strip():
            raise InputError(f"{option}: expected a folder or a Hub id, found an empty name")
        return name
    found = _find(folder)
    if found is None:
        raise InputError(
            f"{option}: expected a folder or a Hub id, because the default, {folder}, comes with the repository, not "
            f"with the package: name one, or run the command in a clone of the repository"
        )
    return str(found)


def _find(folder: Path) -> Path | None:
    """A folder of the repository: beside the package, else in the working directory, else None."""
    return next((root / folder for root in (ROOT, Path()) if (root / folder).is_dir()), None)

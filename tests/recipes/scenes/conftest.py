import importlib.util
import sys
from pathlib import Path

import pytest

# As with `python recipes/scenes/render.py`: the generator's modules import each other by their bare names.
sys.path.insert(0, str(Path(__file__).parents[3] / "recipes" / "scenes"))

if importlib.util.find_spec("embreex") is None:  # the extra `scenes` is not installed
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The folder of the body's and the clips' wheels, downloaded once per machine."""
    from assets import default_folder, fetch_wheels

    fetch_wheels(default_folder())
    return default_folder()

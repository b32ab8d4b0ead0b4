"""The stages, one script each: `python -m pipeline.<stage>`."""

import fourdistill  # noqa: F401  # before torch: how its threads wait is decided when it is loaded

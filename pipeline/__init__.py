"""The stages, one script each: `python -m pipeline.<stage>`."""

import fourdistill  # noqa: F401  # before torch: sets how torch's threads wait, which is fixed at import

"""Raw captures as scenes: the readers of formats, public data sets, and what a folder holds."""

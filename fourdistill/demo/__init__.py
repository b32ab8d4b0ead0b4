"""The web page: a picture, a few sliders, and what the pipeline makes of them."""

"""The web page: a picture, sliders, and the images that the pipeline generates."""

"""4D data distilled into two small networks that steer a frozen diffusion model in time and viewpoint."""

__version__ = "0.1.0"

"""A second representation: 4D Gaussian splatting, rasterised by gsplat on a CUDA device."""

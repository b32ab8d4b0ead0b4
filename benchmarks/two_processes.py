"""One of two processes: the gradient of its half of a batch, averaged by DDP, against that of the whole.

python -m torch.distributed.run --standalone --nproc_per_node 2 benchmarks/two_processes.py cuda  # or cpu
"""

import sys

import torch
from torch.nn.parallel import DistributedDataParallel


def main(kind: str) -> None:
    """Print the largest difference, in the first process."""
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    rank = torch.distributed.get_rank()
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    torch.manual_seed(0)
    layer, whole = torch.nn.Linear(64, 64).to(device), torch.randn(4, 64).to(device)
    parameters = list(layer.parameters())
    expected = torch.autograd.grad(layer(whole).square().mean(), parameters)
    averaging = DistributedDataParallel(layer)  # kept: it averages only as long as it exists
    averaging(whole.chunk(2)[rank]).square().mean().backward()
    if rank == 0:
        pairs = zip(parameters, expected, strict=True)
        print("error", max(float((p.grad - e).abs().max()) for p, e in pairs if p.grad is not None), flush=True)
    del averaging
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])

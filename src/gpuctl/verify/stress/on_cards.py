"""Runs in a stress pod with PyTorch, never imported: all-reduce over the network, one card a node; JSON.

Arguments: rank, number of ranks, address and port of rank 0. Not tried on real hardware.
"""

import json
import sys
import time

import torch
import torch.distributed as dist

ELEMENTS, WARM, ROUNDS = 1 << 26, 3, 10

rank, ranks, address, port = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
dist.init_process_group("nccl", init_method=f"tcp://{address}:{port}", rank=rank, world_size=ranks)
data = torch.ones(ELEMENTS, dtype=torch.float32, device="cuda:0")
dist.all_reduce(data)
wrong = int((data != ranks).sum().item())
for number in range(WARM + ROUNDS):
    if number == WARM:
        torch.cuda.synchronize()
        began = time.monotonic()
    dist.all_reduce(data)
torch.cuda.synchronize()
seconds = (time.monotonic() - began) / ROUNDS
# bus bandwidth of an all-reduce as nccl-tests define it
bus = 4 * ELEMENTS / seconds * 2 * (ranks - 1) / ranks
print(json.dumps({"bus": bus / 1e9, "wrong": wrong}))
dist.destroy_process_group()

"""What `benchmarks/gpu.sh` runs under compute-sanitizer: each kind of GPU kernel once, on ragged shapes."""

import torch

from ddfnet.bench.cases import OpCase

CASES = (
    OpCase(2, 40, 9, 13),
    OpCase(2, 40, 9, 13, stride=2, heads=2),
    OpCase(1, 20, 7, 11, kernel_size=5, dilation=2, combine="add"),
    OpCase(1, 20, 5, 7, scale_factor=2),
    OpCase(1, 20, 5, 7, scale_factor=3, filters="spatial"),
)

for case in CASES:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        inputs = case.inputs(device="cuda", memory_format=memory_format, requires_grad=True)
        case.call(*inputs, backend="triton").square().sum().backward()
torch.cuda.synchronize()
print(f"{2 * len(CASES)} calls, forward and backward")

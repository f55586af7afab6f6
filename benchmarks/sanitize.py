"""What `benchmarks/gpu.sh` runs under compute-sanitizer: each kind of GPU kernel, of the operator and the layer."""

import torch

import ddfnet
from ddfnet.bench.cases import OpCase

CASES = (
    OpCase(2, 40, 9, 13),
    OpCase(2, 40, 9, 13, stride=2, heads=2),
    OpCase(1, 20, 7, 11, kernel_size=5, dilation=2, combine="add"),
    OpCase(1, 20, 5, 7, scale_factor=2),
    OpCase(1, 20, 5, 7, scale_factor=3, filters="spatial"),
)
LAYERS = ({}, {"stride": 2, "heads": 2}, {"kernel_size": 5})

calls = 0
for memory_format in (torch.contiguous_format, torch.channels_last):
    for dtype in (torch.float32, torch.bfloat16):
        for case in CASES:
            inputs = case.inputs(dtype=dtype, device="cuda", memory_format=memory_format, requires_grad=True)
            case.call(*inputs, backend="triton").square().sum().backward()
            calls += 1
        for options in LAYERS:
            layer = ddfnet.DDF(40, backend="triton", device="cuda", dtype=dtype, **options)
            x = torch.randn(2, 40, 9, 13, device="cuda", dtype=dtype).contiguous(memory_format=memory_format)
            layer(x.requires_grad_()).square().sum().backward()
            calls += 1
torch.cuda.synchronize()
print(f"{calls} calls, forward and backward")

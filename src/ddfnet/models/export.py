"""ONNX files of networks: written whole, of standard operators only, and checked against PyTorch before they stand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ddfnet.atomic import whole_or_absent
from ddfnet.models.depth.joint_upsampling import DDFUpNet

TOLERANCE = 1e-4


def export_onnx(model: nn.Module, path: Path, input_shape: Sequence[int]) -> float:
    """Write `model` to `path` as ONNX with dynamic batch, height and width, and run it with onnxruntime.

    The exported graph is Eq. 2 in standard ONNX operators: running it needs nothing from ddfnet. It is checked on inputs
    of two sizes; where it differs from PyTorch, no file is left.

    Args:
        model: a network of one image input, put in eval mode.
        path: of the file.
        input_shape: (B, C, H, W) to trace with; the file takes any B, H and W that the network takes.

    Returns:
        The largest difference to PyTorch's output found, relative to the output's largest value.

    Raises:
        RuntimeError: an operator is not standard, or the outputs differ by more than 1e-4.
    """
    dynamic = torch.export.Dim.DYNAMIC
    batch, channels, height, width = input_shape
    example = torch.randn(max(2, batch), channels, height, width)
    checks = [(torch.randn(input_shape),), (torch.randn(batch + 1, channels, height + 7, width + 4),)]
    return _export(model, path, (example,), ({0: dynamic, 2: dynamic, 3: dynamic},), checks)


def export_joint_onnx(network: DDFUpNet, path: Path, depth_size: Sequence[int] = (8, 12)) -> float:
    """Write a network that upsamples depth under an image, as `export_onnx` does a network of one image.

    The file's inputs are "depth" (B, 1, h, w) and "rgb" (B, 3, f*h, f*w) for any B, h and w: an image whose sides are no
    multiples of f is extended by its last row and column before, and the output cropped.

    Args:
        network: put in eval mode.
        path: of the file.
        depth_size: (h, w) to trace with, of at least 2.

    Returns, raises:
        As `export_onnx`.
    """
    f, (h, w) = network.scale_factor, depth_size
    batch, rows, columns = torch.export.Dim("batch"), torch.export.Dim("rows"), torch.export.Dim("columns")

    def inputs(batch: int, h: int, w: int) -> tuple[Tensor, Tensor]:
        return torch.rand(batch, 1, h, w), torch.rand(batch, 3, f * h, f * w)

    shapes = {0: batch, 2: rows, 3: columns}, {0: batch, 2: f * rows, 3: f * columns}
    return _export(network, path, inputs(2, h, w), shapes, [inputs(1, h, w), inputs(3, h + 3, w + 2)])


def _export(
    model: nn.Module,
    path: Path,
    example: tuple[Tensor, ...],
    dynamic_shapes: tuple[dict[int, Any], ...],
    checks: Sequence[tuple[Tensor, ...]],
) -> float:
    import onnx
    import onnxruntime

    model = model.eval()
    device = next(model.parameters()).device
    with whole_or_absent(path) as partial:
        torch.onnx.export(
            model,
            tuple(tensor.to(device) for tensor in example),
            str(partial),
            dynamo=True,
            dynamic_shapes=dynamic_shapes,
            external_data=False,
            verbose=False,
        )
        graph = onnx.load(str(partial)).graph
        foreign = sorted({f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")})
        if foreign:
            raise RuntimeError(f"{path}: expected standard ONNX operators only, got {', '.join(foreign)}")
        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        worst = 0.0
        for inputs in checks:
            with torch.no_grad():
                expected = model(*(tensor.to(device) for tensor in inputs)).cpu()
            (got,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
            difference = float((torch.from_numpy(got) - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
            worst = max(worst, difference)
        if worst > TOLERANCE:
            raise RuntimeError(f"{path}: expected PyTorch's outputs to {TOLERANCE:g}, got a difference of {worst:.2g}")
    return worst

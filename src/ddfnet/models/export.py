"""ONNX files of networks: written whole, of standard operators only, and checked against PyTorch before they stand."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ddfnet.atomic import whole_or_absent

TOLERANCE = 1e-4


def export_onnx(model: nn.Module, path: Path, input_shape: Sequence[int]) -> float:
    """Writes `model` to `path` as ONNX with dynamic batch, height and width, and runs it with onnxruntime.

    The exported graph is Eq. 2 in standard ONNX operators: whoever runs it needs nothing of ddfnet. It is checked on inputs
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
    import onnx
    import onnxruntime

    model = model.eval()
    device = next(model.parameters()).device
    dynamic = torch.export.Dim.DYNAMIC
    example = torch.randn(max(2, input_shape[0]), *input_shape[1:], device=device)
    with whole_or_absent(path) as partial:
        torch.onnx.export(
            model,
            (example,),
            str(partial),
            dynamo=True,
            dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
            external_data=False,
            verbose=False,
        )
        graph = onnx.load(str(partial)).graph
        foreign = sorted({f"{node.domain}.{node.op_type}" for node in graph.node if node.domain not in ("", "ai.onnx")})
        if foreign:
            raise RuntimeError(f"{path}: expected standard ONNX operators only, got {', '.join(foreign)}")
        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        batch, channels, height, width = input_shape
        worst = 0.0
        for shape in ((batch, channels, height, width), (batch + 1, channels, height + 7, width + 4)):
            x = torch.randn(shape)
            with torch.no_grad():
                expected = model(x.to(device)).cpu()
            (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            difference = float((torch.from_numpy(got) - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
            worst = max(worst, difference)
        if worst > TOLERANCE:
            raise RuntimeError(f"{path}: expected PyTorch's outputs to {TOLERANCE:g}, got a difference of {worst:.2g}")
    return worst

"""`ddfnet export MODEL --onnx FILE`: a network as a checked ONNX file; `--hub DIR`: as a folder to ship."""

from pathlib import Path

from ddfnet.cli.parsing import Parser


def main(argv: list[str]) -> int:
    parser = Parser(
        prog="ddfnet export",
        description="Writes a network as ONNX, of standard operators, and checks it with onnxruntime; or a trained one as "
        "a folder with its weights (safetensors), configuration and card, which `ddfnet.load` and, of a classifier, "
        "`timm.create_model('local-dir:DIR', pretrained=True)` read.",
    )
    parser.add_argument("MODEL", help="folder of a run, or a network of timm or ddfnet")
    written = parser.add_mutually_exclusive_group(required=True)
    written.add_argument("--onnx", type=Path, metavar="FILE", help="the file to write")
    written.add_argument(
        "--hub", type=Path, metavar="DIR", help="the folder to write, new or empty; of a run or a checkpoint"
    )
    parser.add_argument(
        "--input-shape",
        type=int,
        nargs=4,
        metavar=("B", "C", "H", "W"),
        help="of the example input; any batch and image size runs (default: the run's, or 1 3 224 224)",
    )
    options = parser.parse_args(argv)
    if options.hub is not None:
        return _hub(Path(options.MODEL), options.hub)

    import logging
    import warnings

    from torch import nn

    from ddfnet.models.export import export_onnx

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    network: nn.Module
    if Path(options.MODEL).is_dir():
        from ddfnet.models.depth.joint_upsampling import DDFUpNet
        from ddfnet.models.export import export_joint_onnx
        from ddfnet.tasks.run.loading import load_run

        run = load_run(Path(options.MODEL))
        if isinstance(run.task.network, DDFUpNet):
            if options.input_shape is not None:
                raise ValueError(
                    f"--input-shape: expected none with a {type(run.task.network).__name__}, which takes any"
                )
            return _report(options.onnx, export_joint_onnx(run.task.network, options.onnx))
        if not run.task.takes_batches:
            raise ValueError(
                f"MODEL: expected a run whose network takes batches of images, got {run.task.name}: {run.folder.path}"
            )
        network, shape = run.task.network, options.input_shape or run.task.describe(run.data)["input_shape"]
    else:
        from ddfnet.models.classification.resnet import create_model, is_model

        if not is_model(options.MODEL):
            raise ValueError(f"MODEL: neither the folder of a run nor a network of timm or ddfnet: {options.MODEL!r}")
        print(f"{options.MODEL}: its weights are drawn at random; export the folder of a run to keep trained ones")
        network, shape = create_model(options.MODEL), options.input_shape or [1, 3, 224, 224]
    return _report(options.onnx, export_onnx(network, options.onnx, shape))


def _hub(run: Path, folder: Path) -> int:
    from ddfnet.cli.experiment import quiet
    from ddfnet.tasks.hub import export_hub
    from ddfnet.tasks.run.folder import RunFolder
    from ddfnet.tasks.trained import load

    quiet()
    summary = RunFolder(run if run.is_dir() else run.parent).read_summary() or {}
    scores = {name: value for name, value in summary.items() if name.startswith("test_")}
    for path in export_hub(load(run), folder, scores=scores):
        print(path)
    return 0


def _report(path: Path, worst: float) -> int:
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, for any batch and image size")
    print(f"onnxruntime's output differs from PyTorch's by {worst:.1e} of its largest value")
    return 0

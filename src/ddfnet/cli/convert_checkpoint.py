"""`ddfnet convert-checkpoint IN -o OUT.safetensors`: the weights of a released checkpoint, and nothing else."""

from pathlib import Path

from ddfnet.cli.parsing import Parser


def main(argv: list[str]) -> int:
    parser = Parser(
        prog="ddfnet convert-checkpoint",
        description="Writes the weights of the authors' checkpoint, or of one of timm's, as safetensors.",
    )
    parser.add_argument("IN", type=Path, help="checkpoint: .pth, .pth.tar, .pt")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.safetensors")
    parser.add_argument("--no-ema", action="store_true", help="the last weights, not their moving average")
    options = parser.parse_args(argv)

    from ddfnet.models.classification.checkpoints import convert_released

    count = convert_released(options.IN, options.out, ema=not options.no_ema)
    print(f"{options.out}: {count} tensors, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0

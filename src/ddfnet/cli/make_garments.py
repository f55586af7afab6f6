"""`ddfnet make-garments DIR`: the small detection data set, in COCO's format, for training here or anywhere else."""

from pathlib import Path

from ddfnet.cli.parsing import Parser


def main(argv: list[str]) -> int:
    from ddfnet.data.detection import garments

    parser = Parser(
        prog="ddfnet make-garments",
        description="Makes a detection data set in COCO's format: Fashion-MNIST's garments at many scales, over each other, "
        "on scikit-image's photographs. `ddfnet train --config garments/ddf_up` makes it by itself, in the user's cache.",
    )
    parser.add_argument("DIR", type=Path, help="the folder to make")
    parser.add_argument(
        "--images",
        nargs=3,
        type=int,
        default=garments.IMAGES,
        metavar=("TRAIN", "VAL", "TEST"),
        help=f"how many (default: {' '.join(map(str, garments.IMAGES))})",
    )
    parser.add_argument(
        "--image-size", type=int, default=garments.IMAGE_SIZE, metavar="PIXELS", help="(default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    options = parser.parse_args(argv)
    made = garments.make_garments(options.DIR, images=options.images, image_size=options.image_size, seed=options.seed)
    for name, counts in made.items():
        classes = ", ".join(f"{count:,} {what}" for what, count in counts.items() if what != "images")
        print(f"{options.DIR / name}: {counts['images']:,} images; boxes: {classes}")
    return 0

"""`ddfnet show IMAGE`: pictures of the filters that a network's DDF layer predicts for an image, and of its feature maps."""

from pathlib import Path

from ddfnet.cli.parsing import Parser, folder_to_write, whole

MODEL = "ddf_mul_resnet50"
CLUSTERS = 6


def main(argv: list[str]) -> int:
    parser = Parser(prog="ddfnet show", description=__doc__)
    parser.add_argument("IMAGE", type=Path, help="a file that Pillow reads")
    parser.add_argument(
        "--model",
        default=MODEL,
        metavar="NAME|RUN|FILE",
        help="a network of timm or ddfnet, with random weights; the folder of a run of classification; or a checkpoint "
        f"of the authors' (default: {MODEL})",
    )
    parser.add_argument("--layer", metavar="NAME", help="of the DDF layer (default: the first)")
    parser.add_argument(
        "--beside",
        metavar="NAME|RUN|FILE",
        help="the network whose layer of that name gives the dense maps (default: a dense convolution with random weights)",
    )
    parser.add_argument(
        "--size", type=whole(1), metavar="N", help="pixels of the shorter side (default: the network's)"
    )
    parser.add_argument("--clusters", type=int, default=CLUSTERS, metavar="N", help=f"1 to 10 (default: {CLUSTERS})")
    parser.add_argument(
        "-o", "--output", type=folder_to_write, metavar="FOLDER", help="(default: show-IMAGE, by the image's name)"
    )
    args = parser.parse_args(argv)
    if not 1 <= args.clusters <= 10:
        raise ValueError(f"--clusters: expected 1 to 10, got {args.clusters}")
    folder = args.output or folder_to_write(f"show-{args.IMAGE.stem}")
    if not args.IMAGE.is_file():
        raise FileNotFoundError(f"{args.IMAGE}: no such image")

    from ddfnet.cli.experiment import quiet
    from ddfnet.tasks.classification import show
    from ddfnet.tasks.classification.filter_pictures import draw_all

    quiet()
    image = show.read(args.IMAGE)
    subject = show.subject(args.model)
    beside = None if args.beside is None else show.subject(args.beside)
    seen = show.look(subject, subject.prepare(image, args.size), args.layer, beside)
    folder.mkdir(parents=True, exist_ok=True)
    paths = draw_all(seen, folder, clusters=args.clusters)
    if subject.weights == "random weights":
        print(f"{args.model}: its weights are drawn at random; the folder of a run shows what was learned")
    print(f"{seen.title}:")
    for path in paths:
        print(f"  {path}")
    return 0

"""A trained network as a folder to ship: weights as safetensors, configuration and card, as model hubs have them."""

import json
from pathlib import Path
from typing import Any

import ddfnet
from ddfnet.atomic import whole_or_absent, write_text
from ddfnet.tasks.trained import CLASSIFICATION, Trained

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def export_hub(trained: Trained, folder: Path, *, scores: dict[str, Any] | None = None) -> list[Path]:
    """Write `folder/model.safetensors`, `config.json` and `README.md`, each whole or not at all.

    `ddfnet.load(folder)` reads them; a classifier is read by `timm.create_model("local-dir:FOLDER", pretrained=True)` too,
    where `ddfnet.models` is imported.

    Args:
        trained: of `ddfnet.load`, with the options of its run.
        scores: for the card, by name.

    Raises:
        FileExistsError: `folder` is a file, or holds other files of these names.
        ValueError: the options of its run are not known.
    """
    from safetensors.torch import save_file

    if not trained.config:
        raise ValueError("trained: expected a network whose options are known, of a run or an exported folder")
    paths = [folder / name for name in (WEIGHTS, CONFIG, CARD)]
    taken = [path for path in (folder, *paths) if path.exists() and (path != folder or not path.is_dir())]
    if taken:
        raise FileExistsError(f"{taken[0]}: expected a new or an empty folder, found a file")
    content = _config(trained)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in trained.network.state_dict().items()}
    with whole_or_absent(paths[0]) as partial:
        save_file(state, partial, {"format": "pt"})
    write_text(paths[1], json.dumps(content, indent=2) + "\n")
    write_text(paths[2], _card(trained, content.get("architecture"), scores or {}))
    return paths


def _config(trained: Trained) -> dict[str, Any]:
    """Return the configuration that builds the network again, for `ddfnet.load` and, if it is one of timm's, for timm."""
    config = json.loads(json.dumps(trained.config, default=str))
    ours = {"version": ddfnet.__version__, "classes": list(trained.class_names), "config": config}
    if trained.config["model"]["class_path"] != CLASSIFICATION:
        return {"ddfnet": ours}
    network: Any = trained.network
    options = config["model"].get("init_args") or {}
    arguments = {name: value for name, value in (options.get("network_args") or {}).items() if "pretrained" not in name}
    channels = trained.transform.channels  # type: ignore[attr-defined]
    return {
        "architecture": options.get("network", "ddf_resnet_mini"),
        "num_classes": len(trained.class_names),
        "num_features": network.num_features,
        "model_args": {**arguments, "num_classes": len(trained.class_names), "in_chans": channels},
        "pretrained_cfg": {**_preparation(trained, channels), "label_names": list(trained.class_names)},
        "ddfnet": ours,
    }


def _preparation(trained: Trained, channels: int) -> dict[str, Any]:
    """Return how images are prepared, in timm's words."""
    network: Any = trained.network
    own = network.pretrained_cfg
    kept = ("pool_size", "crop_pct", "crop_mode", "interpolation", "mean", "std", "first_conv", "classifier")
    prepared = {name: own[name] for name in kept if own.get(name) is not None}
    size = own["input_size"][-1]
    steps = dict(trained.transform.preparation)  # type: ignore[attr-defined]
    size = steps.pop("size", size)
    prepared |= steps
    for name in ("mean", "std"):
        values = tuple(prepared[name])
        prepared[name] = values if len(values) == channels else (sum(values) / len(values),) * channels
    return {**prepared, "input_size": (channels, size, size)}


def _card(trained: Trained, architecture: str | None, scores: dict[str, Any]) -> str:
    options = trained.config["model"].get("init_args") or {}
    name = architecture or options.get("backbone") or options.get("network") or trained.task
    library = "timm" if architecture else "ddfnet"
    lines = ["---", f"library_name: {library}", "tags:", f"- {trained.task}", "- ddfnet", "---", f"# {name}", ""]
    lines += [f"A network for {trained.task}, trained by ddfnet {ddfnet.__version__}.", ""]
    if trained.class_names:
        lines += [f"Classes: {', '.join(trained.class_names)}.", ""]
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in scores.items()] + [""] * bool(scores)
    lines += ["```python", "import ddfnet", "", 'trained = ddfnet.load("FOLDER")  # this folder']
    if trained.task == "classification":
        lines += [
            'scores = trained(trained.transform("image.jpg")[None]).softmax(1)',
            "```",
            "",
            "or by timm alone:",
            "",
        ]
        lines += ["```python", "import ddfnet.models  # registers the networks", "import timm", ""]
        lines += ['network = timm.create_model("local-dir:FOLDER", pretrained=True).eval()']
    elif trained.task == "detection":
        lines += ['(found,) = trained([trained.transform("image.jpg")])  # boxes, labels, scores']
    else:
        lines += ["full = ddfnet.upsample_depth(depth, rgb, network=trained.network)"]
    return "\n".join([*lines, "```", ""])

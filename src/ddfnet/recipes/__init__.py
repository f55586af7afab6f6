"""YAML package data, one file an experiment; each opens with its command, hardware, time, expected and measured score."""

from pathlib import Path

from ddfnet.package_data import package_folder

FOLDER = package_folder("recipes")


def names() -> list[str]:
    """Of all recipes, as `--config` takes them: "fashion_mnist/ddf_resnet_mini"."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def find(name: str) -> Path:
    """The file of a recipe, or the file `name` is; FileNotFoundError, with the names there are, where it is neither."""
    for path in (FOLDER / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name}: neither a file nor a recipe; the recipes are {', '.join(names())}")


def groups() -> list[str]:
    """The folders of recipes."""
    return sorted({name.rpartition("/")[0] for name in names()})


def group(name: str) -> list[str]:
    """The recipes of a folder, or the one recipe or file of that name; FileNotFoundError where it is none of them."""
    if name in groups():
        return [recipe for recipe in names() if recipe.rpartition("/")[0] == name]
    find(name)
    return [name]

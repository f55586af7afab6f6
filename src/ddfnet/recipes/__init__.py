"""Recipes: YAML package data, an experiment in each file.

`base: NAME` names a file that a recipe changes: what it says itself counts. Files that begin with `_` are bases only.
"""

import re
from pathlib import Path
from typing import Any

from ddfnet.package_data import package_folder

FOLDER = package_folder("recipes")


def names() -> list[str]:
    """Return all recipes, as `--config` takes them: "fashion_mnist/ddf_resnet_mini"."""
    paths = (path for path in FOLDER.rglob("*.yaml") if not path.name.startswith("_"))
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in paths)


def find(name: str) -> Path:
    """Return the file of a recipe, or the file `name`; raise FileNotFoundError, with all names, if it is neither."""
    for path in (FOLDER / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name}: neither a file nor a recipe; the recipes are {', '.join(names())}")


def groups() -> list[str]:
    """Return the folders of recipes."""
    return sorted({name.rpartition("/")[0] for name in names()})


def group(name: str) -> list[str]:
    """Return the recipes of a folder, or the recipe or file of that name; raise FileNotFoundError if it is none of these."""
    if name in groups():
        return [recipe for recipe in names() if recipe.rpartition("/")[0] == name]
    find(name)
    return [name]


def load(name: str) -> dict[str, Any]:
    """Return the options of a recipe or a YAML file, with those of its bases.

    Raises:
        FileNotFoundError: it is neither.
        ValueError: it is not YAML, or not a mapping.
    """
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """YAML 1.2's floats: YAML 1.1 reads 1e-3 as text."""

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
    )
    path = find(name)
    try:
        options = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: expected YAML ({' '.join(str(error).split())})") from None
    if not isinstance(options, dict):
        raise ValueError(f"{path}: expected options by name, got {type(options).__name__}")
    base = options.pop("base", None)
    return options if base is None else merged(load(base), options)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return options with changes: mappings key by key, unless they are of another class; all else as a whole."""
    if base.get("class_path") != changes.get("class_path", base.get("class_path")):
        return changes
    found = dict(base)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = merged(found[name], value) if both else value
    return found

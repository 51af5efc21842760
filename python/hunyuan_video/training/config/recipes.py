"""Recipes by name: `tiny/flow` is recipes/tiny/flow.yaml, of the clone or of the installed package, from any folder."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
# In a wheel they lie in the package, in a clone at its root.
FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")


def recipe_path(config: str | Path) -> Path:
    """The file of a configuration: the path itself where there is one, else the recipe of that name, else the path."""
    path = Path(config)
    if path.exists() or path.is_absolute():
        return path
    name = path.relative_to("recipes") if path.parts[:1] == ("recipes",) else path
    for folder in FOLDERS:
        for file in (folder / name, folder / f"{name}.yaml"):
            if file.is_file():
                return file
    return path


def recipe_names() -> list[str]:
    """The names that `recipe_path` knows, sorted."""
    return sorted({
        file.relative_to(folder).with_suffix("").as_posix() for folder in FOLDERS for file in folder.rglob("*.yaml")
    })  # fmt: skip

"""Names of folders and files in a pipeline's folder: the only place that knows them.

| part | diffusers | official |
|---|---|---|
| transformer | transformer/ | hunyuan-video-t2v-720p/transformers/ |
| VAE | vae/ | hunyuan-video-t2v-720p/vae/ |
| language model, its tokenizer | text_encoder/, tokenizer/ | text_encoder/ |
| CLIP, its tokenizer | text_encoder_2/, tokenizer_2/ | text_encoder_2/ |

Ours in both: adapters/NAME.safetensors and sampling.json, which says what the checkpoint is sampled with by default.
"""

from __future__ import annotations

from pathlib import Path

from hunyuan_video.checkpoints.hub import cached_repository, is_repository
from hunyuan_video.checkpoints.names import Component, Layout
from hunyuan_video.errors import UserError

BUNDLED = {"tiny": Path(__file__).resolve().parents[1] / "assets" / "tiny"}
OFFICIAL_ROOT = "hunyuan-video-t2v-720p"
MODEL_INDEX, SAMPLING, ADAPTERS, CONFIG = "model_index.json", "sampling.json", "adapters", "config.json"
SCHEDULER = Path("scheduler") / "scheduler_config.json"
TEXT = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}  # encoder's folder -> its tokenizer's
PARTS = ("transformer", "vae", "text_encoder", "clip_text_encoder")
TOKENIZER_FILES = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "chat_template*"),
)
# Where a component lies below a root, in order of preference.
_COMPONENTS: dict[Component, dict[Layout, tuple[str, ...]]] = {
    "transformer": {"official": (f"{OFFICIAL_ROOT}/transformers", "transformers"), "diffusers": ("transformer",)},
    "vae": {"official": (f"{OFFICIAL_ROOT}/vae",), "diffusers": ("vae",)},
}
COMPONENTS: tuple[Component, ...] = tuple(_COMPONENTS)


def component_folder(layout: Layout, component: Component) -> Path:
    """Folder of a component below a pipeline's root."""
    return Path(_COMPONENTS[component][layout][0])


def find_component_folder(root: Path, component: Component) -> Path | None:
    """A component's folder below a root of either layout; None where there is none."""
    names = [name for folders in _COMPONENTS[component].values() for name in folders]
    return next((root / name for name in names if (root / name).is_dir()), None)


def is_pipeline(path: Path) -> bool:
    """True for the root of a pipeline rather than of one model."""
    return (path / MODEL_INDEX).is_file() or (path / OFFICIAL_ROOT).is_dir() or (path / "text_encoder").is_dir()


def checkpoint_folder(name: str | Path) -> Path:
    """The folder of a bundled checkpoint's name, of a path, or of a repository OWNER/NAME on the hub, which is fetched.

    UserError if there is none.
    """
    if str(name) in BUNDLED:
        if not (BUNDLED[str(name)] / MODEL_INDEX).exists():
            raise UserError(f"the bundled checkpoint {str(name)!r} is not in this installation; install it again")
        return BUNDLED[str(name)]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if is_repository(str(name)) and not folder.parent.exists():  # else a name in a folder that is there
        return cached_repository(str(name))
    raise UserError(f"no checkpoint folder {str(name)!r}; give a folder, or one of: {', '.join(BUNDLED)}")


def part_folders(folder: Path) -> dict[str, Path]:
    """Folders of a checkpoint's parts, in diffusers layout (model_index.json) or official layout."""
    if (folder / MODEL_INDEX).exists() or (folder / "transformer").is_dir():
        root, layout, base = folder, "diffusers", folder
    else:
        root = folder if folder.name == OFFICIAL_ROOT else folder / OFFICIAL_ROOT
        layout, base = "official", root.parent
        if not root.is_dir():
            raise UserError(
                f"{folder} is not a HunyuanVideo checkpoint: "
                f"it has neither {MODEL_INDEX} (diffusers) nor {OFFICIAL_ROOT} (official)"
            )
    models = ("transformer", "vae") if layout == "diffusers" else ("transformers", "vae")
    return dict(zip(PARTS, (*(root / name for name in models), *(base / name for name in TEXT)), strict=True))


def tokenizer_folder(encoder: Path) -> Path:
    """The folder of a text encoder's tokenizer: diffusers' own one, else the encoder's."""
    apart = encoder.parent / TEXT[encoder.name]
    return apart if apart.is_dir() else encoder

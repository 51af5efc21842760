"""Clips and what they are encoded to: sources, buckets, data sets of latents, toyworlds (names load on first use).

>>> data = EncodedDataset(Path("data"))  # made by data.encode.encode, or `hunyuan-video encode`
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hunyuan_video.data.buckets import Bucket
    from hunyuan_video.data.encode import EncodeRequest
    from hunyuan_video.data.latent_dataset import EncodedDataset
    from hunyuan_video.data.sources import Clip, open_source

_HOMES = {
    "Bucket": "buckets",
    "Clip": "sources",
    "EncodeRequest": "encode",
    "EncodedDataset": "latent_dataset",
    "open_source": "sources",
}

__all__ = ["Bucket", "Clip", "EncodeRequest", "EncodedDataset", "open_source"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

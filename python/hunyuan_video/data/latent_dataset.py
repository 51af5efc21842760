"""A data set of encoded clips: VAE latents and text features, grouped by bucket (frames x height x width).

    folder/dataset.json                  what encoded it: hashes of the VAE's encoder and of the text encoders
    folder/empty.safetensors             features of the empty caption, for classifier-free guidance
    folder/17x64x64/00000.tar, .json     shards (see shards.py); one <key>.safetensors for each clip

Every order is a function of (seed, position), so a run resumes in the middle of an epoch by its position alone, and any
number of readers gives the same batches.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from hunyuan_video.data.record import read_description
from hunyuan_video.data.shards import Member, read_index, read_member
from hunyuan_video.data.staleness import differences
from hunyuan_video.errors import UserError, notify


@dataclass(frozen=True)
class EncodedClip:
    """One clip as the transformer trains on it."""

    key: str
    latents: Tensor  # [C, T, h, w] float16, in model space (scaled)
    captions: list[str]  # K sentences of the same clip
    texts: list[Tensor]  # K times [n_k, D], the valid tokens only
    pooled: Tensor  # [K, P]
    passed: int = 0  # clips before it in its stream that could not be read


def unstorable(latents: Tensor) -> str:
    """Why latents cannot be kept in float16, in words; "" if they can."""
    largest = torch.stack(latents.aminmax()).abs().max().item() if latents.numel() else 0.0
    if not math.isfinite(largest):
        return "are not finite; look at the VAE, or use it in float32"
    limit = torch.finfo(torch.float16).max
    return (
        f"reach {largest:.3g}, float16 ends at {limit:g}; look at the VAE's scaling_factor" if largest > limit else ""
    )


def pack(clip: EncodedClip) -> bytes:
    """A clip as the bytes of a safetensors file; texts are stored one after the other."""
    tensors = {
        "latents": clip.latents.contiguous(),
        "text": torch.cat(clip.texts).contiguous(),
        "lengths": torch.tensor([len(text) for text in clip.texts], device="cpu"),
        "pooled": clip.pooled.contiguous(),
    }
    # One entry: safetensors writes several in random order, and equal clips shall be equal bytes.
    return save_safetensors(tensors, {"clip": json.dumps({"key": clip.key, "captions": clip.captions})})


def unpack(content: bytes) -> EncodedClip:
    """The inverse of `pack`. Raises ValueError for bytes that are not a clip."""
    try:
        tensors = load_safetensors(content)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["clip"])
        texts = list(tensors["text"].split(tensors["lengths"].tolist()))
        return EncodedClip(metadata["key"], tensors["latents"], metadata["captions"], texts, tensors["pooled"])
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"not an encoded clip ({error})") from None


@lru_cache(maxsize=64)
def _permutation(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed), device="cpu")


@dataclass(frozen=True)
class Batch:
    """Clips of one bucket with one caption each."""

    latents: Tensor  # [B, C, T, h, w] float32
    text: Tensor  # [B, L, D] float32, padded with zeros
    mask: Tensor  # [B, L] int64, 1 = valid
    pooled: Tensor  # [B, P] float32
    keys: list[str]
    captions: list[str]
    passed: int = 0  # clips passed over, because they could not be read


@dataclass
class EncodedDataset:
    """Reads a folder that `hunyuan-video encode` wrote.

    expect: hashes ("vae", "text") that the data must have been made with; others raise UserError.
    held_out: the last clips of each bucket that its stream leaves out.
    image_first: for image-to-video; UserError unless the clips' first frames were encoded alone.
    """

    folder: Path
    expect: dict[str, str] = field(default_factory=dict)
    held_out: int = 0
    image_first: bool = False
    unreadable: int = field(default=0, init=False)  # reads that failed so far, of any thread and for any purpose

    def __post_init__(self):
        self.folder = Path(self.folder)
        try:
            self.description = read_description(self.folder / "dataset.json")
            self.empty = unpack((self.folder / "empty.safetensors").read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.folder}: no encoded data set ({error}); make one with `hunyuan-video encode`"
            ) from None
        self.check_encoders(self.expect)
        if self.image_first and not self.description["source"].get("image_first"):
            raise UserError(f"{self.folder}: image-to-video wants data of `hunyuan-video encode --image-first`")
        self.buckets: dict[str, list[Member]] = {}
        for shard in sorted(self.folder.glob("[0-9]*x*x*/[!.]*.tar")):  # a Mac leaves ._00000.tar beside 00000.tar
            if members := read_index(shard):
                self.buckets.setdefault(shard.parent.name, []).extend(members)
        if not self.buckets:
            raise UserError(f"{self.folder}: holds no clips; finish `hunyuan-video encode` first")
        self.kept_back: dict[str, list[Member]] = {}
        for name, members in self.buckets.items():
            if self.held_out >= len(members):
                raise UserError(
                    f"{self.folder}/{name}: held_out {self.held_out} leaves nothing of {len(members)} clips"
                )
            self.kept_back[name] = members[len(members) - self.held_out :]
            self.buckets[name] = members[: len(members) - self.held_out]

    @property
    def format(self) -> int:
        """Format that dataset.json names: which hashes of encoders it holds."""
        return self.description["format"]

    def check_encoders(self, expect: dict[str, str]) -> None:
        """UserError unless the data was made with encoders of these hashes (of the data set's own format)."""
        for name, value in expect.items():
            if self.description[name] != value:
                raise UserError(
                    f"{self.folder}: encoded with another {name} encoder "
                    f"({self.description[name]}, this run has {value}); "
                    "encode the data again or train with that encoder"
                )

    def tell_differences(self) -> None:
        """Notices of shards that are missing, and of a source that has changed since it was encoded."""
        for line in differences(self.folder, self.description["source"]):
            notify(line)

    def __len__(self) -> int:
        return sum(len(members) for members in self.buckets.values())

    def contents(self) -> str:
        """A hash of which clips there are, in their order, of their lengths and of what they were made of."""
        names = {
            bucket: [(m.name, m.length, m.made_of) if m.made_of else (m.name, m.length) for m in members]
            for bucket, members in self.buckets.items()
        }
        return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]

    def member(self, bucket: str, position: int, seed: int) -> Member:
        """The clip at a position of a bucket's endless stream: every epoch is another permutation."""
        members = self.buckets[bucket]
        epoch, place = divmod(position, len(members))
        return members[int(_permutation(len(members), (seed * 1_000_003 + epoch) % 2**62)[place])]

    def clip(self, bucket: str, position: int, seed: int) -> EncodedClip:
        """The clip at a position; unreadable ones are passed over, named in a Notice and counted in `passed`.

        Raises UserError when ten in a row cannot be read.
        """
        for following in range(10):
            if clip := self._read(self.member(bucket, position + following, seed)):
                return replace(clip, passed=following)
        raise UserError(f"{self.folder}/{bucket}: ten clips in a row cannot be read; encode the data again")

    def held_out_clips(self, bucket: str) -> list[EncodedClip]:
        """The readable ones of the clips kept back."""
        return [clip for clip in map(self._read, self.kept_back[bucket]) if clip]

    def _read(self, member: Member) -> EncodedClip | None:
        try:
            clip = unpack(read_member(member))
            if reason := unstorable(clip.latents):
                raise ValueError(f"latents {reason}")
            return clip
        except (OSError, EOFError, ValueError) as error:
            notify(f"passed over: {member.shard}, {member.name}: {error}")
            self.unreadable += 1
            return None

    def batch(self, bucket: str, number: int, size: int, *, seed: int = 0, dropout: float = 0.0) -> Batch:
        """Batch `number` of a bucket's endless stream. dropout: share of captions replaced by the empty one."""
        clips = [self.clip(bucket, position, seed) for position in range(number * size, (number + 1) * size)]
        generator = torch.Generator().manual_seed((seed * 7_368_787 + number) % 2**62)
        drop = torch.rand(len(clips), generator=generator, dtype=torch.float32, device="cpu") < dropout
        draws = torch.rand(len(clips), generator=generator, dtype=torch.float32, device="cpu")
        choices = [-1 if d else int(u * len(c.captions)) for d, u, c in zip(drop, draws, clips, strict=True)]
        return self.collate(clips, choices)

    def collate(self, clips: list[EncodedClip], choices: list[int]) -> Batch:
        """Clips with the chosen caption each; -1: the empty caption."""
        picked = [
            (self.empty.texts[0], self.empty.pooled[0], "") if k < 0 else (c.texts[k], c.pooled[k], c.captions[k])
            for c, k in zip(clips, choices, strict=True)
        ]
        length = max(self.description["text_length"], *(len(text) for text, _, _ in picked))
        text = torch.zeros(len(clips), length, picked[0][0].shape[1], dtype=torch.float32, device="cpu")
        mask = torch.zeros(len(clips), length, dtype=torch.int64, device="cpu")
        for row, (states, _, _) in enumerate(picked):
            text[row, : len(states)] = states.float()
            mask[row, : len(states)] = 1
        latents = torch.stack([clip.latents.float() for clip in clips])
        pooled = torch.stack([clip_text.float() for _, clip_text, _ in picked])
        keys, passed = [clip.key for clip in clips], sum(clip.passed for clip in clips)
        return Batch(latents, text, mask, pooled, keys, [caption for _, _, caption in picked], passed)

"""Ranks that sample together: tokens, guidance, weights and decode in parts, and what the first one finds wrong."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint
from helpers.several_ranks import on_ranks

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.distributed.exact_decoding import decode_frames
from hunyuan_video.distributed.ranks import join_ranks
from hunyuan_video.distributed.ring import heads_degree
from hunyuan_video.distributed.team import Team
from hunyuan_video.errors import UserError
from hunyuan_video.models.vae import streaming

LATENTS = {"seed": 5, "num_inference_steps": 2, "output_type": "latent"}
TOKENS = [(9, 48, 80), (1, 48, 64)]  # 45 tokens; 12, which are all the first rank's
SIZES = [(17, 48, 80), (9, 80, 48), (1, 32, 64), (21, 32, 32)]  # 18, 4, 3 and 4 tiles
EXACT = [((5, 6, 8), None), ((3, 16, 16), 60 << 20), ((1, 4, 4), None)]  # the second by rows; latents and budget


def everything(rank, folder):
    """Results of a rank, by name; frames are the first rank's."""
    ranks = join_ranks("cpu", ParallelConfig())
    many = {} if ranks.count == 1 else {"branches": Team(ranks, branches=True), "ring": Team(ranks, ring=True)}
    pipe = opened(folder, ranks)
    made = {"tokens": guided(pipe)}
    for name, team in many.items():
        pipe.models.team = team
        made[name] = guided(pipe)
    made["streamed"], made["held"], made["owners"] = streamed(folder, ranks)
    if many:
        made["refusal"] = refusal(pipe)
    made["frames"] = frames(opened(folder, ranks))
    return made


def opened(folder, ranks, **options):
    """A pipeline; with a team where there are several ranks."""
    pipe = HunyuanVideoPipeline.from_pretrained(folder, device="cpu", **options)
    if ranks.count > 1:
        pipe.models.share(Team(ranks))
    return pipe


def guided(pipe):
    """Latents with classifier-free guidance, two prompts of other lengths in a batch."""
    prompts = ["a red circle", "a blue star moves left up"]
    sizes = [dict(zip(("num_frames", "height", "width"), size, strict=True)) for size in TOKENS]
    return [pipe(prompts, batch_size=2, **LATENTS, **size).latents.numpy() for size in sizes]


def streamed(folder, ranks):
    """Latents of two runs with weights that are shared; then how many bytes are held here, and the owners."""
    pipe = opened(folder, ranks, memory="stream")
    runs = [pipe("a red circle", num_frames=9, **LATENTS).latents.numpy() for _ in range(2)]
    parts = pipe.models._shared
    return runs, sum(part.held.numel() for part in parts if part.held is not None), {part.owner for part in parts}


def refusal(pipe):
    try:
        pipe("a red circle", cache="first_block", **LATENTS)
    except UserError as error:
        return str(error)
    return ""


def frames(pipe):
    """Frames of a VAE whose tiles and slabs are so small that a video has several; then of exact decodes alone."""
    pipe.vae.config = dataclasses.replace(pipe.vae.config, tile_size=32, tile_frames=8)
    streaming.SLAB_BYTES = 1 << 14
    team, made = pipe.models.team, []
    for (count, height, width), mode in zip(SIZES, ("tiled", "exact", "tiled", "exact"), strict=True):
        size = {"num_frames": count, "height": height, "width": width, "num_inference_steps": 1}
        made.append(pipe("a red", seed=5, vae_mode=mode, **size).frames)
    for shape, budget in EXACT:
        latents = torch.randn(1, 16, *shape, generator=torch.Generator().manual_seed(1))
        if team is None:
            video = pipe.vae.decode(latents, mode="exact", memory_budget=budget)
        else:
            video = decode_frames(pipe.vae, latents, budget, team.everyone)
        made.append(video if video is None else video.detach().numpy())
    return made if team is None or team.first else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with 2 heads, 2 blocks, and classifier-free guidance of 3."""
    return write_random_checkpoint(tmp_path_factory.mktemp("team"))


@pytest.fixture(scope="module")
def alone(folder):
    return on_ranks(1, everything, folder)[0]


@pytest.fixture(scope="module", params=[2, 3, 4])
def together(request, folder):
    return on_ranks(request.param, everything, folder)


def same(first, second):
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def near(first, second):
    return all(abs(a).max() > 1 and abs(a - b).max() < 1e-5 for a, b in zip(first, second, strict=True))


def test_ranks_make_what_one_makes(alone, together):
    """Bit for bit, but for guidance in halves (2 and 4 ranks) and keys around a ring (3 ranks; 2 rings of 2)."""
    for made in together:
        assert same(alone["tokens"], made["tokens"])
        assert near(alone["tokens"], made["branches"]) and near(alone["tokens"], made["ring"])
    assert len(alone["frames"]) == 7 and same(alone["frames"], together[0]["frames"])


def test_ranks_keep_a_part_of_the_weights_each(alone, together):
    assert all(same(alone["streamed"], made["streamed"]) and made["owners"] == {0, 1} for made in together)
    held = [made["held"] for made in together]  # a double and a single block, of the first two ranks
    assert held[0] > held[1] > 0 and not any(held[2:])


def test_every_rank_hears_what_the_first_finds_wrong(together):
    assert all("cache: not on several ranks" in made["refusal"] for made in together)


def test_heads_are_shared_where_they_nearly_divide():
    degrees = {ranks: heads_degree(24, ranks, exact=False) for ranks in (1, 2, 5, 7, 8, 16, 24, 32, 48)}
    assert degrees == {1: 1, 2: 2, 5: 5, 7: 7, 8: 8, 16: 8, 24: 24, 32: 8, 48: 24}
    assert heads_degree(2, 3, exact=False) == 1 and heads_degree(2, 3, exact=True) == 3

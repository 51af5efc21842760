"""Ranks that sample together: guidance in halves, weights in parts, and what the first one finds wrong."""

import dataclasses

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with classifier-free guidance of 3."""
    return write_random_checkpoint(tmp_path_factory.mktemp("team"))


def opened(folder, branches=None, **options):
    """A pipeline; with a team where there are several ranks."""
    pipe = HunyuanVideoPipeline.from_pretrained(folder, device="cpu", **options)
    ranks = join_ranks("cpu", ParallelConfig())
    if ranks.count > 1:
        pipe.models.share(Team(ranks, branches=branches))
    return pipe


def guided(rank, folder, ways):
    """Latents of a run with classifier-free guidance in each way to have it over ranks; the last run is refused."""
    made = [opened(folder, way)("a red circle", seed=5, num_frames=9, output_type="latent").latents for way in ways]
    try:
        opened(folder)("a red circle", cache="first_block")
        refusal = ""
    except UserError as error:
        refusal = str(error)
    return [latents.numpy() for latents in made], refusal


def test_guidance_over_ranks_and_what_the_first_finds_wrong(folder):
    alone = on_ranks(1, guided, folder, [None])[0][0][0]
    for (shared, halved), refusal in on_ranks(2, guided, folder, [None, True]):
        assert (shared == alone).all() and abs(halved - alone).max() < 1e-5
        assert "cache: not on several ranks" in refusal
    for (halved,), _ in on_ranks(4, guided, folder, [True]):
        assert abs(halved - alone).max() < 1e-5


def ringed(rank, folder, sizes):
    """Latents of runs on a team that passes keys around (more ranks than heads), and text of two lengths in a batch."""
    pipe = HunyuanVideoPipeline.from_pretrained(folder, device="cpu")
    ranks = join_ranks("cpu", ParallelConfig())
    if ranks.count > 1:
        pipe.models.share(Team(ranks, ring=True))
    prompts, made = ["a red circle", "a blue star moves left up"], []
    for frames, height, width in sizes:
        size = {"num_frames": frames, "height": height, "width": width, "num_inference_steps": 2}
        made.append(pipe(prompts, seed=5, batch_size=2, output_type="latent", **size).latents.numpy())
    return made


@pytest.mark.parametrize("count", [3, 4])  # 2 heads: a ring of 3, and 2 rings of 2
def test_keys_go_around_a_ring(folder, count):
    sizes = [(9, 48, 80), (1, 48, 64)]  # 45 and 12 tokens: in the second all are the first rank's
    alone = on_ranks(1, ringed, folder, sizes)[0]
    for made in on_ranks(count, ringed, folder, sizes):
        for one, shared in zip(alone, made, strict=True):
            assert abs(one).max() > 1 and abs(one - shared).max() < 1e-5


def test_heads_are_shared_where_they_nearly_divide():
    degrees = {ranks: heads_degree(24, ranks, exact=False) for ranks in (1, 2, 5, 7, 8, 16, 24, 32, 48)}
    assert degrees == {1: 1, 2: 2, 5: 5, 7: 7, 8: 8, 16: 8, 24: 24, 32: 8, 48: 24}
    assert heads_degree(2, 3, exact=False) == 1 and heads_degree(2, 3, exact=True) == 3


def streamed(rank, folder, precision):
    """Latents of two runs with shared weights; after the first one, how many bytes of blocks are held here."""
    pipe = opened(folder, memory="stream", precision=precision)
    settings = {"seed": 5, "num_frames": 9, "num_inference_steps": 2, "output_type": "latent"}
    runs = [pipe("a red circle", **settings).latents.numpy() for _ in range(2)]
    parts = pipe.models._shared
    return runs, sum(part.held.numel() for part in parts if part.held is not None), [part.owner for part in parts]


@pytest.mark.parametrize(("count", "precision"), [(2, None), (3, "fp8")])
def test_ranks_keep_a_part_of_the_weights_each(folder, count, precision):
    whole = on_ranks(1, streamed, folder, precision)[0][0]
    ranks = on_ranks(count, streamed, folder, precision)
    assert all((run == whole[0]).all() for runs, _, _ in ranks for run in runs)
    held = [size for _, size, _ in ranks]
    assert held[0] > held[1] > 0 and not any(held[2:])  # a double and a single block, for the first two ranks
    assert all(set(owners) == {0, 1} for _, _, owners in ranks)


SIZES = [(17, 48, 80), (9, 80, 48), (1, 32, 64), (21, 32, 32)]  # 18, 4, 3 and 4 tiles


EXACT = [((5, 6, 8), None), ((3, 16, 16), 60 << 20), ((1, 4, 4), None)]  # the second by rows; latents and budget


def frames(rank, folder):
    """Frames of a VAE whose tiles and slabs are so small that a video has several; then of exact decodes alone."""
    pipe = opened(folder)
    pipe.vae.config = dataclasses.replace(pipe.vae.config, tile_size=32, tile_frames=8)
    streaming.SLAB_BYTES = 1 << 14
    made = []
    for (count, height, width), mode in zip(SIZES, ("tiled", "exact", "tiled", "exact"), strict=True):
        size = {"num_frames": count, "height": height, "width": width, "num_inference_steps": 1}
        made.append(pipe("a red", seed=5, vae_mode=mode, **size).frames)
    for shape, budget in EXACT:
        latents = torch.randn(1, 16, *shape, generator=torch.Generator().manual_seed(1))
        if pipe.models.team is None:
            video = pipe.vae.decode(latents, mode="exact", memory_budget=budget)
        else:
            video = decode_frames(pipe.vae, latents, budget, pipe.models.team.everyone)
        made.append(None if video is None else video.detach().numpy())
    return made if rank == 0 else None


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_decode_the_video_of_one(folder, count):
    alone, together = on_ranks(1, frames, folder)[0], on_ranks(count, frames, folder)
    assert len(together[0]) == len(SIZES) + len(EXACT)
    for one, shared in zip(alone, together[0], strict=True):
        assert one.std() > 0.01 and (one == shared).all()

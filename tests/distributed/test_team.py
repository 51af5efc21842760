"""Ranks that sample together: guidance in halves, weights in parts, and what the first one finds wrong."""

import pytest
import torch
from helpers.random_checkpoint import write_random_checkpoint
from helpers.several_ranks import on_ranks

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.distributed.ranks import join_ranks
from hunyuan_video.distributed.team import Team
from hunyuan_video.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with classifier-free guidance of 3."""
    return write_random_checkpoint(tmp_path_factory.mktemp("team"))


def made(rank, folder, branches=None, **options):
    """Latents of a run with classifier-free guidance; with a team where there are several ranks."""
    pipe = HunyuanVideoPipeline.from_pretrained(folder, device="cpu")
    ranks = join_ranks("cpu", ParallelConfig())
    if ranks.count > 1:
        pipe.models.share(Team(ranks, branches=branches))
    return pipe("a red circle", seed=5, num_frames=9, output_type="latent", **options).latents.numpy()


@pytest.mark.parametrize(("count", "branches"), [(2, None), (2, True), (4, True)])
def test_guidance_over_ranks(folder, count, branches):
    alone = torch.from_numpy(on_ranks(1, made, folder)[0])
    for latents in map(torch.from_numpy, on_ranks(count, made, folder, branches)):
        assert torch.equal(latents, alone) if branches is None else torch.allclose(latents, alone, atol=1e-5)


def streamed(rank, folder, precision):
    """Latents of two runs with shared weights; after the first one, how many bytes of blocks are held here."""
    pipe = HunyuanVideoPipeline.from_pretrained(folder, device="cpu", memory="stream", precision=precision)
    ranks = join_ranks("cpu", ParallelConfig())
    if ranks.count > 1:
        pipe.models.share(Team(ranks))
    runs = [pipe("a red circle", seed=5, num_frames=9, output_type="latent").latents.numpy() for _ in range(2)]
    parts = [] if ranks.count == 1 else pipe.models._shared
    return runs, sum(part.held.numel() for part in parts if part.held is not None), [part.owner for part in parts]


@pytest.mark.parametrize(("count", "precision"), [(2, None), (3, "fp8")])
def test_ranks_keep_a_part_of_the_weights_each(folder, count, precision):
    whole = on_ranks(1, streamed, folder, precision)[0][0]
    ranks = on_ranks(count, streamed, folder, precision)
    assert all((run == whole[0]).all() for runs, _, _ in ranks for run in runs)
    held = [size for _, size, _ in ranks]
    assert held[0] > held[1] > 0 and not any(held[2:])  # a double and a single block, for the first two ranks
    assert all(set(owners) == {0, 1} for _, _, owners in ranks)


def refused(rank, folder):
    try:
        made(rank, folder, cache="first_block")
    except UserError as error:
        return str(error)
    return ""


def test_every_rank_hears_what_the_first_finds_wrong(folder):
    assert all("cache: not on several ranks" in text for text in on_ranks(2, refused, folder))

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
        pipe.models.team = Team(ranks, branches=branches)
    return pipe("a red circle", seed=5, num_frames=9, output_type="latent", **options).latents.numpy()


@pytest.mark.parametrize(("count", "branches"), [(2, None), (2, True), (4, True)])
def test_guidance_over_ranks(folder, count, branches):
    alone = torch.from_numpy(on_ranks(1, made, folder)[0])
    for latents in map(torch.from_numpy, on_ranks(count, made, folder, branches)):
        assert torch.equal(latents, alone) if branches is None else torch.allclose(latents, alone, atol=1e-5)


def refused(rank, folder):
    try:
        made(rank, folder, cache="first_block")
    except UserError as error:
        return str(error)
    return ""


def test_every_rank_hears_what_the_first_finds_wrong(folder):
    assert all("cache: not on several ranks" in text for text in on_ranks(2, refused, folder))

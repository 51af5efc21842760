"""Pictures inside a training run: the decoder is tried before the first step, and each clip is decoded by itself."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers.small_parts import TINY

from hunyuan_video.errors import Notice
from hunyuan_video.models import CausalVAE
from hunyuan_video.training.tasks.frames import frames_of, try_decoder


def test_a_decoder_that_works_is_tried_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try_decoder(CausalVAE.from_pretrained(TINY / "vae"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_decoder_that_fails_is_told_before_the_first_step(value):
    vae = CausalVAE.from_pretrained(TINY / "vae")
    vae.decoder.conv_out.conv.bias.data.fill_(value)
    with pytest.warns(Notice, match="decoder fails, evaluations and sheets will: the frames hold NaN or infinity"):
        try_decoder(vae)


def test_clips_one_by_one_are_those_decoded_together():
    vae = CausalVAE.from_pretrained(TINY / "vae")
    latents = torch.randn(2, vae.config.latent_channels, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    together = frames_of(vae, latents)
    assert together.shape == (2, 5, 32, 32, 3)
    assert torch.equal(together[1:], frames_of(vae, latents[1:]))

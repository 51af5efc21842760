"""The prompt-following table: a perfect sampler scores 1, one that ignores its prompt scores the floor."""

import pytest
import torch

from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.evaluation.prompt_following import (
    as_markdown,
    attributes,
    held_out_prompts,
    intervals,
    prompt_following,
    psnr,
    reconstruction,
    shifted,
    vae_psnr,
)
from hunyuan_video.media.sheets import contact_sheet

COUNT = 8


def test_perfect_sampler_and_its_floor(tmp_path):
    scenes, prompts = held_out_prompts("narrow", COUNT)
    clips = dict(zip(prompts, render(scenes), strict=True))
    result = prompt_following(
        lambda batch, seed: torch.stack([clips[prompt] for prompt in batch]), "narrow", COUNT, batch=3
    )
    table, made, prompts_used = result.table, result.clips, result.prompts
    assert prompts_used == prompts and made.shape == (COUNT, 17, 64, 64, 3)
    perfect, floor = table["generated"], table["generated, other prompt (floor)"]
    assert perfect["color"] == perfect["shape"] == 1.0 and perfect["all"] >= 0.85
    assert floor["color"] < 0.5 and floor["all"] < 0.2
    text = as_markdown(table)
    assert text.count("\n") == 3 and "floor" in text
    contact_sheet(tmp_path / "sheet.png", list(made), prompts_used)
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_the_wide_world_has_rows_of_one_and_two_things_and_intervals():
    scenes, prompts = held_out_prompts("wide", 6)
    clips = dict(zip(prompts, render(scenes, 5, 48), strict=True))
    result = prompt_following(lambda batch, seed: torch.stack([clips[p] for p in batch]), "wide", 6, num_frames=5)
    pairs = sum(len(scene.things) == 2 for scene in scenes)
    assert result.counts["pair"] == result.counts["relation"] == pairs and result.counts["single"] == 6 - pairs
    one, two = result.table["generated, one thing"], result.table["generated, two things"]
    assert 0 < pairs < 6 and "relation" not in one and "relation" in two
    everything = (one["color"] * (6 - pairs) + two["color"] * pairs) / 6
    assert result.table["generated"]["color"] == pytest.approx(everything)
    low, high = intervals(result.table["generated"], result.counts)["all"]
    assert low <= result.table["generated"]["all"] <= high
    lines = as_markdown(result.table, result.counts).splitlines()
    assert lines[-1].startswith("| generated, 95 % interval | 0.") and lines[0].count("|") == lines[-1].count("|")


def test_prompts_are_repeatable_and_not_the_training_ones():
    scenes, prompts = held_out_prompts("narrow", 4)
    assert (scenes, prompts) == held_out_prompts("narrow", 4)
    assert scenes != [WORLDS["narrow"].scene(i, seed=1) for i in range(4)]
    assert shifted(scenes)[0] == scenes[1] and shifted(scenes)[-1] == scenes[0]


def test_combinations_that_training_showed_are_left_out():
    trained_on = {"seed": 1, "clips": 5000}
    seen = {attributes(WORLDS["narrow"].scene(i, seed=1)) for i in range(5000)}
    scenes, prompts = held_out_prompts("narrow", 20, 7, trained_on=trained_on)
    assert len(scenes) == len(prompts) == 20
    assert not seen & {attributes(scene) for scene in scenes}
    assert seen & {attributes(scene) for scene in held_out_prompts("narrow", 20, 7)[0]}  # the filter is not idle


class Shade(torch.nn.Module):
    """A stand-in with a VAE's interface that darkens by a known amount."""

    def __init__(self, factor):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def encode(self, video):
        return self

    def mode(self):
        return torch.zeros(1)

    def decode(self, latents):
        return torch.full((2, 3, 5, 8, 8), 2 * self.factor.item() - 1)


def test_psnr_of_a_known_error_and_the_reconstruction_range():
    clips = torch.full((2, 5, 8, 8, 3), 100, dtype=torch.uint8)
    same = reconstruction(Shade(100 / 255))(clips)
    assert torch.equal(same, clips)
    off = reconstruction(Shade(110 / 255))(clips)
    assert psnr(off, clips).tolist() == pytest.approx([28.13, 28.13], abs=0.01)
    assert (reconstruction(Shade(3.0))(clips) == 255).all()  # clamped, not wrapped


def test_vae_psnr_reports_mean_worst_and_best():
    values = vae_psnr(lambda clips: clips.clamp(max=200), "narrow", 3)
    assert values["worst"] <= values["mean"] <= values["best"]

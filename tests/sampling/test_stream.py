"""Events, previews and cancellation."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from hunyuan_video import Finished, StepEvent
from hunyuan_video.errors import Notice, UserError
from hunyuan_video.sampling.preview import LatentPreview, color_chart
from hunyuan_video.sampling.resume_state import SamplingState

PROMPT = "a red star moves left"


def test_stream_gives_every_step_then_the_output(pipe):
    events = list(pipe.stream(PROMPT, seed=1))
    steps, last = events[:-1], events[-1]
    assert [(event.step, event.total) for event in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(isinstance(event, StepEvent) for event in steps) and isinstance(last, Finished)
    assert torch.equal(steps[-1].latents, last.output.latents)
    assert np.array_equal(last.output.frames, pipe(PROMPT, seed=1).frames)


def test_arguments_are_checked_when_the_stream_is_made(pipe):
    with pytest.raises(ValueError, match="height must be a multiple of 16"):
        pipe.stream(PROMPT, height=33)
    with pytest.raises(TypeError, match="unexpected keyword argument 'heigth'"):
        pipe.stream(PROMPT, heigth=32)


def test_previews_are_lazy_and_approach_the_video(pipe):
    events = list(pipe.stream(PROMPT, seed=1))
    preview = events[0].preview
    assert preview.shape == (1, 2, 4, 6, 3) and preview.dtype == torch.uint8
    assert events[0].preview is preview
    assert torch.equal(
        events[3].preview, pipe.preview(events[-1].output.latents)
    )  # the last step ends at its prediction


def test_preview_recovers_colors_through_a_linear_vae():
    """A stand-in VAE whose latents hold the mean colors, mixed: the fitted map must undo the mixing."""

    class Linear(torch.nn.Module):
        class config:
            spatial_compression, scaling_factor = 8, 0.5

        def __init__(self):
            super().__init__()
            self.mix = torch.nn.Parameter(torch.randn(6, 3, generator=torch.Generator().manual_seed(3)))

        def encode(self, video):
            cells = torch.nn.functional.avg_pool3d(video, (1, 8, 8))
            latents = torch.einsum("kc,ncthw->nkthw", self.mix, cells) + 0.3
            return type("Posterior", (), {"mode": lambda _: latents})()

    vae = Linear()
    preview = LatentPreview.fit(vae)
    colors = torch.tensor([[1.0, -1.0, 0.0], [-0.5, 0.5, 1.0]])
    video = colors[:, :, None, None, None].expand(2, 3, 1, 16, 16)
    shown = preview(vae.encode(video).mode() * vae.config.scaling_factor).float()
    wanted = (colors * 127.5 + 127.5)[:, None, None, None].expand_as(shown)
    assert (shown - wanted).abs().max() <= 2


def test_preview_without_a_vae_shows_structure():
    latents = torch.zeros(1, 16, 1, 4, 4)
    latents[:, 3, :, :, 2:] = 4.0
    shown = LatentPreview()(latents).float()
    assert (shown[..., :2, :] - shown[..., 2:, :]).abs().max() > 100
    assert LatentPreview()(torch.zeros(1, 2, 1, 3, 3)).shape == (1, 1, 3, 3, 3)


def test_the_chart_covers_the_colors():
    chart = color_chart(96)
    assert (
        chart.shape == (1, 3, 96, 96)
        and chart.abs().max() <= 1
        and (chart.amax((2, 3)) - chart.amin((2, 3))).min() > 1.5
    )


@pytest.mark.parametrize("how", ["event", "stream", "thread", "close"])
def test_cancelling_keeps_a_state_that_resumes(pipe, tmp_path, how):
    path = tmp_path / "run.safetensors"
    stream = pipe.stream(PROMPT, seed=1, checkpoint_to=path, checkpoint_every=3)
    seen = []
    for event in stream:
        seen.append(event)
        if event.step == 2:
            if how == "event":
                event.cancel()
            elif how == "stream":
                stream.cancel()
            elif how == "thread":
                worker = threading.Thread(target=stream.cancel)
                worker.start()
                worker.join()
            else:
                stream.close()
    assert [event.step for event in seen] == [1, 2]
    assert SamplingState.load(path).step == 2
    assert np.array_equal(pipe(resume_from=path).frames, pipe(PROMPT, seed=1).frames)


@pytest.mark.parametrize("full", [range(9), range(2, 9), (1, 2)])
def test_a_full_disk_does_not_end_a_run(pipe, tmp_path, monkeypatch, full):
    """Saving fails from the first step, later, or for a while: the run goes on, and says what is saved."""
    path, save, failed = tmp_path / "run.safetensors", SamplingState.save, []

    def save_or_fail(state, name):
        if state.step in full:
            failed.append(state.step)
            raise UserError("cannot write the sampling state: No space left on device; free some space")
        save(state, name)

    monkeypatch.setattr(SamplingState, "save", save_or_fail)
    with pytest.warns(Notice) as notes:
        stream = pipe.stream(PROMPT, seed=1, checkpoint_to=path)
        output = list(stream)[-1].output
    saved = [step for step in range(stream.state.total + 1) if step not in full]
    assert [str(note.message) for note in notes] == [
        "cannot write the sampling state: No space left on device; free some space; the run goes on, "
        + ("nothing is saved" if full[0] == 0 else f"step {full[0] - 1} is saved")
    ]
    assert stream.saved_step == (saved[-1] if saved else None) and path.exists() == bool(saved)
    assert np.array_equal(output.frames, pipe(PROMPT, seed=1).frames) and len(failed) > 1
    assert not saved or SamplingState.load(path).step == saved[-1]


def test_a_state_file_stays_where_it_was_asked_for(pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stream = pipe.stream(PROMPT, seed=1, checkpoint_to="run.safetensors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the host goes on while the run does
    next(stream)
    stream.close()
    assert SamplingState.load(tmp_path / "run.safetensors").step == 1
    assert not any((tmp_path / "elsewhere").iterdir())

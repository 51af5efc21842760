"""Display of a run's output in Jupyter."""

from __future__ import annotations

import base64
import io
import re

import av
import numpy as np
import pytest
import torch
from PIL import Image

from hunyuan_video.sampling.run import SampleOutput

PIXELS = np.zeros((2, 5, 16, 24, 3), np.uint8)
PIXELS[0, ..., 0] = 200
PIXELS[1, ..., 2] = 200
FORMS = {
    "np": PIXELS,
    "pt": torch.from_numpy(PIXELS).permute(0, 4, 1, 2, 3) / 255,
    "pil": [[Image.fromarray(frame) for frame in video] for video in PIXELS],
}


def output(frames) -> SampleOutput:
    return SampleOutput(torch.zeros(2, 16, 2, 2, 3), frames, {}, [7, 8], {}, fps=8)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_frames_is_shown_as_its_videos(form):
    page = output(FORMS[form])._repr_html_()
    assert re.findall(r"seed \d+", page) == ["seed 7", "seed 8"]
    for data, video in zip(re.findall(r'<video src="data:video/mp4;base64,([^"]+)"', page), PIXELS, strict=True):
        with av.open(io.BytesIO(base64.b64decode(data))) as container:
            assert container.streams.video[0].average_rate == 8  # the model's own
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert np.abs(np.stack(frames).astype(int) - video).max() < 20  # of 200: lossy


def test_an_image_is_a_picture():
    page = output(PIXELS[:, :1])._repr_html_()
    for data, video in zip(re.findall(r'<img src="data:image/png;base64,([^"]+)"', page), PIXELS, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), video[0])


def test_latents_stay_text():
    result = output(None)
    result.frames = result.latents
    assert result._repr_html_() is None

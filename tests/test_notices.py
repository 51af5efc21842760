"""Warnings point at the line that called the package, however deep in it they are made, and hide nothing."""

import inspect
import warnings

import numpy as np
import pytest

from hunyuan_video.checkpoints.shards import whole_or_shards
from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.sources import open_source
from hunyuan_video.errors import Notice, notify
from hunyuan_video.media.write import save_video


def below(level):
    return notify("deep") if level == 0 else below(level - 1)


def odd_video(folder):
    save_video(folder / "a.mp4", np.zeros((1, 17, 16, 3), np.uint8))  # from the encoder's own file


def leftover_index(folder):
    (folder / "x.safetensors.index.json").write_text("{}")
    whole_or_shards(folder / "x.safetensors.index.json", folder / "x.safetensors", True)


def empty_caption(folder):
    (folder / "a.jsonl").write_text('{"path": "a.png", "caption": ["", "a cat"]}\n')
    save_video(folder / "a.png", np.zeros((1, 16, 16, 3), np.uint8))
    open_source(str(folder / "a.jsonl"), [Bucket(1, 16, 16)], clips=None, captions=1, fps=8, seed=0)


@pytest.mark.parametrize("cause", [odd_video, leftover_index, empty_caption])
def test_a_notice_points_at_the_line_that_called(cause, tmp_path):
    with pytest.warns(Notice) as caught:
        cause(tmp_path)
    first = inspect.getsourcelines(cause)[1]
    places = {(warning.filename, first < warning.lineno < first + 5) for warning in caught}
    assert places == {(__file__, True)}


def test_a_notice_of_a_program_itself_points_at_it_and_filters_work():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        below(3)
        warnings.simplefilter("ignore")
        below(3)
    assert [(str(warning.message), warning.filename) for warning in caught] == [("deep", __file__)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        with pytest.raises(Notice, match="deep"):
            notify("deep")

"""toyworld: the judge and the score."""

from dataclasses import replace

import pytest
import torch

from hunyuan_video.data.toyworld import WORLDS, analyse, parse, render, score, shuffled_floor, with_details
from hunyuan_video.data.toyworld.__main__ import main
from hunyuan_video.data.toyworld.degrade import degrade
from hunyuan_video.data.toyworld.vocabulary import DIRECTIONS

COUNT = 40


@pytest.fixture(scope="module", params=["narrow", "full"])
def judged(request):
    scenes = WORLDS[request.param].scenes(COUNT, seed=777)
    clips = render(scenes)
    return scenes, clips, [analyse(clip) for clip in clips]


def test_real_clips_are_judged_right_and_shuffled_prompts_wrong(judged):
    scenes, _, judgements = judged
    ceiling, floor = score(judgements, scenes), shuffled_floor(judgements, scenes)
    assert min(ceiling.values()) >= 0.97
    assert max(floor.values()) < 0.45
    assert all(judgement.visible == 1.0 for judgement in judgements)


def test_blurred_and_noisy_clips_are_still_judged_right(judged):
    scenes, clips, _ = judged
    worse = degrade(clips, blur=1.0, noise=0.03)
    assert min(score([analyse(clip) for clip in worse], scenes).values()) >= 0.95


def test_size_and_length_of_the_clip_do_not_matter():
    scenes = WORLDS["full"].scenes(8, seed=778)
    clips = render(scenes, num_frames=9, size=(96, 128))
    assert score([analyse(clip) for clip in clips], scenes)["all"] >= 7 / 8


def test_a_camera_is_seen_over_every_texture_and_background():
    """Some dark textures have a light tone nearly as bright as the threshold for objects."""
    world = WORLDS["full"]
    texts = [
        f"a small green star does not move on a {texture} {background} background, the camera pans left"
        for texture in world.textures[2:]
        for background in world.backgrounds
        if background != "black"
    ]
    scenes = [with_details(parse(text, world), seed) for seed, text in enumerate(texts)]
    judgements = [analyse(clip) for clip in render(scenes, num_frames=9)]
    assert [text for text, result in zip(texts, judgements, strict=True) if result.camera != "pan left"] == []
    assert score(judgements, scenes)["all"] == 1.0


def test_noise_alone_is_no_moving_camera_and_no_object():
    noise = (40 + 30 * torch.rand(17, 64, 64, 3)).to(torch.uint8)
    judgement = analyse(noise)
    assert judgement.camera == "static shot"
    assert judgement.shape is None and judgement.color is None and judgement.visible == 0.0


def test_a_single_frame_has_no_motion():
    scene = WORLDS["narrow"].scene(0)
    judgement = analyse(render([scene], num_frames=1)[0])
    assert judgement.motion is None and judgement.camera is None
    assert (judgement.shape, judgement.color) == (scene.shape, scene.color)


def test_analyse_refuses_what_is_no_clip():
    with pytest.raises(TypeError, match="float32"):
        analyse(torch.zeros(3, 8, 8, 3))
    with pytest.raises(ValueError, match=r"\(3, 8, 8\)"):
        analyse(torch.zeros(3, 8, 8, dtype=torch.uint8))


def test_score_counts_what_was_asked(judged):
    scenes, _, judgements = judged
    moving = [scene.motion in DIRECTIONS for scene in scenes]
    stopped = [replace(seen, motion="static") if go else seen for seen, go in zip(judgements, moving, strict=True)]
    table = score(stopped, scenes)
    assert table["direction"] == 0.0
    assert table["motion"] == pytest.approx(1 - sum(moving) / COUNT)
    assert table["all"] == table["motion"]
    prompt = parse("a red circle", WORLDS["full"])
    table = score([replace(judgements[0], color="red", shape="star")], [prompt])
    assert table["color"] == 1.0 and table["shape"] == 0.0 and table["all"] == 0.0
    assert table["motion"] != table["motion"]  # NaN: nobody asked for one
    with pytest.raises(ValueError, match="1 judgements for 0 scenes"):
        score(judgements[:1], [])


def test_report_and_sheet_commands(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["sheet", str(sheet), "--world", "narrow", "--clips", "3", "--frames", "5"]) == 0
    assert sheet.stat().st_size > 1000 and list(tmp_path.iterdir()) == [sheet]
    assert main(["report", "--world", "narrow", "--clips", "2"]) == 0
    assert "ceiling" in capsys.readouterr().out
    assert main(["sheet", str(sheet / "inside a file.png"), "--clips", "2"]) == 1
    assert main(["report", "--clips", "1"]) == 1
    assert "--clips is 1" in capsys.readouterr().err

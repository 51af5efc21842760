"""`hunyuan-video encode` and the data set it writes: contents, order, resume, damage, bad input."""

import json
import shutil

import av
import numpy as np
import pytest
import torch
from PIL import Image

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.cli import main
from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.latent_dataset import EncodedDataset, unpack
from hunyuan_video.data.prefetch import Prefetcher
from hunyuan_video.data.shards import read_member
from hunyuan_video.data.sources import open_source
from hunyuan_video.data.toyworld import WORLDS, render
from hunyuan_video.errors import UserError
from hunyuan_video.media.pixels import to_unit
from hunyuan_video.media.read import read_clip
from hunyuan_video.models.grid import Grid
from hunyuan_video.training.run import run

SMALL = ["--bucket", "5x16x16", "--clips", "10", "--shard", "4", "--captions", "2"]


@pytest.fixture(scope="module")
def pipe():
    try:
        return HunyuanVideoPipeline.from_pretrained("tiny", device="cpu")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pipe):
    path = tmp_path_factory.mktemp("encoded") / "narrow"
    assert main(["encode", "toyworld:narrow", "-o", str(path), *SMALL]) == 0
    return path


def test_latents_and_text_are_those_of_the_encoders(folder, pipe):
    data = EncodedDataset(folder)
    assert len(data) == 10 and list(data.buckets) == ["5x16x16"]
    clip = unpack(read_member(data.buckets["5x16x16"][7]))
    scene = WORLDS["narrow"].scene(7, seed=1)
    with torch.no_grad():
        posterior = pipe.vae.encode(to_unit(render([scene], num_frames=5, size=16)))
        expected = posterior.mode()[0] * pipe.vae.config.scaling_factor
        text = pipe.text_encoder(clip.captions)
        pooled = pipe.clip_text_encoder(clip.captions).pooled
    assert clip.key == "00000007" and len(clip.captions) == 2
    assert all(scene.color in message for message in clip.captions)
    torch.testing.assert_close(clip.latents.float(), expected.float(), atol=2e-3, rtol=2e-3)
    batch = data.collate([clip], [1])
    torch.testing.assert_close(batch.text[0], (text.hidden * text.mask[..., None])[1].float(), atol=0.02, rtol=0.02)
    assert batch.mask[0].tolist() == text.mask[1].tolist()
    torch.testing.assert_close(batch.pooled[0], pooled[1].float(), atol=0.02, rtol=0.02)


def test_a_batch_is_a_function_of_its_position(folder):
    data = EncodedDataset(folder)

    def take(start, count):
        batches = (data.batch("5x16x16", number, 3, seed=5, dropout=0.3) for number in range(start, start + count))
        return [(b.keys, b.captions) for b in batches]

    whole = take(0, 8)
    assert take(5, 3) == whole[5:]
    ahead = Prefetcher(lambda number, part: data.batch("5x16x16", number, 3, seed=5, dropout=0.3), workers=2)
    assert [ahead.get(number, 0, 5).keys for number in range(2, 6)] == [keys for keys, _ in whole[2:6]]
    seen = [key for keys, _ in whole for key in keys]
    assert sorted(seen[:10]) == sorted(f"{i:08d}" for i in range(10))  # an epoch holds every clip once
    assert seen[:10] != seen[10:20]
    message = [text for _, captions in take(0, 40) for text in captions]
    assert 15 < message.count("") < 60


def test_dropped_captions_have_the_empty_features(folder):
    data = EncodedDataset(folder)
    clip = unpack(read_member(data.buckets["5x16x16"][0]))
    batch = data.collate([clip, clip], [-1, 0])
    n = len(data.empty.texts[0])
    torch.testing.assert_close(batch.text[0, :n], data.empty.texts[0].float())
    assert batch.text[0, n:].abs().sum() == 0 and batch.captions[0] == ""


def test_interrupted_encoding_continues_and_gives_the_same_bytes(folder, tmp_path):
    again = tmp_path / "again"
    assert main(["encode", "toyworld:narrow", "-o", str(again), *SMALL, "--part", "1/2"]) == 0
    names = sorted(p.name for p in (again / "5x16x16").glob("*.tar"))
    assert names == ["00001.tar"]
    assert main(["encode", "toyworld:narrow", "-o", str(again), *SMALL, "--workers", "2"]) == 0
    for path in sorted((folder / "5x16x16").iterdir()):
        assert (again / "5x16x16" / path.name).read_bytes() == path.read_bytes()


def test_other_settings_do_not_mix(folder, capsys):
    assert main(["encode", "toyworld:narrow", "-o", str(folder), *SMALL, "--seed", "2"]) == 1
    assert "choose another output" in capsys.readouterr().err
    with pytest.raises(UserError, match="another vae encoder"):
        EncodedDataset(folder, {"vae": "0" * 12})


def test_unreadable_clips_are_passed_over(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    data = EncodedDataset(copy)
    member = data.member("5x16x16", 3, seed=0)
    with open(member.shard, "r+b") as file:
        file.seek(member.offset)
        file.write(b"\xff" * 16)
    clip = data.clip("5x16x16", 3, seed=0)
    assert data.unreadable == 1
    assert clip.key == EncodedDataset(folder).clip("5x16x16", 4, seed=0).key
    for shard in (copy / "5x16x16").glob("*.tar"):
        shard.write_bytes(b"\0" * shard.stat().st_size)
    with pytest.raises(UserError, match="ten clips"):
        data.clip("5x16x16", 0, seed=0)


@pytest.mark.parametrize(
    "content", ["[]", "{}", "{", '{"format": 9, "vae": 1, "text": 1, "text_length": 1, "source": {}}']
)
def test_a_damaged_dataset_json_is_one_line(folder, tmp_path, content, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "dataset.json").write_text(content)
    with pytest.raises(UserError, match="no encoded data set"):
        EncodedDataset(copy)
    assert main(["encode", "toyworld:narrow", "-o", str(copy), *SMALL]) == 1
    reason = "this version reads 1 and 2" if "format" in content else "damaged"
    assert f"{reason}; remove {copy} and encode again" in capsys.readouterr().err


def test_only_the_setting_that_differs_is_named(folder, capsys):
    assert main(["encode", "toyworld:narrow", "-o", str(folder), *SMALL, "--seed", "2"]) == 1
    assert "was begun with another seed (1, now 2); choose another output" in capsys.readouterr().err


def test_pictures_without_a_size_and_captions_that_are_no_text(tmp_path, capsys):
    source = tmp_path / "clips"
    source.mkdir()
    (source / "a.png").write_bytes(b"no picture")
    (source / "a.txt").write_text("a red circle")
    words = ["encode", str(source), "-o", str(tmp_path / "out"), "--bucket", "1x16x16"]
    assert main(words) == 1 and "none of its 1 clips can be read" in capsys.readouterr().err
    Image.new("RGB", (20, 30)).save(source / "b.png")
    (source / "b.txt").write_text("black")
    words[3] = str(tmp_path / "other")
    assert main(words) == 0 and "1 clips, 1 shards, 0 missing, 1 skipped" in capsys.readouterr().out
    Image.new("RGB", (20, 30)).save(source / "c.png")
    (source / "c.txt").write_bytes(b"\xe9tait")
    assert main(words) == 0
    output = capsys.readouterr()
    assert "c.txt cannot be read as text (not UTF-8 text" in output.err and "2 skipped" in output.out


def write_video(path, frames, height, width, rate):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv444p"
        for i in range(frames):
            picture = np.full((height, width, 3), 8 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def test_videos_are_taken_at_the_wanted_rate_and_bucket(tmp_path, capsys):
    write_video(tmp_path / "wide.mp4", 30, 32, 64, 10)
    write_video(tmp_path / "short.mp4", 3, 32, 32, 10)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    for name in ("wide", "short", "broken"):
        (tmp_path / f"{name}.txt").write_text(f"a {name} clip\n")
    buckets = [Bucket.parse(text, Grid()) for text in ("5x32x32", "5x16x32", "1x32x32")]
    result = {clip.key: clip for clip in open_source(str(tmp_path), buckets, clips=None, captions=1, fps=5, seed=0)}
    assert str(result["wide"].bucket) == "5x16x32"
    assert str(result["short"].bucket) == "1x32x32"
    pixels = result["wide"].pixels()
    assert pixels.shape == (5, 16, 32, 3)
    levels = pixels.float().mean((1, 2, 3)).tolist()
    assert levels == pytest.approx([0, 16, 32, 48, 64], abs=3)  # every second frame of 10 per second
    with pytest.raises(ValueError, match="needs 5"):
        read_clip(tmp_path / "short.mp4", Bucket(5, 16, 16), 10)
    out = tmp_path / "data"
    arguments = ["encode", str(tmp_path), "-o", str(out), "--fps", "5"]
    assert main([*arguments, *(f"--bucket={b}" for b in buckets)]) == 0
    assert "1 skipped" in capsys.readouterr().out
    assert sorted(EncodedDataset(out).buckets) == ["1x32x32", "5x16x32"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_left_out_is_named_with_its_reason(tmp_path, capfd, workers):
    write_video(tmp_path / "whole.mp4", 30, 32, 32, 24)
    data = bytearray((tmp_path / "whole.mp4").read_bytes())
    at = data.find(b"mdat") + 200
    data[at : at + len(data) // 2] = bytes(len(data) // 2)
    (tmp_path / "damaged.mp4").write_bytes(data)
    (tmp_path / "empty.webp").write_bytes(b"")
    for name in ("whole", "damaged", "empty"):
        (tmp_path / f"{name}.txt").write_text("a clip")
    words = ["encode", str(tmp_path), "-o", str(tmp_path / "data"), "--bucket", "5x32x32", "--workers", str(workers)]
    assert main(words) == 0
    output = capfd.readouterr()
    assert "2 skipped" in output.out
    lines = sorted(line for line in output.err.splitlines() if line.startswith("note: left out: "))
    assert (
        len(lines) == 2 and "damaged.mp4: not a readable video" in lines[0] and "1 empty file (empty.webp)" in lines[1]
    )
    listed = [json.loads(line) for line in (tmp_path / "data/skipped.jsonl").read_text().splitlines()]
    assert {(row["path"], row["cause"]) for row in listed} == {
        ("damaged.mp4", "unreadable"),
        ("empty.webp", "empty file"),
    }


def test_manifest_lines_name_what_is_missing(tmp_path):
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text(
        json.dumps({"path": "a.mp4", "caption": ["one", "two"]}) + "\n" + json.dumps({"path": "b"}) + "\n"
    )
    with pytest.raises(UserError, match="clips.jsonl:2"):
        open_source(str(manifest), [Bucket(1, 16, 16)], clips=None, captions=1, fps=8, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["toyworld:nowhere", "--bucket", "1x16x16"], "the worlds are"), (["toyworld:narrow"], "at least one bucket"),
     (["toyworld:narrow", "--bucket", "6x16x16"], "4k + 1"),
     (["nowhere", "--bucket", "1x16x16"], "no such folder"), (["x", "--bucket", "wide"], "FRAMESxHEIGHTxWIDTH"),
     (["toyworld:narrow", "--bucket", "1x16x16", "--part", "2"], "I/N"),
     (["toyworld:narrow", "--bucket", "1x16x16", "--part", "2/2"], "I/N")],
)  # fmt: skip
def test_bad_requests_are_one_line(tmp_path, capsys, arguments, message):
    assert main(["encode", *arguments, "-o", str(tmp_path / "out")]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_toyworld_clips_of_any_shape_and_the_kind_encode(tmp_path):
    """A wide bucket: the height shows 64 world units, so the middle is that of the square clip."""
    data = tmp_path / "data"
    content = (
        f"kind: encode\noutput: {data}\nsource: toyworld:wide\nbuckets: [1x32x64, 1x64x32]\nclips: 4\ncaptions: 1\n"
    )
    (tmp_path / "encode.yaml").write_text(content)
    lines: list[str] = []
    run(tmp_path / "encode.yaml", report=lines.append)
    assert "4 clips" in lines[-1]
    members = EncodedDataset(data).buckets
    assert {name: len(clips) for name, clips in members.items()} == {"1x32x64": 2, "1x64x32": 2}
    assert unpack(read_member(members["1x32x64"][0])).latents.shape == (16, 1, 4, 8)
    clip = open_source("toyworld:wide", [Bucket(1, 32, 64)], clips=1, captions=1, fps=24.0, seed=1)[0]
    square = render([WORLDS["wide"].scene(0, seed=1)], 1, 32)[0]
    scene = WORLDS["wide"].scene(0, seed=1)
    assert torch.equal(clip.pixels(), render([scene], 1, (32, 64))[0])
    assert (clip.pixels()[:, :, 16:48].float() - square.float()).abs().mean() < 6  # corners are darker in the square
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*.tar")}
    run(tmp_path / "encode.yaml", report=lines.append)  # nothing is left to do
    assert before and before == {path: path.stat().st_mtime_ns for path in data.rglob("*.tar")}

"""A data set knows what it was made of: new, edited and removed clips, other encoders, latents that cannot be kept."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import hunyuan_video
from hunyuan_video.checkpoints.pipeline import load_parts
from hunyuan_video.cli import main
from hunyuan_video.cli.progress import progress_of
from hunyuan_video.data.encode import EncodeRequest, encode
from hunyuan_video.data.encoder import Encoder, text_fingerprint, vae_fingerprint
from hunyuan_video.data.latent_dataset import EncodedDataset, unpack, unstorable
from hunyuan_video.data.shards import ShardWriter, index_path, read_member
from hunyuan_video.fingerprint import folder_hash, values_hash

TINY = Path(hunyuan_video.__file__).parent / "assets/tiny"
BUCKET = "1x16x16"
pytestmark = pytest.mark.skipif(not TINY.exists(), reason="the bundled checkpoint is not in this tree")


def captioned(folder, name, text, level=90):
    Image.new("RGB", (20, 20), (level, level, level)).save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(text)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(5):
        captioned(folder, f"c{number}", f"number {number}", 40 * number)
    return folder


def run(source, capsys, *more, code=0, out="out"):
    """The lines that `encode` prints."""
    words = ["encode", str(source), "-o", str(source.parent / out), "--bucket", BUCKET, "--shard", "2", *map(str, more)]
    capsys.readouterr()
    assert main(words) == code
    output = capsys.readouterr()
    return output.out + output.err


def clips(folder):
    """{key: (captions, latents)} of a data set."""
    found = {}
    for members in EncodedDataset(folder).buckets.values():
        for member in members:
            clip = unpack(read_member(member))
            found[clip.key] = (clip.captions, clip.latents)
    return found


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in (folder / BUCKET).iterdir()}


UNCHANGED = """
import sys
from hunyuan_video.cli import main
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
assert main(sys.argv[1:]) == 0
assert not [path for path in opened if path.endswith(".png")]
heavy = {"torch", "numpy", "PIL", "av", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""


def test_an_unchanged_source_costs_no_import_and_opens_no_picture(source, capsys):
    captioned(source, "copy", "another", 40)  # as long as c1.png: compared by content once
    words = ["encode", str(source), "-o", str(source.parent / "out"), "--bucket", BUCKET]
    capsys.readouterr()
    assert main(words) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    again = subprocess.run([sys.executable, "-c", UNCHANGED, *words], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "copy.png = c1.png" in notes[0] and again.stderr.splitlines() == notes


def test_an_unchanged_source_reads_nothing_and_loads_nothing(source, capsys, monkeypatch):
    run(source, capsys)
    before = bytes_of(source.parent / "out")
    monkeypatch.setattr(Encoder, "__init__", lambda *_: pytest.fail("the encoders were loaded"))
    text = run(source, capsys)
    assert "3 shards, 3 of them done" in text and "5 clips, 3 shards, 0 missing, 0 skipped; 5 found" in text
    assert bytes_of(source.parent / "out") == before


def test_changes_end_in_the_data_set_and_in_a_line(source, capsys, monkeypatch):
    run(source, capsys)
    before = clips(source.parent / "out")
    (source / "c1.txt").write_text("corrected")
    captioned(source, "c2", "number 2", 250)
    captioned(source, "a0", "new")
    for ending in ("png", "txt"):
        (source / f"c3.{ending}").unlink()
    encoded = []
    encode = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", lambda self, c, p, **k: encoded.extend(c) or encode(self, c, p, **k))
    text = run(source, capsys)
    assert "since the last run: 1 new (a0); 2 edited (c1, c2); 1 removed (c3)" in text
    assert sorted(clip.key for clip in encoded) == ["a0", "c1", "c2"]  # the others are taken from the earlier shards
    after = clips(source.parent / "out")
    assert {key: captions for key, (captions, _) in after.items()} == {
        "a0": ["new"], "c0": ["number 0"], "c1": ["corrected"], "c2": ["number 2"], "c4": ["number 4"],
    }  # fmt: skip
    assert torch.equal(after["c0"][1], before["c0"][1]) and (after["c2"][1] - before["c2"][1]).abs().max() > 0.3
    assert EncodedDataset(source.parent / "out").contents() != ""
    assert "since the last run" not in run(source, capsys)


def test_an_edit_in_one_word_changes_the_contents(source, capsys):
    run(source, capsys)
    before = EncodedDataset(source.parent / "out").contents()
    (source / "c1.txt").write_text("number 7")  # as long as before
    run(source, capsys)
    assert EncodedDataset(source.parent / "out").contents() != before


def test_shards_without_a_source_are_gone(source, capsys):
    run(source, capsys)
    for name in ("c0", "c1", "c2"):
        (source / f"{name}.png").unlink()
    text = run(source, capsys)
    assert "3 removed (c0, c1, c2)" in text and "3 skipped (3 caption without a video" in text
    assert sorted(path.name for path in (source.parent / "out" / BUCKET).glob("*.tar")) == ["00001.tar", "00002.tar"]
    assert "2 clips, 2 shards, 0 missing, 3 skipped" in text and "; 5 found" in text


def test_a_tar_of_somebody_else_stays(source, capsys):
    run(source, capsys)
    other = source.parent / "out" / "9x16x16" / "0.tar"
    other.parent.mkdir()
    other.write_bytes(b"mine")
    run(source, capsys)
    assert other.read_bytes() == b"mine"


@pytest.mark.parametrize("damage", ["cut", "index", "unindexed"])
def test_a_damaged_shard_is_written_again(source, capsys, damage):
    run(source, capsys)
    shard = source.parent / "out" / BUCKET / "00001.tar"
    before = bytes_of(source.parent / "out")
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:900])
    elif damage == "index":
        index_path(shard).write_text("{")
    else:
        index_path(shard).unlink()
    assert "3 shards, 2 of them done" in run(source, capsys)
    assert bytes_of(source.parent / "out") == before


def test_clips_are_recognised_after_a_change_of_machines(source, capsys):
    """A part of another machine: each deals the same shards out, and what one has done the other finds done."""
    run(source, capsys, "--part", "0/2", out="shared")
    text = run(source, capsys, "--part", "1/2", out="shared")
    assert "5 clips, 3 shards, 0 missing" in text
    run(source, capsys, out="whole")
    assert bytes_of(source.parent / "shared") == bytes_of(source.parent / "whole")
    captioned(source, "a0", "new")
    text = run(source, capsys, "--part", "1/2", out="shared")
    assert "4 clips, 2 shards, 1 missing (2 clips), 0 skipped; 6 found" in text


def test_what_cannot_be_read_is_counted_once(source, capsys):
    (source / "bad.png").write_bytes(b"no picture")
    (source / "bad.txt").write_text("bad")
    for _ in range(2):
        text = run(source, capsys)
        assert "5 clips, 3 shards, 0 missing, 1 skipped (1 unreadable; skipped.jsonl names them); 6 found" in text
    row = json.loads((source.parent / "out/skipped.jsonl").read_text())
    assert row["path"] == "bad.png" and "bad.png: not a readable video" in row["detail"]
    (source / "bad.png").unlink()
    (source / "bad.txt").unlink()
    run(source, capsys)
    assert not (source.parent / "out/skipped.jsonl").exists()


def test_nothing_is_left_behind_where_nothing_was_encoded(tmp_path, capsys):
    source = tmp_path / "clips"
    source.mkdir()
    (source / "a.png").write_bytes(b"no picture")
    (source / "a.txt").write_text("a")
    assert "none of its 1 clips can be read: 1 unreadable" in run(source, capsys, code=1)
    assert not (tmp_path / "out").exists()


def changed_checkpoint(folder, change):
    """The bundled checkpoint with another VAE."""
    shutil.copytree(TINY, folder)
    weights, config = folder / "vae/diffusion_pytorch_model.safetensors", folder / "vae/config.json"
    tensors, values = load_file(weights), json.loads(config.read_text())
    change(tensors, values)
    save_file(tensors, weights)
    config.write_text(json.dumps(values))
    return folder


def not_a_number(tensors, values):
    tensors["encoder.conv_in.conv.bias"][0] = float("nan")


def far_too_large(tensors, values):
    values["scaling_factor"] = 1e7


@pytest.mark.parametrize(
    ("change", "cause", "words"),
    [
        (not_a_number, "not finite", "latents are not finite"),
        (far_too_large, "beyond float16", "latents reach "),
    ],
)
def test_latents_that_cannot_be_kept_are_named_by_clip(source, capsys, tmp_path, change, cause, words):
    model = changed_checkpoint(tmp_path / "model", change)
    text = run(source, capsys, "--model", model, code=1)
    assert f"none of its 5 clips can be read: 5 {cause}" in text and not (tmp_path / "out").exists()
    assert f"note: left out: c3.png: {words}" in text


def test_one_bad_clip_does_not_take_its_neighbours(source, capsys, monkeypatch):
    latents = Encoder.latents

    def third_is_bad(self, pixels, **options):
        made = latents(self, pixels, **options)
        level = torch.stack([clip.float().mean() for clip in pixels])
        made[(level - 80).abs() < 1] = float("inf")
        return made

    monkeypatch.setattr(Encoder, "latents", third_is_bad)
    text = run(source, capsys)
    assert "note: left out: c2.png: latents are not finite" in text and "1 skipped (1 not finite" in text
    assert sorted(clips(source.parent / "out")) == ["c0", "c1", "c3", "c4"]
    assert "4 clips, 3 shards, 0 missing, 1 skipped" in run(source, capsys)


def test_a_vae_in_half_precision_encodes_again_in_float32(monkeypatch):
    encoder = Encoder("tiny", "cpu")
    pixels = [torch.full((1, 16, 16, 3), 90, dtype=torch.uint8)]
    expected = encoder.latents(pixels)
    encoder.vae.half()
    with torch.no_grad():
        encoder.vae.encoder.conv_in.conv.bias.fill_(6e4)
        encoder.vae.encoder.conv_in.conv.weight.fill_(1e3)
    with pytest.warns(UserWarning, match="leaves the range of float16"):
        made = encoder.latents(pixels)
    assert made.isfinite().all() and next(encoder.vae.parameters()).dtype == torch.float32
    assert made.shape == expected.shape


def test_other_encoders_do_not_mix_and_a_touched_checkpoint_does(source, capsys, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(TINY, model)
    run(source, capsys, "--model", model)
    (model / "vae/config.json").touch()
    assert "3 shards, 3 of them done" in run(source, capsys, "--model", model)
    values = json.loads((model / "vae/config.json").read_text())
    (model / "vae/config.json").write_text(json.dumps({**values, "scaling_factor": 0.5}))
    assert "was begun with another vae" in run(source, capsys, "--model", model, code=1)


def test_fingerprints_cover_what_changes_features():
    parts = load_parts(TINY, ("vae", "text_encoder", "clip_text_encoder"), dtype=None, device=torch.device("cpu"))
    vae, text, clip = parts["vae"], parts["text_encoder"], parts["clip_text_encoder"]
    before = vae_fingerprint(vae), text_fingerprint(text, clip)
    text(["a prompt"])
    assert (vae_fingerprint(vae), text_fingerprint(text, clip)) == before  # use leaves no trace
    text.tokenizer.tokenizer.add_tokens(["entirelynew"])
    assert text_fingerprint(text, clip) != before[1]


def test_hashes_of_values_and_folders(tmp_path):
    assert values_hash("a", ["b"]) != values_hash("a", "b")
    assert values_hash({"x": 1, "y": 2}) == values_hash({"y": 2, "x": 1})
    (tmp_path / "a").write_text("1")
    before = folder_hash(tmp_path)
    (tmp_path / ".hidden").write_text("1")
    assert folder_hash(tmp_path) == before
    (tmp_path / "a").write_text("22")
    assert folder_hash(tmp_path) != before


def test_shards_that_others_packed_are_read(source, capsys, tmp_path):
    """`tar cf 00000.tar ./*` on a Mac: names with folders, its own files among them, and no index."""
    run(source, capsys)
    out = tmp_path / "out"
    expected = clips(out)
    for shard in sorted((out / BUCKET).glob("*.tar")):
        unpacked = tmp_path / "unpacked" / shard.stem
        with tarfile.open(shard) as tar:
            tar.extractall(unpacked, filter="data")
        (unpacked / "._c0.safetensors").write_bytes(b"\0\5\x16\7")
        first = next(unpacked.glob("c*"))
        with tarfile.open(shard, "w") as tar:
            tar.add(unpacked, arcname=".")
            tar.add(first, arcname=f"./{first.name}")  # once more, with `tar r`
        index_path(shard).unlink()
        (shard.parent / f"._{shard.name}").write_bytes(b"\0\5\x16\7")
    found = clips(out)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key][1], expected[key][1]) for key in found)


def test_stored_latents_are_looked_at(source, capsys):
    assert unstorable(torch.tensor([1.0, -6e4])) == "" and "not finite" in unstorable(torch.tensor([float("nan")]))
    assert "reach 7e+04" in unstorable(torch.tensor([7e4]))
    run(source, capsys)
    data = EncodedDataset(source.parent / "out")
    member = data.buckets[BUCKET][0]
    content = bytearray(read_member(member))
    at = content.find(bytes(unpack(bytes(content)).latents.numpy().tobytes()))
    with open(member.shard, "r+b") as file:
        file.seek(member.offset + at)
        file.write(b"\x00\x7e")  # NaN
    with pytest.warns(UserWarning, match="passed over: .*latents are not finite"):
        assert data._read(member) is None
    assert data.unreadable == 1
    with open(member.shard, "r+b") as file:
        file.seek(member.offset)
        file.write(b"\xff" * 16)
    with pytest.warns(UserWarning, match=f"passed over: .*{member.name}: not an encoded clip"):
        assert data._read(member) is None


def lines_of(folder, recwarn):
    """Notices of a data set beside its source, without the folder's name."""
    recwarn.clear()
    EncodedDataset(folder).tell_differences()
    return [str(warning.message).replace(f"{folder}: ", "") for warning in recwarn]


def test_training_is_told_of_a_source_that_has_changed(source, capsys, recwarn):
    out = source.parent / "out"
    run(source, capsys)
    assert lines_of(out, recwarn) == []
    (source / "c1.txt").write_text("corrected, and not encoded")
    captioned(source, "c9", "new")
    again = "run the same `hunyuan-video encode` again"
    assert lines_of(out, recwarn) == [f"its source has changed: 1 new (c9); 1 edited (c1); {again}"]
    run(source, capsys)
    assert lines_of(out, recwarn) == []
    for path in source.iterdir():
        path.unlink()
    assert "its source has changed: " in lines_of(out, recwarn)[0]
    source.rmdir()  # the data set is on another machine
    assert lines_of(out, recwarn) == []


def test_training_is_told_of_shards_that_are_missing(source, capsys, recwarn):
    out = source.parent / "out"
    run(source, capsys, "--part", "0/2")
    text = "1 of 3 shards are missing (1x16x16/00001); run the same `hunyuan-video encode` again"
    assert lines_of(out, recwarn) == [text]
    captioned(source, "a0", "new")
    assert "since the last run: 1 new (a0)" in run(source, capsys)  # those that were only planned are not called new
    assert lines_of(out, recwarn) == []


def test_a_kill_between_a_shard_and_its_index_leaves_no_wrong_index(source, capsys, monkeypatch):
    """The old index goes before the new shard comes: at no moment does an index stand beside a shard of other clips."""
    run(source, capsys)
    (source / "c1.txt").write_text("a caption of another length")
    monkeypatch.setattr("hunyuan_video.files.os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt), ShardWriter(source.parent / "out" / BUCKET / "00000.tar") as writer:
        writer.add("x.safetensors", b"1")
    monkeypatch.undo()
    assert not index_path(source.parent / "out" / BUCKET / "00000.tar").exists()
    run(source, capsys)
    assert clips(source.parent / "out")["c1"][0] == ["a caption of another length"]


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_clips_and_the_summary_has_each_bucket(source, workers):
    Image.new("RGB", (40, 20)).save(source / "c2.png")
    ticks = []
    request = EncodeRequest(str(source), source.parent / "out", (BUCKET, "1x16x32"), shard=2, batch=1, workers=workers)
    summary = encode(request, lambda line: None, lambda *tick: ticks.append(tick))
    assert ticks[-1] == (5, 5) and ticks == sorted(set(ticks)) and len(ticks) == (5 if workers == 1 else 3)
    assert str(summary) == "5 clips, 3 shards, 0 missing, 0 skipped; 5 found; 4 of 1x16x16, 1 of 1x16x32"


def test_long_work_shows_a_line_and_short_work_none(capsys, monkeypatch):
    progress_of("encoding", "clip")(3, 4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("hunyuan_video.cli.progress.LINE_EVERY", 0.0)
    progress_of("encoding", "clip")(3, 4)
    assert capsys.readouterr().err.startswith("encoding: clip 3/4, ")

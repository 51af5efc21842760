"""Folders and manifests as people write them: every file is a clip or is counted with its cause."""

import json
import os
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hunyuan_video.data.buckets import Bucket
from hunyuan_video.data.folder import list_folder, tidy
from hunyuan_video.data.keys import keys_of
from hunyuan_video.data.manifest import list_manifest
from hunyuan_video.data.skipped import counted, tell
from hunyuan_video.data.sources import Skipped, scan
from hunyuan_video.errors import Notice, UserError
from hunyuan_video.files import entry_lines, read_json, read_text

BUCKETS = [Bucket(1, 16, 16)]


def picture(path, color=(200, 30, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), color).save(path, format="PNG")


def captioned(folder, name, text="a red square", color=(200, 30, 30)):
    picture(folder / name, color)
    (folder / name).with_suffix(".txt").write_text(text)


def source_of(path, **changes):
    return scan(str(path), BUCKETS, **{"clips": None, "captions": 1, "fps": 24, "seed": 1, **changes})


def listed(folder):
    """({name: captions}, {name: cause}) of a folder."""
    entries, skipped = list_folder(folder)
    return {entry.name: entry.captions for entry in entries}, {entry.path: entry.cause for entry in skipped}


PLAIN = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\ufeff\r"), max_size=40)
IN_FOLDER = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@IN_FOLDER
@given(PLAIN, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from(["\n", "\r\n", "\r"]))
def test_text_is_the_same_in_every_form(tmp_path, text, encoding, ends):
    path = tmp_path / "a.txt"
    path.write_bytes(text.replace("\n", ends).encode(encoding))
    assert read_text(path) == text


@IN_FOLDER
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"], whitelist_characters="\u2028\x85\x0b"))))
def test_manifests_keep_what_stands_in_a_json_string(tmp_path, captions):
    picture(tmp_path / "a.png")
    captions = list(dict.fromkeys(filter(None, map(tidy, captions)))) or ["a square"]
    row = json.dumps({"path": "a.png", "caption": captions}, ensure_ascii=False)
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf# made by hand\r\n\r\n  " + row.encode() + b"\r\n\r\n")
    entries, skipped = list_manifest(tmp_path / "m.jsonl")
    assert [entry.captions for entry in entries] == [captions] and skipped == []


def test_marks_of_joined_files_are_no_text_and_numbers_are_those_of_an_editor(tmp_path):
    (tmp_path / "p.txt").write_bytes("\ufeffone\n\n# two\n".encode() + "\ufeffthree\u2028still\n".encode())
    assert list(entry_lines(read_text(tmp_path / "p.txt"))) == [(1, "one"), (4, "three\u2028still")]


@pytest.mark.parametrize("content", [b"\xe9t\xe9", b"a\0b\0", b"\xff\xfea"])
def test_what_is_no_text_is_a_value_error(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match="not UTF-"):
        read_text(tmp_path / "a.txt")


def test_captions_are_whole_and_empty_ones_are_seen():
    assert tidy("\n a cat  \n  on a mat \r\n\n") == "a cat\n  on a mat"
    assert [tidy(text) for text in ("", " \n\t\n", "\u200b\ufeff", "\u2028", "\x00")] == [""] * 5
    assert tidy("half \ud800 letter") == "half \ufffd letter"


def test_a_folder_as_it_lies_on_a_disk(tmp_path):
    captioned(tmp_path, "a.png")
    captioned(tmp_path, "deep/b.PNG")
    (tmp_path / "deep/b.txt").rename(tmp_path / "deep/b.TXT")
    picture(tmp_path / "c.png")
    (tmp_path / "c.png.txt").write_text("a caption named after the whole file")
    picture(tmp_path / "bare.png")
    (tmp_path / "alone.txt").write_text("a caption")
    captioned(tmp_path, "blank.png", " \n")
    picture(tmp_path / "d.png.part")
    (tmp_path / "d.txt").write_text("of a download")
    captioned(tmp_path, "e.tmp.png")
    captioned(tmp_path, "f.png")
    (tmp_path / "f.png.aria2").write_bytes(b"")
    captioned(tmp_path, ".hidden.png")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / "._a.txt").write_bytes(b"\0\5\x16\7\xb0")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    captioned(tmp_path, "__MACOSX/a.png")
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    captioned(tmp_path / "folder.png", "g.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "notes.pdf").write_bytes(b"")
    entries, skipped = listed(tmp_path)
    assert sorted(entries) == ["a.png", "c.png", "deep/b.PNG", "folder.png/g.png"]
    assert skipped == {
        "bare.png": "without a caption", "alone.txt": "caption without a video", "blank.png": "with an empty caption",
        "d.png.part": "partial download", "e.tmp.png": "partial download",
        "f.png": "partial download", ".hidden.png": "hidden", ".hidden.txt": "hidden", "._a.png": "hidden",
        "._a.txt": "hidden", "__MACOSX/a.png": "hidden", "__MACOSX/a.txt": "hidden", "zero.png": "empty file",
        "gone.png": "broken link", "pipe.png": "not a file", "e.tmp.txt": "partial download",
    }  # fmt: skip


def test_downloads_that_have_not_ended_are_told(tmp_path):
    captioned(tmp_path, "a.png")
    for name in ("b.png.part-Frag3", "b.png.bc!", "c.png.ytdl", "d.png.part1", "e.png.download/e.png"):
        picture(tmp_path / name)
    captioned(tmp_path, "my.part1.trip/f.png")  # a folder's name says nothing by itself
    entries, skipped = listed(tmp_path)
    assert entries.keys() == {"a.png", "my.part1.trip/f.png"}
    assert set(skipped.values()) == {"partial download"} and len(skipped) == 5
    rows = [{"path": name, "caption": "x"} for name in ("a.png", "b.png.bc!", "._a.png")]
    picture(tmp_path / "._a.png")
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    kept, left_out = list_manifest(tmp_path / "m.jsonl")
    assert [entry.name for entry in kept] == ["a.png"]
    assert {entry.path: entry.cause for entry in left_out} == {"b.png.bc!": "partial download", "._a.png": "hidden"}


@pytest.mark.parametrize("caption", ["\u2800", "\u3164 \n", '""', "...", "\u00ad-"])
def test_captions_that_show_nothing_are_empty(caption):
    assert tidy(caption) == ""


@pytest.mark.parametrize("caption", ["猫", "\U0001f431", "7", "c."])
def test_captions_of_one_sign_are_captions(caption):
    assert tidy(caption) == caption


def test_linked_folders_are_entered_once(tmp_path):
    captioned(tmp_path / "source", "z/a.png")
    captioned(tmp_path / "other", "b.png")
    (tmp_path / "source/again").symlink_to(tmp_path / "source/z")
    (tmp_path / "source/z/circle").symlink_to(tmp_path / "source")
    (tmp_path / "source/link").symlink_to(tmp_path / "other")
    (tmp_path / "source/same").symlink_to(tmp_path / "other")
    entries, skipped = listed(tmp_path / "source")
    assert sorted(entries) == ["link/b.png", "z/a.png"] and skipped == {}


def test_names_in_two_spellings_belong_together(tmp_path):
    picture(tmp_path / f"{unicodedata.normalize('NFD', 'größe')}.png")
    (tmp_path / f"{unicodedata.normalize('NFC', 'größe')}.txt").write_text("size")
    entries, skipped = listed(tmp_path)
    assert list(entries.values()) == [["size"]] and skipped == {}


def test_manifests_count_what_they_name(tmp_path):
    captioned(tmp_path, "a.png")
    captioned(tmp_path, "deep/b.png")
    rows = [
        {"path": "a.png", "caption": ["one", "", "one "]},
        {"path": "./a.png", "caption": "two"},
        {"path": "deep\\b.png", "caption": "three"},
        {"path": "gone.png", "caption": "four"},
        {"path": "deep", "caption": "five"},
        {"path": "deep/b.png", "caption": None},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.warns(Notice, match="m.jsonl:1: an empty caption of 3"):
        entries, skipped = list_manifest(tmp_path / "m.jsonl")
    assert {entry.name: entry.captions for entry in entries} == {"a.png": ["one", "two"], "deep/b.png": ["three"]}
    assert [(entry.path, entry.cause) for entry in skipped] == [
        ("a.png", "named again (its captions joined the first)"), ("gone.png", "missing file"),
        ("deep", "not a file"), ("deep/b.png", "with an empty caption"),
    ]  # fmt: skip
    assert len(entries) + len(skipped) == len(rows)


@pytest.mark.parametrize(
    "row",
    ['{"path": "a"}', '["a"]', '{"path": 1, "caption": "a"}', "{", '"a"', '{"path": "a", "caption": {"form": "a"}}',
     '{"path": "a", "caption": [1]}'],
)  # fmt: skip
def test_a_line_that_is_no_entry_is_named(tmp_path, row):
    (tmp_path / "m.jsonl").write_text(f'# a comment\n{{"path": "a", "caption": "b"}}\n{row}\n')
    with pytest.raises(UserError, match=r"m.jsonl:3: needs"):
        list_manifest(tmp_path / "m.jsonl")


NAMES = st.text(st.sampled_from("aAé./ _-\n\udc80"), min_size=1, max_size=12).map(lambda name: f"{name}.mp4")


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES, unique=True))
def test_keys_are_unique_for_every_reader(names):
    keys = keys_of(names)
    assert len({unicodedata.normalize("NFC", key).casefold() for key in keys}) == len(names)
    assert all(key and not set(key) & set("./\\ \n") and len(key.encode()) < 240 for key in keys)
    assert keys_of(names) == keys


def test_plain_names_are_their_own_keys():
    assert keys_of(["clip_01.mp4", "größe.png"]) == ["clip_01", "größe"]
    first, second, third = keys_of(["a.mp4", "a.png", "deep/a.mp4"])
    assert first == "a" and second.startswith("a-") and third.startswith("deep_a-")


def test_sources_add_up_and_tell(tmp_path):
    captioned(tmp_path, "a.png")
    captioned(tmp_path, "copy/a.png")
    captioned(tmp_path, "b.png", color=(0, 0, 9))
    picture(tmp_path / "bare.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "bad.txt").write_text("bad")
    with pytest.warns(Notice) as notices:
        source = source_of(tmp_path)
    texts = sorted(str(notice.message) for notice in notices)
    assert texts == [
        f"left out: {tmp_path}/bad.png: not a readable video or picture (Invalid data found when processing input)",
        "left out: 1 without a caption (bare.png)",
        "of 3 files 1 are copies of others, each a clip like any other (copy/a.png = a.png)",
    ]
    assert sorted(clip.name for clip in source.clips) == ["a.png", "b.png", "copy/a.png"]
    assert counted(source.skipped) == "1 without a caption, 1 unreadable"
    with pytest.warns(Notice):
        skipped = source_of(tmp_path, clips=1).skipped
    assert counted(skipped) == "3 beyond the number of clips asked for, 1 without a caption"


def test_known_files_are_not_opened_again(tmp_path, monkeypatch):
    captioned(tmp_path, "a.png")
    first = source_of(tmp_path)
    monkeypatch.setattr("hunyuan_video.media.read.video_size", lambda *_: pytest.fail("opened again"))
    again = source_of(tmp_path, known=first.probed)
    assert again.probed == first.probed and again.clips[0].made_of == first.clips[0].made_of
    os.utime(tmp_path / "a.png", ns=(1, 1))
    with pytest.raises(pytest.fail.Exception):
        source_of(tmp_path, known=first.probed)


def test_many_lines_are_cut_short_and_fit_a_terminal():
    skipped = [Skipped(f"{n}", "unreadable", f"{n}.mp4: broken\n\udc80") for n in range(30)]
    with pytest.warns(Notice) as notices:
        tell(skipped)
    texts = [str(notice.message) for notice in notices]
    assert len(texts) == 21 and texts[0] == "left out: 0.mp4: broken?\\udc80"
    assert texts[-1] == "left out: 10 more, skipped.jsonl names them"


def test_json_files_of_windows_editors_are_read(tmp_path):
    (tmp_path / "config.json").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_json(tmp_path / "config.json") == {"a": 1}
    (tmp_path / "config.json").write_bytes(b"{\xe9}")
    with pytest.raises(UserError, match="config.json is not valid JSON .not UTF-8 text"):
        read_json(tmp_path / "config.json")

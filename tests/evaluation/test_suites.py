"""Prompt suites: what files, worlds and a package give, and files that would silently give something else."""

import dataclasses

import pytest

from hunyuan_video.errors import ArgumentError, UserError
from hunyuan_video.evaluation.suites import read_suite, suite_text


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_a_csv_keeps_line_breaks_marks_and_words_that_look_like_nothing(tmp_path):
    text = '\ufeffindex,prompt\n7,"a cat,\nthen a dog"\n8,NA\n9,null\n10,a cat\n11,a cat\n'
    suite = read_suite(written(tmp_path, "p.csv", text))
    assert [item.prompt for item in suite.items] == ["a cat,\nthen a dog", "NA", "null", "a cat", "a cat"]
    assert [item.id for item in suite.items] == ["7", "8", "9", "10", "11"]
    assert [item.seed for item in suite.items] == [2026, 2027, 2028, 2029, 2030]
    assert suite.notes() == ["p.csv: 5 prompts, 4 different; equal ones have seeds of their own"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "index,text\n1,cat\n", "no column `prompt`, but index, text"),
        ("a.csv", "index,prompt\n1,a cat, running\n", "the row that ends on line 2 has more fields"),
        ("a.csv", "prompt,category\na cat\n", "fewer fields"),
        ("a.csv", "prompt,prompt\na,b\n", "two columns have one name"),
        ("a.csv", 'prompt\n"a cat\n', "line 1: unexpected end"),
        ("a.csv", "", "no column `prompt`, but nothing"),
        ("a.csv", "prompt\n", "holds no prompt"),
        ("a.csv", "id,prompt\nA,x\na,y\n", "have one id"),
        ("a.csv", "id,prompt\n../x,y\n", "is no name for a file"),
        ("a.jsonl", '{"prompt": 3}\n', "no text in `prompt`"),
        ("a.jsonl", "cat\n", "line 1 is no JSON"),
        ("a.jsonl", '["cat"]\n', "no JSON object"),
        ("a.jsonl", '{"prompt": "x", "seed": -1}', "seed must be a whole number"),
        ("a.txt", b"\xff\xfea", "text"),
        ("a.pdf", "x", "a suite is a .txt, .csv or .jsonl file"),
    ],
)
def test_files_that_would_be_misread_are_refused(tmp_path, name, text, message):
    with pytest.raises(UserError) as caught:
        read_suite(written(tmp_path, name, text))
    assert message in str(caught.value)


def test_text_and_jsonl_read_back(tmp_path):
    plain = read_suite(written(tmp_path, "p.txt", "# comment\na cat\n\na dog\n"), seed=5)
    assert [(item.id, item.prompt, item.seed) for item in plain.items] == [("0000", "a cat", 5), ("0001", "a dog", 6)]
    item = dataclasses.replace(plain.items[0], categories=("animal", "calm"), prompt="caf\u00e9\u2028cat")
    suite = dataclasses.replace(plain, items=(item, plain.items[1]))
    again = read_suite(written(tmp_path, "again.jsonl", suite_text(suite)), seed=99)
    assert again.items == suite.items  # with their own seeds
    assert read_suite(written(tmp_path, "again.jsonl", suite_text(suite)), limit=1).items == (item,)


def test_a_toyworlds_prompts_are_held_out_and_its_world_is_known():
    suite = read_suite("toyworld:wide:5")
    assert suite.world == "wide" and len({item.prompt for item in suite.items}) == len(suite.items) == 5
    assert read_suite("toyworld:narrow:3", limit=2).items == read_suite("toyworld:narrow", limit=2).items
    for wrong in ("toyworld:moon", "toyworld:wide:0", "toyworld:wide:x"):
        with pytest.raises(ArgumentError, match="toyworld:WORLD:COUNT"):
            read_suite(wrong)


def test_the_package_of_vbench_gives_its_prompts_without_being_imported():
    pytest.importorskip("vbench")
    suite = read_suite("vbench")
    assert len(suite.items) == 946 and len({item.prompt for item in suite.items}) == 944
    assert sum(len(item.categories) for item in suite.items) == 1362

"""Data sets of other formats: earlier ones are read, but not continued; later ones say so."""

import hashlib
import json
from pathlib import Path

import pytest

import hunyuan_video
from hunyuan_video.cli import main
from hunyuan_video.data.encoder import Encoder
from hunyuan_video.data.latent_dataset import EncodedDataset
from hunyuan_video.errors import UserError

TINY = Path(hunyuan_video.__file__).parent / "assets/tiny"
BUCKET = "1x16x16"
pytestmark = pytest.mark.skipif(not TINY.exists(), reason="the bundled checkpoint is not in this tree")


@pytest.fixture
def data(tmp_path):
    assert main(encode_words(tmp_path / "out")) == 0
    return tmp_path / "out"


def encode_words(folder):
    return ["encode", "toyworld:narrow", "-o", str(folder), "--bucket", BUCKET, "--clips", "5", "--shard", "2"]


def make_format_1(folder):
    """Make it one of versions before fingerprints: fewer things in the hashes, nothing about sources."""
    path, encoder = folder / "dataset.json", Encoder(str(TINY), "cpu")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1, **encoder.hashes(1)}))
    (folder / "sources.json").unlink()
    for index in folder.glob("*x*/*.json"):
        index.write_text(json.dumps({"members": json.loads(index.read_text())["members"]}))
    return encoder


def refusal(folder, capsys):
    capsys.readouterr()
    assert main(encode_words(folder)) == 1
    return capsys.readouterr().err


def test_a_data_set_of_an_earlier_format_is_read_but_not_continued(data, capsys):
    new = EncodedDataset(data)
    encoder = make_format_1(data)
    assert "earlier version (format 1); training reads it" in refusal(data, capsys)
    old = EncodedDataset(data)
    old.check_encoders(encoder.hashes(old.format))
    with pytest.raises(UserError, match="another vae encoder"):
        old.check_encoders(encoder.hashes())
    assert old.clip(BUCKET, 0, 0).key == new.clip(BUCKET, 0, 0).key
    names = {bucket: [[m.name, m.length] for m in members] for bucket, members in old.buckets.items()}
    assert old.contents() == hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]  # as runs have kept it


def test_a_data_set_of_a_later_format_says_so(data, capsys):
    path = data / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 3}))
    assert "has format 3, this version reads 1 and 2; remove" in refusal(data, capsys)
    with pytest.raises(UserError, match="has format 3"):
        EncodedDataset(data)

"""Downloads against a stand-in of the hub: whole, continued, in part, refused; pipelines by a repository's name."""

from __future__ import annotations

import shutil
import warnings
from collections import namedtuple

import numpy as np
import pytest
import torch
from helpers.hub_server import COMMIT, hub_server
from helpers.random_checkpoint import write_random_checkpoint

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.checkpoints import hub
from hunyuan_video.checkpoints.hub import cached_repository, download, is_repository
from hunyuan_video.cli import main
from hunyuan_video.errors import Notice, UserError

huggingface_hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("huggingface_hub.constants")
NAME = "owner/Small-Video.1"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return write_random_checkpoint(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def server(repository, tmp_path, monkeypatch):
    with hub_server(repository, NAME) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        cached_repository.cache_clear()
        yield running
    cached_repository.cache_clear()


def contents(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_command_gets_all_of_it_once(server, repository, tmp_path, capsys):
    words = ["download", NAME, "-o", str(tmp_path / "here")]
    assert main(words) == 0
    out = capsys.readouterr()
    assert contents(tmp_path / "here") == contents(repository)
    assert out.out == f"{tmp_path / 'here'}\n" and "hunyuan-video sample PROMPT --model" in out.err
    assert f"1/{len(contents(repository))} " in out.err
    before = len(server.fetched())
    assert main(words) == 0 and len(server.fetched()) == before
    assert main(["sample", "a red star", "--model", str(tmp_path / "here"), "-o", str(tmp_path / "a.webp")]) == 0


def test_a_broken_download_goes_on(server, tmp_path):
    server.folder = tmp_path / "large"
    server.folder.mkdir()
    content = np.random.default_rng(0).bytes(24 << 20)
    (server.folder / "weights.safetensors").write_bytes(content)
    (server.folder / "a.json").write_text("{}")
    server.cut["weights.safetensors"] = 15 << 20
    for _ in range(6):  # the hub's package tries again by itself, too
        try:
            download(NAME, tmp_path / "here")
            break
        except UserError as error:
            assert "\n" not in str(error) and "try again: finished files are kept" in str(error)
    assert (tmp_path / "here/weights.safetensors").read_bytes() == content
    ranges = [asked for method, path, asked in server.requests if method == "GET" and path.endswith(".safetensors")]
    assert ranges[0] in ("", "bytes=0-") and int(ranges[-1].removeprefix("bytes=").partition("-")[0]) >= 10 << 20


def test_a_part_and_a_revision(server, repository, tmp_path):
    download(NAME, tmp_path / "here", include=["vae/*", "*.json"], revision="v1")
    assert contents(tmp_path / "here").keys() == {
        name for name in contents(repository) if name.startswith("vae/") or name.endswith(".json")
    }
    assert any(path.endswith("/revision/v1") for _, path, _ in server.requests)


def test_a_pipeline_by_its_name(server, repository, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(Notice, match="files of owner/Small-Video.1 .* are downloaded into"):
        pipe = HunyuanVideoPipeline.from_pretrained(NAME, device="cpu")
    given = {"seed": 1, "num_inference_steps": 1, "output_type": "latent"}
    latents = pipe("a red star", **given).latents
    assert torch.equal(
        latents, HunyuanVideoPipeline.from_pretrained(repository, device="cpu")("a red star", **given).latents
    )
    assert pipe.name == NAME
    cached_repository.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        folder = cached_repository(NAME)  # nothing left to fetch, nothing to tell
    assert folder.name == COMMIT
    server.shutdown()
    server.server_close()
    cached_repository.cache_clear()
    with pytest.warns(Notice, match="cannot download .* fetched earlier, is used"):
        assert cached_repository(NAME) == folder


def test_of_two_precisions_the_wide_one_is_fetched(server, repository, tmp_path):
    folder = tmp_path / "official"
    (folder / "transformers").mkdir(parents=True)
    for name in ("mp_rank_00_model_states.pt", "mp_rank_00_model_states_fp8.pt", "mp_rank_00_model_states_fp8_map.pt"):
        (folder / "transformers" / name).write_bytes(name.encode())
    server.folder = folder
    assert contents(cached_repository(NAME)).keys() == {"transformers/mp_rank_00_model_states.pt"}


def test_space_is_asked_first(server, tmp_path, monkeypatch):
    server.sizes["vae/diffusion_pytorch_model.safetensors"] = 10**15
    with pytest.raises(UserError, match=r"owner/Small-Video.1 needs 1e\+06 GB in .* are free; free some space"):
        download(NAME, tmp_path / "here")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda place: usage(10, 5, 5))
    with pytest.raises(UserError, match="and 5 bytes are free"):
        cached_repository(NAME)
    assert server.fetched() == [] and not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("owner/nothing", {}, "there is no such repository, or it is closed to you"),
        ("closed/model", {}, "it is closed until you have accepted its terms"),
        (NAME, {"revision": "v9"}, "at 'v9': it has no such revision"),
        (NAME, {"include": ["*.gguf"]}, "has no file like '\\*.gguf'; its files are"),
        ("model", {}, "'model' is no name of a repository; give OWNER/NAME"),
        ("a/b/c", {}, "is no name of a repository"),
    ],
)
def test_what_is_not_there_is_one_line(server, tmp_path, name, given, message):
    with pytest.raises(UserError, match=message) as caught:
        download(name, tmp_path / "here", **given)
    assert "\n" not in str(caught.value) and not (tmp_path / "here").exists()


def test_offline_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    cached_repository.cache_clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for words in (["download", NAME, "-o", str(tmp_path / "x")], ["sample", "a star", "--model", NAME, "-o", "x.mp4"]):
        assert main(words) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "cannot download owner/Small-Video.1 from http://127.0.0.1:9: " in error


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"pip install 'hunyuan-ext\[hub\]'"):
        download(NAME, tmp_path)


def test_folders_come_before_repositories(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(repository, tmp_path / "owner/here")
    assert HunyuanVideoPipeline.from_pretrained("owner/here", device="cpu").name == "owner/here"
    with pytest.raises(UserError, match="no checkpoint folder 'owner/typo'"):  # beside a folder: a slip, no download
        HunyuanVideoPipeline.from_pretrained("owner/typo")
    assert is_repository("tencent/HunyuanVideo") and not is_repository("ckpts") and not is_repository("../a")

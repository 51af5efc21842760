"""Long phases are shown by whatever command runs them; short ones are not."""

import pytest
import torch

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.cli import progress
from hunyuan_video.cli.progress import Phases
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, VAEConfig
from hunyuan_video.phases import tell, watched

SMALL = VAEConfig(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_groups=4)


def test_phases_in_percent_with_the_time_left(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with watched(Phases()):
        for done in range(11):
            tell("loading", done, 10)
            clock[0] += 1
        for done in range(1, 11):
            tell("decoding", done, 10)
            clock[0] += 0.1
    lines = capsys.readouterr().err.splitlines()
    times = [(20, 8), (40, 6), (60, 4), (80, 2), (100, 0)]  # the short phase says nothing
    assert lines == [f"loading: {percent} %, {left} s left" for percent, left in times]
    tell("loading", 1, 2)  # nobody watches
    assert capsys.readouterr().err == ""


@pytest.fixture
def seen():
    """Calls of the watcher: (phase, done, total)."""
    calls = []
    with watched(lambda *call: calls.append(call)):
        yield calls


def complete(calls, phase: str) -> bool:
    """True if a phase was told of in rising steps, more than two, up to its end."""
    steps = [(done, total) for name, done, total in calls if name == phase]
    return len(steps) > 2 and steps == sorted(steps) and steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("mode", ["exact", "tiled"])
def test_decoding_and_encoding_tell_their_share(seen, mode):
    size = {"tile_size": 64, "tile_frames": 8} if mode == "tiled" else {}
    vae = CausalVAE(VAEConfig(**{**vars(SMALL), **size})).eval()
    with torch.no_grad():
        vae.decode(torch.randn(1, 16, 9, 4, 4), mode=mode)
    assert complete(seen, "decoding") and {name for name, *_ in seen} == {"decoding"}
    seen.clear()
    vae.encode(torch.randn(1, 3, 33, 32, 32), mode=mode)
    assert complete(seen, "encoding") and {name for name, *_ in seen} == {"encoding"}


def test_a_language_model_tells_its_layers(seen):
    pipe = HunyuanVideoPipeline.from_pretrained("tiny", parts=("transformer", "text_encoder", "clip_text_encoder"))
    seen.clear()
    pipe.encode_prompt("a red circle")
    layers = pipe.text_encoder.model.layers
    assert seen == [("encoding text", number, len(layers) - 2) for number in range(1, len(layers) - 1)]


def test_loading_and_writing_tell_their_share(seen, tmp_path):
    model = HunyuanVideoTransformer.from_pretrained("tiny")
    assert complete(seen, "loading")
    model.save_pretrained(tmp_path / "diffusers")
    assert complete(seen, "writing weights")
    seen.clear()
    model.save_pretrained(tmp_path / "official", layout="official")
    assert complete(seen, "writing weights")

"""The last line of a run, and of one that was stopped."""

import json
import os

import pytest

from hunyuan_video.cli import main
from hunyuan_video.training import outcome


def export(folder, files: dict[str, str]):
    (folder / "export").mkdir(parents=True)
    for name, content in files.items():
        (folder / "export" / name).write_text(content)
    return folder


def test_a_transformer_names_weights_sheet_and_command(tmp_path):
    config = json.dumps({"_class_name": "HunyuanVideoTransformer3DModel"})
    folder = export(tmp_path / "my run", {"config.json": config, "diffusion_pytorch_model.safetensors": ""})
    (folder / "sheets").mkdir()
    for time, name in enumerate(("step_000020.png", "step_000010.mp4")):
        (folder / "sheets" / name).write_text("")
        os.utime(folder / "sheets" / name, (time, time))
    assert list(outcome.closing_lines(folder, "tiny")) == [
        f"weights: {folder}/export; newest sheet: {folder}/sheets/step_000010.mp4",
        "to sample it, join it with its text encoders and VAE: a recipe of kind bundle, as tiny/bundle",
    ]


def test_an_adapter_names_its_file(tmp_path):
    folder = export(tmp_path, {"lora.safetensors": ""})
    assert list(outcome.closing_lines(folder)) == [
        f"weights: {folder}/export/lora.safetensors",
        f"try: hunyuan-video sample PROMPT --adapter {folder}/export/lora.safetensors",
    ]


def test_a_vae_has_weights_only_and_a_run_without_an_export_says_nothing(tmp_path):
    assert list(outcome.closing_lines(tmp_path)) == []
    folder = export(tmp_path, {"config.json": json.dumps({"_class_name": "AutoencoderKLHunyuanVideo"})})
    assert list(outcome.closing_lines(folder)) == [f"weights: {folder}/export"]


def test_text_encoders_say_who_reads_them(tmp_path, monkeypatch):
    from hunyuan_video.training import run, text

    monkeypatch.setattr(text, "train_text", lambda *_, **__: {"evaluation": "{}"})
    (tmp_path / "text.yaml").write_text(f"kind: text\noutput: {tmp_path / 'text'}\n")
    lines = []
    run.run(tmp_path / "text.yaml", report=lines.append)
    assert lines[-1].startswith(f"text encoders: {tmp_path / 'text'}; a training takes them as `text: {tmp_path}")


def test_what_is_saved_of_a_stopped_run(tmp_path):
    assert outcome.saved_line(str(tmp_path / "run"), "again") == "interrupted; nothing was saved yet"
    for name in ("step_0000002", "step_0000012", "step_0000013.tmp"):
        (tmp_path / "run" / "stage" / "checkpoints" / name).mkdir(parents=True)
    line = outcome.saved_line(str(tmp_path / "run"), "hunyuan-video train x.yaml --resume")
    newest = tmp_path / "run" / "stage" / "checkpoints" / "step_0000012"
    assert line == f"interrupted; {newest} is saved, continue with: hunyuan-video train x.yaml --resume"


@pytest.mark.parametrize("command", ["train", "distill"])
def test_ctrl_c_before_the_first_checkpoint(tmp_path, monkeypatch, capsys, command):
    from hunyuan_video.training import run

    kind = "flow_encoded" if command == "train" else "step_distillation"
    path = tmp_path / "run.yaml"
    path.write_text(f"kind: {kind}\noutput: {tmp_path / 'run'}\n")

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_start", stopped)
    assert main([command, str(path)]) == 130
    assert capsys.readouterr().err == f"hunyuan-video {command}: interrupted; nothing was saved yet\n"
    assert not (tmp_path / "run").exists()

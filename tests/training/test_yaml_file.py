"""YAML as people write it: ratios, switches, dates, keys given twice; `~` and `$NAME` in paths; the resolved run."""

import math

import pytest
import yaml

from hunyuan_video.cli import main
from hunyuan_video.errors import UserError
from hunyuan_video.files import expand
from hunyuan_video.training.config import BundleRun, StagesRun, as_yaml, build, load_config
from hunyuan_video.training.config.yaml_file import parse_yaml, plain, read_yaml


def load(tmp_path, text, overrides=()):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return load_config(path, overrides)


def test_ratios_and_dates_are_text(tmp_path):
    config = load(tmp_path, "kind: stages\naspects: [16:9, 1:1, 21:9]\ndata: 2026-11-28\nstages: [{name: 2026-11-28}]")
    assert config.aspects == ("16:9", "1:1", "21:9")
    assert config.data == config.stages[0].name == "2026-11-28"
    assert load(tmp_path, "kind: stages", ("aspects=[4:3]",)).aspects == ("4:3",)


def test_numbers_are_text_where_text_is_meant_as_they_were_written(tmp_path):
    stages = "stages: [{name: 0x10}, {name: 1e5}, {name: 720}, {name: 012}, {name: no}, {name: 1_000}]"
    config = load(tmp_path, f"kind: stages\n{stages}\noutput: 2.50")
    assert [stage.name for stage in config.stages] == ["0x10", "1e5", "720", "012", "no", "1_000"]
    assert config.output == "2.50"


def test_switches_are_read_where_they_are_meant(tmp_path):
    for word, value in (("on", True), ("Yes", True), ("off", False), ("NO", False), ("true", True)):
        assert load(tmp_path, f"kind: vae\nloop: {{compile: {word}}}").loop.compile is value


@pytest.mark.parametrize("text", ["7", "-3", "0x1F", "1_000", "1e-3", "2.5", ".5", "-1.5E+3", "~", "", "a: [1]"])
def test_other_values_are_those_of_yaml(text):
    wanted = float(text) if text == "1e-3" else yaml.safe_load(text)
    result = plain(parse_yaml(text))
    assert result == wanted and type(result) is type(wanted)


def test_infinity_and_nan():
    assert [parse_yaml(text) for text in (".inf", "-.Inf", "+.INF")] == [math.inf, -math.inf, math.inf]
    assert math.isnan(parse_yaml(".NaN"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: vae\nloop:\n  steps: 3\n  batch: 2\n  steps: 4\n", "run.yaml: line 5: steps .* first in line 3"),
        ("kind: vae\noutput: a\n# again\noutput: a\n", "line 4: output is given a second time, first in line 2"),
        ("kind: vae\nloop: {batch: 1, batch: 2}", "line 2: batch .* first in line 2"),
        (
            "kind: stages\nstages: [{}, {name: true}]",
            r"\[1\]: name must be str, got True; put it in quotes: 'true'",
        ),
        ("kind: vae\noutput: ~", "output must be str, got None; put it in quotes: '~'"),
        ("kind: vae\nloop: {seed: 010}", "seed must be int, got '010'; write it without the leading zero"),
        ("kind: vae\nloop: {seed: 1:30}", "seed must be int, got '1:30'"),
        ("kind: vae\nloop: {stesp: 3}", "unknown key 'stesp'; did you mean steps\\?; known keys"),
        ("kind: flow_encode", "got 'flow_encode'; did you mean flow_encoded"),
        ("kind: vae\ninit_from: $NOWHERE_TO_BE/x", "init_from: .*variable NOWHERE_TO_BE is not set"),
        ("kind: vae\noutput: ~nobody_at_all/x", "no home folder of ~nobody_at_all"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, text, words):
    monkeypatch.delenv("NOWHERE_TO_BE", raising=False)
    with pytest.raises(UserError, match=words):
        load(tmp_path, text)


def test_a_key_twice_in_an_override_is_refused(tmp_path):
    with pytest.raises(UserError, match="--set loop=.*steps is given a second time"):
        load(tmp_path, "kind: vae", ("loop={steps: 1, steps: 2}",))


def test_merged_keys_may_be_given_again(tmp_path):
    text = "kind: vae_stages\ndiscriminator: &rates {lr: 0.5, clip: 2}\noptimizer: {<<: *rates, lr: 0.25}\n"
    config = load(tmp_path, text + "loop: {steps: 4}\nstages: [{steps: 4}]")
    assert (config.optimizer.lr, config.optimizer.clip, config.discriminator.lr) == (0.25, 2, 0.5)


def test_paths_are_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home-of-nobody")
    monkeypatch.setenv("STORE", "/store")
    raw = {"output": "~/out", "vae": "$STORE/vae", "text": "${STORE}x/~", "adapters": {"$a": "~/a.safetensors"}}
    config = build(BundleRun, raw, "bundle")
    assert (config.output, config.vae, config.text) == ("/home-of-nobody/out", "/store/vae", "/storex/~")
    assert config.adapters == {"$a": "/home-of-nobody/a.safetensors"}
    assert build(StagesRun, {"data": "toyworld:narrow"}, "x").data == "toyworld:narrow"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "$odd").mkdir()
    assert expand("$odd") == "$odd"


def test_paths_of_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STORE", "absent")
    (tmp_path / "run.yaml").write_text("kind: vae\nworld: {name: nowhere}")
    assert main(["train", "~/run.yaml"]) == 1
    assert f"{tmp_path}/run.yaml: world: name must be" in capsys.readouterr().err
    assert main(["show", "--json", "~/$STORE.mp4"]) == 1
    assert f"{tmp_path}/absent.mp4" in capsys.readouterr().err
    monkeypatch.delenv("STORE")
    assert main(["show", "$STORE.mp4"]) == 1
    assert "the environment variable STORE is not set" in capsys.readouterr().err


def test_the_dry_run_prints_the_resolved_run(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("kind: vae\nloop: {steps: 7}\noptimizer: {betas: [0.5, 0.75]}\n")
    assert main(["train", str(tmp_path / "run.yaml"), "--dry-run", "--set", "crop=16"]) == 0
    shown, _, rest = capsys.readouterr().out.partition(f"{tmp_path}/run.yaml: a valid vae run")
    config = load_config(tmp_path / "run.yaml", ("crop=16",))
    assert rest and shown == as_yaml(config)
    (tmp_path / "again.yaml").write_text(shown)
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows_editors_are_read(tmp_path, encoding):
    (tmp_path / "run.yaml").write_bytes("kind: flow\r\noutput: größe # a name\r\n".encode(encoding))
    assert read_yaml(tmp_path / "run.yaml") == {"kind": "flow", "output": "größe"}
    (tmp_path / "run.yaml").write_bytes(b"kind: \xe9\n")
    with pytest.raises(UserError, match=r"run.yaml: not valid YAML: not UTF-8 text"):
        read_yaml(tmp_path / "run.yaml")

"""Training of the tiny text encoders: a few steps reduce the losses, and the outputs load everywhere."""

from __future__ import annotations

import json
import random

import pytest
import torch

from hunyuan_video.checkpoints.text import load_clip_encoder, load_text_encoder
from hunyuan_video.data.toyworld import WORLDS
from hunyuan_video.data.toyworld.captions import FORMS, caption
from hunyuan_video.models.text import PromptTemplate
from hunyuan_video.training.text import TextTrainingConfig, train_text
from hunyuan_video.training.text.captions import NOT_MENTIONED, labels
from hunyuan_video.training.text.contrastive import GROUP, ClipConfig, grouped_scenes, info_nce
from hunyuan_video.training.text.language_model import LanguageModelConfig, next_word_loss, tiny_template
from hunyuan_video.training.text.words import clip_tokenizer, language_tokenizer

WORLD = WORLDS["full"]
SMALL = TextTrainingConfig(
    evaluation_captions=40,
    language_model=LanguageModelConfig(hidden_size=32, intermediate_size=32, layers=3, steps=8, batch=8),
    clip=ClipConfig(
        hidden_size=32, intermediate_size=32, layers=1, embed=16, clips=32, frames=3, size=16, steps=8, batch=16
    ),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("text")
    lines: list[str] = []
    summary = train_text(WORLD, folder, SMALL, log=lines.append)
    return folder, summary, lines


def test_losses_fall_and_are_reported(trained):
    folder, summary, lines = trained
    for first, last in summary["losses"].values():
        assert last < 0.97 * first
    assert lines[0].startswith("language model 0") and lines[-1].startswith("clip 7")
    assert json.loads((folder / "text.json").read_text()) == summary
    assert set(summary["evaluation"]["clip_pooled"]) == set(WORLD.words())
    assert not list(folder.rglob("*.part"))


def test_outputs_load_without_transformers(trained):
    folder, summary, _ = trained
    template = PromptTemplate.from_dict(summary["prompt_template"], summary["text_length"])
    encoder = load_text_encoder(folder / "text_encoder", folder / "tokenizer", template)
    out = encoder(["A red circle moves left!", "zzz " * 60])
    assert out.hidden.shape == (2, 48, 32) and out.hidden.dtype == torch.bfloat16
    assert out.tokens[0].dropped == "" and out.tokens[1].dropped == " ".join(["zzz"] * 12)
    pooled = load_clip_encoder(folder / "text_encoder_2", folder / "tokenizer_2")("a red circle").pooled
    assert pooled.shape == (1, summary["pooled_dim"]) and pooled.isfinite().all()


def test_outputs_load_in_transformers(trained):
    transformers = pytest.importorskip("transformers")
    folder, summary, _ = trained
    words = transformers.PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    template = PromptTemplate.from_dict(summary["prompt_template"], summary["text_length"])
    ours = load_text_encoder(folder / "text_encoder", folder / "tokenizer", template, torch.float32)
    text, crop = template.video.fill("a red circle moves left"), template.video.crop_start
    batch = words([text], padding="max_length", max_length=crop + 48, truncation=True, return_tensors="pt")
    model = transformers.LlamaModel.from_pretrained(folder / "text_encoder").float()
    with torch.no_grad():
        states = model(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states[-3]
    out = ours("a red circle moves left")
    assert torch.equal(out.mask, batch["attention_mask"][:, crop:])
    torch.testing.assert_close(out.hidden[:, :6], states[:, crop : crop + 6], atol=1e-5, rtol=1e-5)
    clip_words = transformers.PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer_2")
    clip = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder_2").float()
    ours = load_clip_encoder(folder / "text_encoder_2", folder / "tokenizer_2", torch.float32)
    with torch.no_grad():
        pooled = clip(**clip_words(["a red circle"], return_tensors="pt")).pooler_output
    torch.testing.assert_close(ours("a red circle").pooled, pooled, atol=1e-5, rtol=1e-5)


def test_training_is_deterministic(trained, tmp_path):
    folder, _, _ = trained
    train_text(WORLD, tmp_path, SMALL, log=lambda line: None)
    for name in ("text_encoder", "text_encoder_2"):
        file = f"{name}/model.safetensors"
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


def test_every_caption_is_known_and_fits():
    llm, clip = language_tokenizer(WORLD), clip_tokenizer(WORLD)
    template = tiny_template(llm, 48)
    rng = random.Random(0)
    for index in range(300):
        for form in FORMS:
            text = caption(WORLD.scene(index), rng, form).text
            encoding = llm.encode(template.video.fill(text))
            assert "<unk>" not in encoding.tokens, text
            assert len(encoding.ids) - template.video.crop_start <= 48
            assert len(clip.encode(text).ids) <= TextTrainingConfig().clip_length


def test_crop_start_leaves_exactly_the_prompt():
    llm = language_tokenizer(WORLD)
    template = tiny_template(llm, 48)
    for frame in (template.video, template.image):
        tokens = llm.encode(frame.fill("a red circle")).tokens
        assert tokens[0] == "<|begin_of_text|>" and tokens[frame.crop_start :] == ["a", "red", "circle", "<|eot_id|>"]


def test_labels_ignore_what_a_caption_leaves_out():
    scene = WORLD.scene(3)
    brief = labels(WORLD, [scene], [f"a {scene.color} {scene.shape} moves"])
    assert {name for name, label in brief.items() if label.item() == NOT_MENTIONED} == {
        "size", "texture", "background", "camera",
    }  # fmt: skip
    full = labels(WORLD, [scene], [f"a {scene.size} thing on a {scene.background} background"])
    assert full["size"].item() == WORLD.sizes.index(scene.size)
    assert full["camera"].item() == WORLD.cameras.index(scene.camera)


def test_groups_share_colors_and_stay_visible():
    scenes = grouped_scenes(WORLD, 40, seed=0)
    for first in range(0, 40, GROUP):
        assert len({scene.color for scene in scenes[first : first + GROUP]}) == 1
    assert all(scene.texture == "plain" for scene in scenes if scene.background == "black")


def test_losses_know_the_right_answer():
    assert info_nce(50 * torch.eye(4)).item() < 1e-6
    torch.testing.assert_close(info_nce(torch.zeros(4, 4)), torch.tensor(4.0).log())
    ids, mask = torch.tensor([[7, 8, 1, 2, 0]]), torch.tensor([[1, 1, 1, 1, 0]])
    logits = torch.zeros(1, 5, 9)
    logits[0, 1, 1] = logits[0, 2, 2] = 50.0  # position 1 predicts token 2 (id 1), position 2 predicts token 3 (id 2)
    assert next_word_loss(logits, ids, mask, crop_start=2).item() < 1e-6

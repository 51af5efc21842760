"""TransformerConfig: checks, and the names of diffusers' config.json."""

import pytest
from helpers.transformer_cases import tiny_config

from hunyuan_video.models.transformer.config import TransformerConfig


def test_defaults_are_the_released_model():
    config = TransformerConfig()
    assert config.guidance_embed and (config.double_blocks, config.single_blocks) == (20, 40)
    assert config.head_dim == 128
    assert config.mlp_width == 12288


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "hidden_size 32 does not divide into num_heads 3"),
        ({"rope_dims": (4, 4, 4)}, "sum to 12, not the head dim 16"),
        ({"rope_dims": (5, 5, 6)}, "must be even"),
        ({"rope_dims": (8, 8)}, "rope_dims has 3 entries"),
        ({"patch_size": (1, 0, 2)}, "patch_size entries must be positive"),
        ({"mlp_ratio": 0}, "mlp_ratio must be positive"),
        ({"double_blocks": -1}, "double_blocks must not be negative"),
        ({"text_dim": 0}, "text_dim must be positive"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**change)


@pytest.mark.parametrize("layout", ["diffusers", "native"])
def test_dict_round_trip(layout):
    config = tiny_config(mlp_ratio=2.5, guidance_embed=False, refiner_depth=3, patch_size=(2, 2, 2))
    assert TransformerConfig.from_dict(config.to_dict(layout)) == config


def test_diffusers_names_are_those_of_its_class():
    """Every entry we write is an argument of the diffusers class, with the value we mean."""
    transformers = pytest.importorskip("diffusers").HunyuanVideoTransformer3DModel
    written = tiny_config().to_dict()
    del written["_class_name"]
    built = transformers(**written).config
    assert TransformerConfig.from_dict(dict(built)) == tiny_config()


def test_unknown_and_foreign_entries_are_refused():
    with pytest.raises(ValueError, match=r"unknown transformer config entries \['width'\]"):
        TransformerConfig.from_dict({"width": 3})
    with pytest.raises(ValueError, match="image_condition_type must be None or 'token_replace', got"):
        TransformerConfig.from_dict({**tiny_config().to_dict(), "image_condition_type": "latent_concat"})
    with pytest.raises(ValueError, match="layout"):
        tiny_config().to_dict("yaml")
    with pytest.raises(ValueError, match="square patches"):
        tiny_config(patch_size=(1, 2, 1)).to_dict()
    with pytest.raises(ValueError, match="qkv_bias"):
        tiny_config(qkv_bias=False).to_dict()

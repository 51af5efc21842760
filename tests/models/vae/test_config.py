"""VAEConfig: released values, file layouts, refusals."""

from __future__ import annotations

import json

import pytest

from hunyuan_video.models import VAEConfig

SMALL = VAEConfig(
    latent_channels=8, block_out_channels=(16, 32, 64, 64), layers_per_block=1, norm_groups=8, mid_attention=False,
    scaling_factor=0.7, tile_size=64, tile_frames=16,
)  # fmt: skip


@pytest.mark.parametrize("config", [VAEConfig(), SMALL])
def test_official_round_trip(config):
    values = json.loads(json.dumps(config.to_dict("official")))
    assert values["_class_name"] == "AutoencoderKLCausal3D" and values["sample_tsize"] == config.tile_frames
    assert VAEConfig.from_dict(values) == config


def test_diffusers_round_trip_and_class():
    diffusers = pytest.importorskip("diffusers")
    values = json.loads(json.dumps(SMALL.to_dict("diffusers")))
    assert VAEConfig.from_dict(values).replace(tile_size=64, tile_frames=16) == SMALL
    peer = diffusers.AutoencoderKLHunyuanVideo.from_config(values)
    assert VAEConfig.from_dict(peer.config) == VAEConfig.from_dict(values)
    assert set(values) - {"_class_name"} <= set(peer.config)


def test_released_official_file():
    values = {
        "_class_name": "AutoencoderKLCausal3D", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512],
        "in_channels": 3, "latent_channels": 16, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
        "sample_size": 256, "sample_tsize": 64, "scaling_factor": 0.476986, "time_compression_ratio": 4,
        "mid_block_add_attention": True,
    }  # fmt: skip
    assert VAEConfig.from_dict(values) == VAEConfig()
    assert VAEConfig.from_dict({**values, "sample_size": [256, 256]}) == VAEConfig()


def test_strides_follow_the_compression():
    assert VAEConfig().strides() == ((1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1))
    two = VAEConfig(block_out_channels=(32, 32), temporal_compression=1, spatial_compression=2)
    assert two.strides() == ((1, 2, 2), (1, 1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_channels": 0}, "latent_channels must be a positive integer, got 0"),
        ({"layers_per_block": 1.5}, "layers_per_block must be a positive integer, got 1.5"),
        ({"block_out_channels": ()}, "block_out_channels is empty"),
        ({"block_out_channels": (128, 100)}, "has 100, which norm_groups=32 does not divide"),
        ({"temporal_compression": 3}, "temporal_compression=3 must be a power of two"),
        ({"spatial_compression": 16}, "spatial_compression=16 must be a power of two, at most 8 with 4 levels"),
        ({"tile_size": 100}, "tile_size=100 must be a multiple of spatial_compression=8"),
        ({"tile_frames": 4}, "tile_frames=4 .* at least 8"),
        ({"scaling_factor": float("nan")}, "scaling_factor must be a positive number, got nan"),
    ],
)
def test_refuses_bad_values(change, message):
    with pytest.raises(ValueError, match=message):
        VAEConfig(**change)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"_class_name": "AutoencoderKL"}, "class AutoencoderKL, expected one of"),
        ({"act_fn": "gelu"}, "act_fn='gelu'"),
        ({"shift_factor": 0.1}, "shift_factor=0.1"),
        ({"sample_size": [256, 128]}, r"sample_size=\[256, 128\]"),
    ],
)
def test_refuses_foreign_files(values, message):
    with pytest.raises(ValueError, match=message):
        VAEConfig.from_dict(values)


def test_unknown_layout():
    with pytest.raises(ValueError, match="layout='flax' is unknown"):
        VAEConfig().to_dict("flax")

"""The pipeline against runs of the released program (golden/pipeline_*)."""

from __future__ import annotations

import pytest
import torch

from hunyuan_video import HunyuanVideoPipeline, PromptEmbeds
from hunyuan_video.flow import FlowSchedule
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer, TransformerConfig, VAEConfig

TOLERANCE = {"atol": 1e-4, "rtol": 1e-3}


def golden_pipeline(case) -> HunyuanVideoPipeline:
    dit, vae = case.facts["config"]["dit"], case.facts["config"]["vae"]
    transformer = HunyuanVideoTransformer(
        TransformerConfig(
            hidden_size=dit["hidden_size"],
            num_heads=dit["heads_num"],
            double_blocks=dit["mm_double_blocks_depth"],
            single_blocks=dit["mm_single_blocks_depth"],
            mlp_ratio=dit["mlp_width_ratio"],
            rope_dims=tuple(dit["rope_dim_list"]),
            text_dim=dit["text_states_dim"],
            pooled_text_dim=dit["text_states_dim_2"],
            guidance_embed=dit["guidance_embed"],
        )
    )
    transformer.load_state_dict(case.part("weights.dit"), strict=True)
    model = CausalVAE(
        VAEConfig(
            block_out_channels=tuple(vae["block_out_channels"]),
            layers_per_block=vae["layers_per_block"],
            norm_groups=vae["norm_num_groups"],
            tile_size=vae["sample_size"],
            tile_frames=vae["sample_tsize"],
        )
    )
    missing, unexpected = model.load_state_dict(case.part("weights.vae"), strict=False)
    assert not unexpected and all(key.startswith(("encoder", "quant_conv")) for key in missing)
    return HunyuanVideoPipeline(transformer, model)


def golden_arguments(case) -> dict:
    config, given = case.facts["config"], case.part("in")
    arguments = {
        "height": config["height"],
        "width": config["width"],
        "num_frames": config["video_length"],
        "num_inference_steps": config["num_inference_steps"],
        "flow_shift": config["shift"],
        "true_cfg_scale": config["guidance_scale"],
        "guidance_rescale": config["guidance_rescale"],
        "guidance_scale": config["embedded_guidance_scale"],
        "prompt_embeds": PromptEmbeds(given["prompt_embeds"], given["prompt_mask"], given["prompt_embeds_2"]),
        "vae_mode": "tiled" if config["enable_tiling"] else "plain",
        "output_type": "pt",
    }
    if "negative_prompt_embeds" in given:
        arguments["negative_prompt_embeds"] = PromptEmbeds(
            given["negative_prompt_embeds"], given["negative_prompt_mask"], given["negative_prompt_embeds_2"]
        )
    return arguments


@pytest.mark.parametrize("name", ["pipeline_cfg", "pipeline_distill", "pipeline_image"])
def test_golden_pipeline(golden, name):
    case = golden(name)
    pipe, arguments, expected = golden_pipeline(case), golden_arguments(case), case.part("out")
    assert case.facts["expect_tol"] == TOLERANCE

    steps = []
    out = pipe(
        **arguments,
        seed=case.facts["config"]["noise_seed"],
        callback_on_step_end=lambda _, step, timestep, tensors: steps.append((timestep, tensors["latents"].clone())),
    )
    torch.testing.assert_close(torch.stack([t for t, _ in steps]), expected["timesteps"], **TOLERANCE)
    torch.testing.assert_close(torch.stack([x for _, x in steps]), expected["latents_per_step"], **TOLERANCE)
    torch.testing.assert_close(out.latents, expected["latents_final"], **TOLERANCE)
    video = expected["video"].reshape(out.frames.shape)  # the released program squeezes an image's time axis away
    torch.testing.assert_close(out.frames, video, **TOLERANCE)


@pytest.mark.parametrize("name", ["pipeline_cfg", "pipeline_distill", "pipeline_image"])
def test_golden_noise_and_schedule(golden, name):
    case = golden(name)
    config, expected = case.facts["config"], case.part("out")
    schedule = FlowSchedule(config["num_inference_steps"], config["shift"])
    torch.testing.assert_close(schedule.sigmas, expected["sigmas"], atol=2e-7, rtol=0)
    pipe, arguments = golden_pipeline(case), golden_arguments(case)
    stream = pipe.stream(**arguments, seed=config["noise_seed"])
    assert torch.equal(stream.state.latents, case.part("in")["latents"])


def test_golden_given_latents_equal_the_seed(golden):
    case = golden("pipeline_image")
    pipe, arguments = golden_pipeline(case), golden_arguments(case)
    seeded = pipe(**arguments, seed=case.facts["config"]["noise_seed"])
    given = pipe(**arguments, latents=case.part("in")["latents"])
    assert torch.equal(seeded.frames, given.frames)

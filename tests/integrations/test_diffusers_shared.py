"""One set of weights for pipelines of both libraries, and the names of a call in one and the other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

diffusers = pytest.importorskip("diffusers")

from helpers.small_diffusers import call, distance, drawn, pipeline, transformer  # noqa: E402
from helpers.tiny_models import TINY, TINY_VAE, randomized  # noqa: E402

from hunyuan_video import HunyuanVideoPipeline  # noqa: E402
from hunyuan_video.errors import ArgumentError  # noqa: E402
from hunyuan_video.integrations.diffusers import (  # noqa: E402
    accelerate,
    call_arguments,
    from_diffusers,
    schedule_arguments,
    to_diffusers,
)
from hunyuan_video.models import CausalVAE, HunyuanVideoTransformer  # noqa: E402


def storages(model) -> set[int]:
    return {weight.untyped_storage().data_ptr() for weight in model.parameters()}


def test_weights_of_a_diffusers_pipeline_are_shared_and_both_sample_alike(tmp_path):
    pipe = pipeline()
    parameters, wanted = list(pipe.transformer.parameters()), pipe(**call()).frames
    ours = from_diffusers(pipe)
    assert torch.equal(pipe(**call()).frames, wanted)  # the same values, of which some are views now
    assert all(old is new for old, new in zip(parameters, pipe.transformer.parameters(), strict=True))
    assert distance(ours(**call_arguments(pipe.scheduler, **call())).latents, wanted) < 1e-5
    assert storages(ours.transformer) ^ storages(pipe.transformer) == (
        storages(ours.transformer.final_layer.adaLN_modulation) | storages(pipe.transformer.norm_out)
    )
    fused, block = ours.transformer.double_blocks[0].img_attn_qkv, pipe.transformer.transformer_blocks[0].attn
    assert [part.weight.data_ptr() for part in (block.to_q, block.to_k, block.to_v)] == [
        rows.data_ptr() for rows in fused.weight.chunk(3)
    ]
    assert storages(ours.vae) == storages(pipe.vae)
    pipe.transformer.save_pretrained(tmp_path)
    stored = diffusers.HunyuanVideoTransformer3DModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(stored[name], weight) for name, weight in pipe.transformer.state_dict().items())
    again = from_diffusers(accelerate(pipe))  # once shared, nothing moves
    assert again.transformer.double_blocks[0].img_attn_qkv.weight.data_ptr() == fused.weight.data_ptr()


def test_weights_of_ours_are_shared_with_a_diffusers_pipeline():
    ours = HunyuanVideoPipeline(randomized(HunyuanVideoTransformer(TINY)), randomized(CausalVAE(TINY_VAE)))
    pipe = to_diffusers(ours)
    pipe.set_progress_bar_config(disable=True)
    arguments = call_arguments(pipe.scheduler, **call())
    assert arguments["flow_shift"] == 7.0
    before = pipe(**call()).frames
    assert distance(ours(**arguments).latents, before) < 1e-5
    single, fused = pipe.transformer.single_transformer_blocks[1], ours.transformer.single_blocks[1].linear1.weight
    assert single.proj_mlp.weight.data_ptr() == fused[3 * TINY.hidden_size :].data_ptr()
    assert storages(pipe.vae) == storages(ours.vae)
    with torch.no_grad():
        fused.mul_(1.5)
    assert distance(pipe(**call()).frames, before) > 1e-4
    assert distance(ours(**arguments).latents, pipe(**call()).frames) < 1e-5
    back = from_diffusers(pipe)
    assert back.transformer.single_blocks[1].linear1.weight.data_ptr() == fused.data_ptr()


def test_image_to_video_by_token_replacement_comes_over():
    ours = from_diffusers(pipeline(transformer=transformer("token_replace")))
    assert ours.transformer.config.image_condition == "token_replace"
    with pytest.raises(ArgumentError, match="latent_concat"):
        from_diffusers(pipeline(transformer=transformer("latent_concat")))


def offloaded(pipe):
    pytest.importorskip("accelerate").cpu_offload(pipe.transformer, torch.device("cpu"))


def with_adapter(pipe):
    peft = pytest.importorskip("peft")
    pipe.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"]))


@pytest.mark.parametrize("change", [offloaded, with_adapter])
def test_what_is_not_plain_is_refused_and_nothing_is_changed(change):
    pipe = pipeline()
    change(pipe)
    before = {name: weight.data_ptr() for name, weight in pipe.transformer.named_parameters()}
    with pytest.raises(ArgumentError, match="weights are shared where they are plain, but transformer"):
        from_diffusers(pipe)
    assert {name: weight.data_ptr() for name, weight in pipe.transformer.named_parameters()} == before


def test_schedulers_by_name():
    made = diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0)
    assert schedule_arguments(made) == {"flow_shift": 5.0, "solver": "euler"}
    for scheduler in (diffusers.EulerDiscreteScheduler(), diffusers.FlowMatchHeunDiscreteScheduler()):
        with pytest.raises(ArgumentError, match=f"{type(scheduler).__name__} has no counterpart"):
            schedule_arguments(scheduler)
    with pytest.raises(ArgumentError, match="use_dynamic_shifting=True has no counterpart"):
        schedule_arguments(diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True))


def test_given_sigmas_and_callbacks_mean_the_same():
    pipe = pipeline()
    ours = from_diffusers(pipe)

    def callback(pipe, step, timestep, tensors):
        return {"latents": tensors["latents"] + 0.1 * (step + 1)}

    given = call(steps=3, sigmas=[1.0, 0.7, 0.2], callback_on_step_end=callback, output_type="pil")
    given["callback_on_step_end_tensor_inputs"] = ["latents"]
    theirs, frames = pipe(**given).frames[0], ours(**call_arguments(pipe.scheduler, **given)).frames[0]
    for wanted, frame in zip(theirs, frames, strict=True):
        difference = torch.tensor(list(wanted.tobytes())) - torch.tensor(list(frame.tobytes()))
        assert difference.abs().max() <= 1


def interrupting(pipe, step, timestep, tensors):
    pipe._interrupt = True
    return tensors


REFUSED = {
    "prompt_2 must be as prompt": {"prompt": "a", "prompt_2": "b"},
    "attention_kwargs=.* has no counterpart": {"attention_kwargs": {"scale": 0.5}},
    "output_type 'np' is not the same": {"output_type": "np"},
    "ignores true_cfg_scale without a negative_prompt": {"true_cfg_scale": 3.0},
    "belong together": {"prompt_embeds": drawn(1, 7, 24)},
    "'prompt_embeds'; callbacks get latents only": {"callback_on_step_end_tensor_inputs": ["prompt_embeds"]},
    "num_inference_steps=4, but there are 2 sigmas": {"sigmas": [1.0, 0.5], "num_inference_steps": 4},
    "solver is no argument of diffusers' call.*ours has this name": {"solver": "heun"},
    "clip_skip is no argument": {"clip_skip": 1},
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_means_something_else_is_refused(text):
    with pytest.raises(ArgumentError, match=text) as refused:
        call_arguments(**REFUSED[text])
    assert "\n" not in str(refused.value)


def test_a_callback_that_sets_the_flag_to_stop_is_refused():
    callback = call_arguments(callback_on_step_end=interrupting)["callback_on_step_end"]
    with pytest.raises(ArgumentError, match=r"pipe\._interrupt"):
        callback(SimpleNamespace(), 0, 1000.0, {})


def test_same_names_pass():
    given = dict(prompt="a", prompt_2="a", height=64, width=64, num_frames=9, guidance_scale=6.0, return_dict=True)
    given |= dict(negative_prompt="b", true_cfg_scale=2.0, num_videos_per_prompt=2, attention_kwargs=None)
    wanted = {
        name: value for name, value in given.items() if name not in ("prompt_2", "return_dict", "attention_kwargs")
    }
    assert call_arguments(**given) == wanted

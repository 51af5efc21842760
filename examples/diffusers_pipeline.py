"""A diffusers pipeline over the bundled weights, with our blocks and VAE: python examples/diffusers_pipeline.py"""

import sys

from hunyuan_video import HunyuanVideoPipeline, UserError
from hunyuan_video.integrations.diffusers import accelerate, restore, to_diffusers

try:
    ours = HunyuanVideoPipeline.from_pretrained("tiny", device="cpu")
    pipe = accelerate(to_diffusers(ours))  # any diffusers pipeline of this family; this one shares the weights of ours
    embeds, _ = ours.encode_prompt("a red circle moves right on a gray background")
    video = pipe(
        prompt_embeds=embeds.text,
        prompt_attention_mask=embeds.mask,
        pooled_prompt_embeds=embeds.pooled,
        height=64,
        width=64,
        num_frames=17,
        num_inference_steps=2,
    ).frames[0]
    video[-1].save("diffusers-last-frame.png")
    restore(pipe)
    print("done: diffusers-last-frame.png")
except UserError as error:  # a pipeline of another family, for example: one line meant for people
    sys.exit(str(error))

"""Two videos of one prompt with the bundled checkpoint, as MP4 files: python examples/sample.py"""

from hunyuan_video import HunyuanVideoPipeline
from hunyuan_video.sampling import save_video

pipe = HunyuanVideoPipeline.from_pretrained("tiny")
out = pipe("a green star moves up on a gray background, the camera is static", num_videos_per_prompt=2, seed=3)
for seed, frames in zip(out.seeds, out.frames, strict=True):
    save_video(f"star-{seed}.mp4", frames, fps=pipe.defaults.fps)
    print(f"star-{seed}.mp4: {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}")

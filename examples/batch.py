"""A folder as a queue: python examples/batch.py FOLDER makes FOLDER/x.mp4 of the prompt in each FOLDER/x.txt.

Two runs go on in turn over one loaded model; kill it at any time and start it again: every run goes on at its step.
"""

import sys
from pathlib import Path

from hunyuan_video import HunyuanVideoPipeline, UserError
from hunyuan_video.sampling import RunScheduler, SampleRequest, save_video

folder = Path(sys.argv[1])
pipe = HunyuanVideoPipeline.from_pretrained("tiny")


def request(text: Path) -> SampleRequest:
    state = text.with_suffix(".state")
    if state.exists():
        return SampleRequest(resume_from=state, checkpoint_to=state)
    return SampleRequest(text.read_text(), seed=1, checkpoint_to=state)


with RunScheduler(pipe.models, active=2) as scheduler:
    waiting = [text for text in sorted(folder.glob("*.txt")) if not text.with_suffix(".mp4").exists()]
    runs = [(text, scheduler.submit(request(text), name=text.stem)) for text in waiting]
    for text, run in runs:
        try:
            save_video(text.with_suffix(".mp4"), run.result().frames[0], fps=pipe.defaults.fps)
        except UserError as error:  # this prompt alone
            print(f"{text}: {error}", file=sys.stderr)
            continue
        text.with_suffix(".state").unlink()
        print(text.with_suffix(".mp4"))

"""Sampling inside another program, with progress, previews and cancel: python examples/embed.py [seconds allowed]"""

import sys
import time

from PIL import Image

from hunyuan_video import Finished, HunyuanVideoPipeline, UserError

limit = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
pipe = HunyuanVideoPipeline.from_pretrained("tiny")
started = time.monotonic()
try:
    for event in pipe.stream("a red circle moves right on a gray background", seed=1, checkpoint_to="embed.state"):
        if isinstance(event, Finished):
            Image.fromarray(event.output.frames[0, -1]).save("embed-last-frame.png")
            print("done: embed-last-frame.png")
            break
        print(f"step {event.step} of {event.total}")
        Image.fromarray(event.preview[0, -1].numpy()).resize((128, 128)).save("embed-preview.png")
        if time.monotonic() - started > limit:
            event.cancel()  # the loop ends; pipe(resume_from="embed.state") would continue
except UserError as error:  # bad arguments or a failure: one line meant for people
    sys.exit(str(error))

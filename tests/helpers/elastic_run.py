"""A run for torchrun: `elastic_run.py FOLDER [fsdp]`. Its last rank kills itself at step 5 of the first attempt."""

import dataclasses
import os
import signal
import sys
from pathlib import Path

from helpers.small_transformer import SmallTask
from hunyuan_video.distributed.config import ParallelConfig
from hunyuan_video.training.config import LoopConfig, OptimizerConfig
from hunyuan_video.training.loop import train
from hunyuan_video.training.run import restarted

LOOP = LoopConfig(steps=8, batch=4, save_every=2, sheet_every=0, log_every=1, precision="fp32")
SHARDED = dataclasses.replace(LOOP, parallel=ParallelConfig(fsdp=True))
OPTIMIZER = OptimizerConfig(lr=1e-2, warmup_steps=2, ema=0.5)


class Dies(SmallTask):
    def loss(self, step, generator):
        if step == 5 and os.environ["RANK"] == "1" and not restarted():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(step, generator)


if __name__ == "__main__":
    chosen = SHARDED if "fsdp" in sys.argv[2:] else LOOP
    train(Dies(2), chosen, OPTIMIZER, Path(sys.argv[1]), restarted(), lambda line: print(line, flush=True))

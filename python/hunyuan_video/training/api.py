"""Training from Python: the process that calls it is afterwards as it was before."""

from __future__ import annotations

import os
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from hunyuan_video.errors import UserError
from hunyuan_video.training.config import KINDS, load_config, recipe_path
from hunyuan_video.training.run import start

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def train(
    config: Any,
    *,
    resume: bool = False,
    overrides: tuple[str, ...] = (),
    report: Callable[[str], None] = print,
) -> dict[str, float]:
    """Train what a configuration says; returns the last evaluation ({} where there was none).

    config: the path of a YAML file, or what `load_config` returned, changed by `dataclasses.replace` or not.
    resume: continue from the newest checkpoint in `config.output`. overrides: of a file, as "loop.steps=100".
    report: gets the lines that the command prints. Threads, random numbers, environment, warning filters, signal
    handlers and process groups are afterwards as before, also where it fails. Raises UserError.
    """
    with unchanged_process():
        if isinstance(config, (str, Path)):
            return start(load_config(config, overrides), recipe_path(config), resume=resume, report=report)
        if type(config) not in KINDS.values():
            raise UserError(f"config must be a path or what load_config returns, got a {type(config).__name__}")
        if overrides:
            raise UserError("overrides go with the path of a file; change a configuration with dataclasses.replace")
        return start(config, Path("run.yaml"), resume=resume, report=report)


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Puts back what a run changes in its process, whatever happens in the block."""
    threads, environment, filters = torch.get_num_threads(), dict(os.environ), list(warnings.filters)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    alone = not dist.is_initialized()
    try:
        yield
    finally:
        if alone and dist.is_initialized():
            dist.destroy_process_group()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])  # noqa: NPY002
        warnings.filters[:] = filters  # type: ignore[index]
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        torch.set_num_threads(threads)

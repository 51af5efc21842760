"""A short form of helpers/marathon.py: a run that meets each kind of fault ends as an unbroken one."""

import os
import traceback

from helpers.marathon import KINDS, marathon
from helpers.several_ranks import PATIENCE, PROCESSES


def short_form(folder, pipe):
    os.chdir(folder)
    try:
        pipe.send(marathon(steps=16, faults=6, every=4, clips=16, seed=0))
    except BaseException:
        pipe.send(traceback.format_exc())


def test_a_run_that_meets_every_fault_ends_as_an_unbroken_one(tmp_path):
    here, there = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=short_form, args=(tmp_path, there))
    process.start()
    met = here.recv() if here.poll(PATIENCE) else "no answer"
    process.join(10)
    process.kill()
    assert met == dict.fromkeys(KINDS, 1), met

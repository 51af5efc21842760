"""Video jobs over HTTP: the OpenAI videos API over this package's sampler, with jobs that survive a kill.

`serve` is a process that answers requests and keeps the jobs; the models are in worker processes, one a device. The
answering process loads no model, a crash of a worker costs no other job, and every step's state is on the disk.
"""

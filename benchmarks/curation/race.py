"""Shot split beside its peers: PySceneDetect's `detect`, then TransNet V2's `predict_frames`, each with a decode."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.curation import media
from hunyuan_video.curation.shots.content import thumbnail
from hunyuan_video.curation.shots.network import TransitionNetwork
from hunyuan_video.curation.shots.split import Splitter
from hunyuan_video.media.read import open_media

ROUNDS = 2
VIDEOS = ("bikes", "bunny", "phone")


def ours(path: Path, network: TransitionNetwork) -> list[int]:
    splitter = Splitter(network)
    found = [each for frame in open_media(path).stream() for each in splitter.push(thumbnail(frame.picture(256)))]
    return [each.start for each in found + splitter.finish()]


def peers(path: Path, network: TransitionNetwork) -> list[int]:
    """Both one after another, and the frames from which one of them begins a shot."""
    from scenedetect import ContentDetector, detect

    scenes = detect(str(path), ContentDetector())
    model = network._network
    assert model is not None
    frames = np.stack([thumbnail(frame.picture(256)) for frame in open_media(path).stream()])
    single, _ = model.predict_frames(torch.from_numpy(frames), quiet=True)
    starts = {start.frame_num for start, _ in scenes[1:]}
    return sorted(starts | set((np.flatnonzero(np.asarray(single) >= 0.5) + 1).tolist()))


def print_race() -> None:
    """Processor seconds, the least of the rounds, in turn."""
    torch.set_num_threads(1)
    network = TransitionNetwork()
    network(np.zeros((100, 27, 48, 3), np.uint8))
    contenders: dict[str, Callable[[Path, TransitionNetwork], list[int]]] = {"ours": ours, "peers": peers}
    for name in VIDEOS:
        path = media.video(name)
        if path is None:
            continue
        least, cuts = dict.fromkeys(contenders, float("inf")), {}
        for _ in range(ROUNDS):
            for who, split in contenders.items():
                start = time.process_time()
                cuts[who] = split(path, network)
                least[who] = min(least[who], time.process_time() - start)
        ratio = least["peers"] / least["ours"]
        sides = ", ".join(f"{who} {least[who]:.2f} s, cuts {cuts[who]}" for who in contenders)
        print(f"{name}: {sides}: {ratio:.2f}x")

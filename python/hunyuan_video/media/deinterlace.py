"""Interlaced video as whole pictures: each frame's second half of rows is from a later moment, which shows as combs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

FILTER = ("bwdif", "mode=send_frame:deint=interlaced")  # one picture a frame, those that are whole untouched


def progressive(frames: Iterable[av.VideoFrame], stream: Any) -> Iterator[av.VideoFrame]:
    """The same frames; where the first is interlaced, with the rows of the second moment computed for the first."""
    graph: Any = None
    for number, frame in enumerate(frames):
        if number == 0 and frame.interlaced_frame:
            graph = _graph(stream)
        if graph is None:
            yield frame
            continue
        graph.push(frame)
        yield from _ready(graph)
    if graph is not None:
        graph.push(None)
        yield from _ready(graph)


def _graph(stream: Any) -> Any:
    from av.filter import Graph

    graph = Graph()
    source, filtered, sink = graph.add_buffer(template=stream), graph.add(*FILTER), graph.add("buffersink")
    source.link_to(filtered)
    filtered.link_to(sink)
    graph.configure()
    return graph


def _ready(graph: Any) -> Iterator[av.VideoFrame]:
    import av

    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):  # the next one needs more, or there is none
            return
        yield frame

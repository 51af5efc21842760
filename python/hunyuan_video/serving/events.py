"""Events of jobs, for whoever listens: the latest event of each job, so that a slow listener costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Listener:
    """One client: which jobs it hears of, and what it has not read yet."""

    owner: str
    video: str | None  # one job alone; None: all of the owner
    previews: bool
    waiting: dict[str, dict[str, Any]] = field(default_factory=dict)  # by job; a newer event replaces an older one
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class EventHub:
    """Events to listeners; on_previews(bool) is called when the first one wants previews, and when none does."""

    def __init__(self, on_previews: Callable[[bool], None]):
        self._listeners: set[Listener] = set()
        self._on_previews = on_previews
        self._closed = False

    @property
    def previews(self) -> bool:
        """True if somebody wants previews."""
        return any(listener.previews for listener in self._listeners)

    def publish(self, owner: str, video: str, event: dict[str, Any]) -> None:
        """An event of a job to all who hear of it."""
        for listener in self._listeners:
            if listener.owner == owner and listener.video in (None, video):
                kept = {key: value for key, value in event.items() if key != "preview" or listener.previews}
                listener.waiting.pop(video, None)
                listener.waiting[video] = kept
                listener.changed.set()

    async def listen(self, listener: Listener, beat: float) -> AsyncIterator[dict[str, Any] | None]:
        """Events as they come, and None where none came for `beat` seconds; until the hub is closed."""
        self._add(listener)
        try:
            while not self._closed or listener.waiting:
                try:
                    await asyncio.wait_for(listener.changed.wait(), beat)
                except asyncio.TimeoutError:
                    yield None
                    continue
                listener.changed.clear()
                while listener.waiting:
                    yield listener.waiting.pop(next(iter(listener.waiting)))
        finally:
            self._remove(listener)

    def close(self) -> None:
        """Ends every listener's stream."""
        self._closed = True
        for listener in self._listeners:
            listener.changed.set()

    def _add(self, listener: Listener) -> None:
        before = self.previews
        self._listeners.add(listener)
        if self.previews != before:
            self._on_previews(True)

    def _remove(self, listener: Listener) -> None:
        before = self.previews
        self._listeners.discard(listener)
        if self.previews != before:
            self._on_previews(False)

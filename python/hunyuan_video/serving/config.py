"""Settings of a server, from the command line."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from hunyuan_video.errors import ArgumentError
from hunyuan_video.rules import Count, Number, Rule, limited

PORTS = 65535


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server; ArgumentError for values that cannot work."""

    data: Path  # folder of the store and of the jobs' files
    model: str = "tiny"
    host: str = "127.0.0.1"
    port: int = 8000  # 0: a free one
    api_keys: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()  # a worker for each; none: the GPUs there are, or the CPU
    dtype: str | None = None
    adapter: str | None = None
    threads: int | None = None  # of a CPU worker
    loras: Path | None = None  # folder whose .safetensors files requests may name
    active: int = limited(2, Count(64))  # jobs that a worker interleaves
    max_queue: int = limited(200, Count(10**6))  # jobs that wait, of all keys
    max_queue_per_key: int = limited(200, Count(10**6))
    max_upload_mb: float = limited(20, Number(low=0, above=True, high=10_000))
    max_image_megapixels: float = limited(50, Number(low=0, above=True, high=1000))
    keep_days: float = limited(30, Number(low=0, above=True))
    max_disk_gb: float = limited(100, Number(low=0, above=True))
    drain_seconds: float = limited(30, Number(low=0))
    rules: dict[str, Rule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rules = {name: known.metadata["rule"] for name, known in self.__dataclass_fields__.items() if known.metadata}
        object.__setattr__(self, "rules", rules)
        for name, rule in rules.items():
            rule.check(f"--{name.replace('_', '-')}", getattr(self, name))
        if not 0 <= self.port <= PORTS:
            raise ArgumentError(f"--port must be between 0 and {PORTS}, got {self.port}")
        if any(len(key.strip()) < 8 or not key.isascii() or not key.isprintable() for key in self.api_keys):
            raise ArgumentError("--api-key needs 8 or more plain ASCII characters; `openssl rand -hex 24` makes one")
        if not self.api_keys and not is_loopback(self.host):
            raise ArgumentError(
                f"--host {self.host} can be reached by others and no key is set; add --api-key, or use 127.0.0.1"
            )
        if self.loras is not None and not self.loras.is_dir():
            raise ArgumentError(f"--loras {self.loras} is no folder; give the folder of the .safetensors files")

    @property
    def model_id(self) -> str:
        """Name of the model in the API: a bundled one's, or the last part of its folder."""
        return Path(self.model).resolve().name if Path(self.model).is_dir() else self.model


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

"""diffusers: its pipelines with our blocks and VAE in place, and one set of weights for its pipelines and ours.

`accelerate` and `restore` change a diffusers pipeline and put it back; `from_diffusers` and `to_diffusers` make one
library's pipeline over the weights of the other's; `call_arguments` and `schedule_arguments` translate names, and
refuse what means something else. All need the package `diffusers` (docs/integrations.md; names load on first use).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hunyuan_video.lazy import load

if TYPE_CHECKING:
    from hunyuan_video.integrations.diffusers.names import call_arguments, schedule_arguments
    from hunyuan_video.integrations.diffusers.shared import from_diffusers, to_diffusers
    from hunyuan_video.integrations.diffusers.swap import accelerate, restore

_HOMES = {
    "accelerate": "swap",
    "call_arguments": "names",
    "from_diffusers": "shared",
    "restore": "swap",
    "schedule_arguments": "names",
    "to_diffusers": "shared",
}

__all__ = ["accelerate", "call_arguments", "from_diffusers", "restore", "schedule_arguments", "to_diffusers"]


def __getattr__(name: str) -> Any:
    return load(__name__, _HOMES, name)

"""bfloat16 only where the processor is quick at it."""

import torch

from hunyuan_video.models import precision


def test_a_cpu_without_amx_stays_in_float32(monkeypatch):
    x = torch.ones(2, 2)
    for amx, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx, raising=False)
        with precision.quick("cpu"):
            assert (x @ x).dtype == dtype
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert not precision.has_amx()

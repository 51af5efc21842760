#!/usr/bin/env bash
# torch 2.13.0: Generator.manual_seed takes 64 bits and initial_seed gives all of them back, but the CPU's Mersenne Twister
# starts from the lower 32 only. Seeds 2**32 apart draw the same numbers, without a word: of the 2**64 seeds that programs
# hand out (ComfyUI's are uniform over them) only 2**32 noises exist, and a search over seeds can repeat itself.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" torch==2.13.0 numpy==2.2.6
PYTHONPATH="$folder/packages" python3 - <<'PY'
import sys

import torch

print("torch", torch.__version__)


def drawn(seed):
    generator = torch.Generator("cpu").manual_seed(seed)
    assert generator.initial_seed() == seed
    return torch.randn(1000, generator=generator)


same = [torch.equal(drawn(5), drawn(5 + (high << 32))) for high in (1, 2, 2**31, 2**32 - 1)]
print("5 and 5 + high * 2**32 draw the same numbers:", same)
print("5 and 6 do:", torch.equal(drawn(5), drawn(6)))
sys.exit(0 if all(same) and not torch.equal(drawn(5), drawn(6)) else 1)
PY

#!/usr/bin/env bash
# PEFT 0.21.2 and LyCORIS 4.1.3 give a LoKr adapter of the same rank and alpha different strengths where both factors are
# whole matrices (the rank is larger than they are): LyCORIS, where the form comes from, sets the scale to 1, whatever
# alpha is; PEFT keeps alpha / rank. The entries have the same names (lokr_w1, lokr_w2), so a file that was trained in one
# is 1/4 or 4 times as strong in the other (rank 64, alpha 16), without a word.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
    torch==2.13.0 transformers==5.24.0 peft==0.21.2 lycoris-lora==4.1.3 einops==0.8.1 toml==0.10.2
PYTHONPATH="$folder/packages" python3 - <<'PY'
import sys
from importlib.metadata import version

import torch
from lycoris.modules.lokr import LokrModule
from peft import LoKrConfig, get_peft_model

print("peft", version("peft"), "lycoris-lora", version("lycoris-lora"), "torch", torch.__version__)
torch.manual_seed(0)
RANK, ALPHA = 64, 16
linear = torch.nn.Sequential(torch.nn.Linear(16, 16, bias=False))
adapted = get_peft_model(linear, LoKrConfig(r=RANK, alpha=ALPHA, target_modules=["0"], init_weights=False))
layer = adapted.base_model.model[0]
first, second = (getattr(layer, name)["default"].detach() for name in ("lokr_w1", "lokr_w2"))
product = torch.kron(first, second)
theirs = (layer.get_delta_weight("default").detach() / product).mean().item()

module = LokrModule("x", torch.nn.Linear(16, 16, bias=False), lora_dim=RANK, alpha=ALPHA)
with torch.no_grad():
    module.lokr_w1.copy_(first)
    module.lokr_w2.copy_(second)
    original = (module.get_weight((16, 16)) / product).mean().item()
print(f"factors {tuple(first.shape)} and {tuple(second.shape)}, rank {RANK}, alpha {ALPHA}")
print(f"change of the weight, in parts of the Kronecker product: PEFT {theirs:.4f}, LyCORIS {original:.4f}")
sys.exit(0 if abs(theirs - ALPHA / RANK) < 1e-4 and abs(original - 1) < 1e-4 else 1)
PY

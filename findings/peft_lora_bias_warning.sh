#!/usr/bin/env bash
# PEFT 0.21.2 calls its own adapters with lora_bias=True incomplete: save_pretrained warns that every lora_B.bias has an
# "invalid shape" and that "DeepSpeed ZeRO-3 / FSDP shards were not gathered". A bias has one dimension, nothing is
# sharded, and the file is whole: loaded again it gives the same output.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" \
    torch==2.13.0 transformers==5.24.0 peft==0.21.2
PYTHONPATH="$folder/packages" python3 - "$folder/adapter" <<'PY'
import sys
import warnings

import peft
import torch

print("peft", peft.__version__, "torch", torch.__version__)


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))


config = peft.LoraConfig(r=2, lora_bias=True, target_modules=["0", "1"], init_lora_weights=False)
adapted = peft.get_peft_model(model(), config)
with torch.no_grad():
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name and name.endswith("bias"):
            parameter.normal_()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    adapted.save_pretrained(sys.argv[1])
told = [str(warning.message) for warning in caught if "invalid shape" in str(warning.message)]
print(*told, sep="\n")
x = torch.randn(3, 8)
again = peft.PeftModel.from_pretrained(model(), sys.argv[1])
same = torch.equal(again(x), adapted(x))
print("output of the file that was saved:", "the same" if same else "another")
sys.exit(0 if told and "lora_B.bias" in told[0] and same else 1)
PY

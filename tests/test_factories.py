"""Every tensor names its device, and its dtype where that would be the default: those are the host program's."""

from __future__ import annotations

import ast
from pathlib import Path

import hunyuan_ext
import hunyuan_video

SYSTEM = Path(hunyuan_video.__file__).parent
# What runs in other programs' processes.
PACKAGES = [
    Path(hunyuan_ext.__file__).parent,
    *(SYSTEM / name for name in ("models", "flow", "checkpoints", "media", "sampling")),
]

FACTORIES = {
    "zeros",
    "ones",
    "empty",
    "full",
    "rand",
    "randn",
    "linspace",
    "eye",
    "arange",
    "randint",
    "randperm",
    "tensor",
}
NEVER_DEFAULT = {"zeros", "ones", "empty", "rand", "randn", "linspace", "eye"}  # of these a default dtype decides


def factories_with_defaults(path: Path) -> list[str]:
    """Calls that leave device or dtype to the defaults of the program around; modules make their parameters so."""
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, names = node.func.attr, {keyword.arg for keyword in node.keywords}
        if name not in FACTORIES or ast.unparse(node.func.value) != "torch" or None in names:
            continue
        if "device" not in names or (name in NEVER_DEFAULT and "dtype" not in names):
            wrong.append(f"{path.name}: {ast.unparse(node)}")
    return wrong


def test_tensors_are_made_without_the_programs_defaults():
    """Default dtype and device are the host program's; a run under others must be the same."""
    files = [path for package in PACKAGES for path in package.rglob("*.py")]
    wrong = [line for path in files for line in factories_with_defaults(path)]
    parameters = ("torch.ones(head_dim)", "torch.ones(size)")
    assert [line for line in wrong if not any(text in line for text in parameters)] == []


def test_factory_rule_sees_a_default(tmp_path):
    (tmp_path / "a.py").write_text(
        "import torch\nx = torch.randn(3, device='cpu')\ny = torch.tensor([1], device='cpu')\n"
    )
    assert factories_with_defaults(tmp_path / "a.py") == ["a.py: torch.randn(3, device='cpu')"]

"""The rules of the source tree: who may import whom, what files may not contain, how long they may be."""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import hunyuan_ext  # noqa: F401  (adds the kernels of every family)
import hunyuan_video
from hunyuan_ext.core.dispatch import KERNELS

ROOT = Path(__file__).resolve().parents[1]
SYSTEM = ROOT / "python" / "hunyuan_video"
MAX_LINES = 400
FOLDERS = ("csrc", "hunyuan_ext", "python", "tests", "docs", "examples", "recipes", "benchmarks", ".ci")
C_SOURCES = ("*.cpp", "*.h", "*.cu", "*.cuh")

# Each package may import those of the rows above its own, and those before it in its own row.
LAYERS = (
    ("hunyuan_ext",),
    ("errors", "forks", "writers", "files", "fingerprint", "lazy", "phases", "rules"),
    ("models",),
    ("flow", "media", "distributed"),
    ("checkpoints",),
    ("data", "planning"),
    ("curation",),
    ("sampling",),
    ("evaluation", "training", "serving", "integrations"),
    ("cli",),
)
ORDER = [package for layer in LAYERS for package in layer]
# `from_pretrained` and `save_pretrained` are methods of the models, and load the file code when they are called.
LAZY_EXCEPTIONS = {("models/pretrained.py", "checkpoints")}
HOMES = hunyuan_video._HOMES  # where the names of the root package really are
ROOT_FILES = set(
    ".clang-format .gitignore CMakeLists.txt CONTRIBUTING.md LICENSE MANIFEST.in Makefile README.md mypy.ini "
    "pyproject.toml pytest.ini ruff.toml setup.py".split()
)
# Modules that were moved or merged, below hunyuan_video: a name that comes back would be a second home for its concept.
RETIRED = set(
    "checkpoints.atomic checkpoints.defaults checkpoints.loading checkpoints.saving "
    "checkpoints.text_save data.encoded data.toyworld.sheet evaluation.sheets models.blocks models.config "
    "models.embeddings models.fp8_chain models.fused models.lora_forms models.lora_patches models.modulation "
    "models.rope models.token_refiner models.vae_blocks models.vae_config models.vae_exact models.vae_runner "
    "models.vae_slabs models.vae_store models.vae_tiling models.vae_upsample models.vae_window sampling.adapters "
    "sampling.arguments sampling.defaults sampling.embeds sampling.files sampling.loading sampling.media_images "
    "sampling.media_mp4 sampling.memory sampling.modulation sampling.output sampling.rules sampling.state "
    "sampling.stream sampling.tokens training.activations training.average training.buckets training.captioned "
    "training.cli training.clips training.companion training.conditioning training.config.limits training.cost "
    "training.discriminator training.distributed training.encode training.encoded_flow training.flow "
    "training.guidance_distillation training.guidance_report training.latents training.lora training.pca "
    "training.perceptual training.plan training.prepared training.read_ahead training.schedule training.sequence "
    "training.sequence_parallel training.solve training.stage_data training.stages training.step_distillation "
    "training.tasks.encoded_flow training.tasks.guidance training.tasks.stage_data training.tasks.stages "
    "training.teacher training.vae training.vae_stages models.fingerprint".split()
)
FILE_LIBRARIES = {"json", "safetensors", "pickle", "av", "PIL", "yaml"}


def tracked(*patterns: str) -> list[Path]:
    """The repository's files of some patterns; without git, those in the folders that the repository has."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in listed.stdout.splitlines()]
    else:
        paths = [*ROOT.glob("*"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))]
    return sorted(path for path in paths if path.is_file() and any(path.match(pattern) for pattern in patterns))


def package_of(module: str) -> str | None:
    """'hunyuan_video.models.vae.model' -> 'models'; None for what is not ours or is the root package itself."""
    parts = module.split(".")
    if parts[0] == "hunyuan_ext":
        return "hunyuan_ext"
    return parts[1] if parts[0] == "hunyuan_video" and len(parts) > 1 else None


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Every import below a node, as (statement, module)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "hunyuan_video":
            yield from ((node, HOMES.get(alias.name, "hunyuan_video")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module or ""


def arrows(path: Path) -> Iterator[tuple[str, int, bool]]:
    """The packages of ours that a file imports, as (package, line, only within a function)."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lazy = {id(statement) for function in functions for statement, _ in imports(function)}
    for statement, module in imports(tree):
        package = package_of(module)
        if package is not None:
            yield package, statement.lineno, id(statement) in lazy


def source_files() -> list[Path]:
    return [
        path for path in tracked("*.py") if path.is_relative_to(SYSTEM) or path.is_relative_to(ROOT / "hunyuan_ext")
    ]


def forbidden_arrows(path: Path) -> list[str]:
    inside = path.relative_to(SYSTEM) if path.is_relative_to(SYSTEM) else None
    package = "hunyuan_ext" if inside is None else inside.parts[0].removesuffix(".py")
    if package in ("__init__", "__main__"):  # the facade names everything and loads it on first use
        return []
    wrong = []
    for target, line, lazy in arrows(path):
        allowed = target == package or ORDER.index(target) < ORDER.index(package)
        if not allowed and not (lazy and (str(inside), target) in LAZY_EXCEPTIONS):
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
    return wrong


def test_every_package_has_a_layer():
    packages = {
        path.relative_to(SYSTEM).parts[0].removesuffix(".py") for path in source_files() if path.is_relative_to(SYSTEM)
    }
    assert packages - set(ORDER) <= {"__init__", "__main__"}


def test_imports_point_down():
    assert [wrong for path in source_files() for wrong in forbidden_arrows(path)] == []


def test_arrow_rule_sees_an_upward_import(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SYSTEM", tmp_path)
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "models" / "vae.py"
    file.parent.mkdir()
    file.write_text("def load():\n    from hunyuan_video.sampling import pipeline\nfrom hunyuan_ext import norm\n")
    assert forbidden_arrows(file) == ["models/vae.py:2 imports sampling"]


def module_of(path: Path) -> str:
    """python/hunyuan_video/models/vae/model.py -> 'hunyuan_video.models.vae.model'; a package for its __init__.py."""
    parts = path.relative_to(SYSTEM.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def home_of(package: str, name: str) -> str:
    """The module that holds a name imported from a package that loads its names on first use."""
    for table in ("_HOMES", "_MODULES"):
        if home := getattr(importlib.import_module(package), table, {}).get(name):
            return home if home.startswith("hunyuan_video.") else f"{package}.{home}"
    return package


def file_graph(paths: list[Path]) -> dict[str, set[str]]:
    """Module -> the modules it imports, for type checking or within functions too."""
    modules = {module_of(path): path for path in paths}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module, path in modules.items():
        lazy_exceptions = {target for file, target in LAZY_EXCEPTIONS if path == SYSTEM / file}
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or node.module is None:
                continue
            for alias in node.names:
                target = f"{node.module}.{alias.name}"
                if target not in modules and node.module in modules:
                    lazy = modules[node.module].name == "__init__.py"
                    target = home_of(node.module, alias.name) if lazy else node.module
                if target in modules and package_of(target) not in {None, *lazy_exceptions} and target != module:
                    graph[module].add(target)
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one circle in order, [] where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_circle_of_files():
    graph = file_graph([path for path in source_files() if path.is_relative_to(SYSTEM)])
    assert circle(graph) == []


def test_circle_rule_sees_an_import_for_type_checking(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SYSTEM", tmp_path / "hunyuan_video")
    files = {name: tmp_path / "hunyuan_video" / "flow" / f"{name}.py" for name in ("a", "b")}
    files["a"].parent.mkdir(parents=True)
    files["a"].write_text("from hunyuan_video.flow.b import one\n")
    files["b"].write_text("if TYPE_CHECKING:\n    from hunyuan_video.flow.a import other\n")
    assert set(circle(file_graph(list(files.values())))) == {"hunyuan_video.flow.a", "hunyuan_video.flow.b"}


def test_retired_modules_do_not_come_back():
    modules = {module_of(path).removeprefix("hunyuan_video.") for path in source_files() if path.is_relative_to(SYSTEM)}
    assert modules & RETIRED == set()


def test_contributing_names_files_that_are_there():
    """The table of concepts: every file and folder in it, below the package or the root."""
    rows = re.findall(r"^\|([^|]+)\|([^|]+)\|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)[2:]
    named = {name for _, places in rows for name in re.findall(r"`([\w/.]+)`", places) if "/" in name}
    assert len(named) > 15
    assert [name for name in named if not (SYSTEM / name).exists() and not (ROOT / name).exists()] == []


# Rooms that handle pixels, latents and tokens, and the quotients in them that are of something else.
GRID_USERS = ("data", "planning", "sampling", "evaluation", "training", "cli")
NOT_OF_THE_GRID = {"self.discriminator_width % 4"}


def fixed_compressions(tree: ast.AST) -> list[str]:
    """Quotients and remainders by 4, 8 or 16: what only a VAE's compression and a transformer's patch may say."""
    operations = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    divided = [node for node in operations if isinstance(node.op, ast.FloorDiv | ast.Mod)]
    by = [ast.unparse(node) for node in divided if getattr(node.right, "value", None) in (4, 8, 16)]
    return sorted(text for text in by if text not in NOT_OF_THE_GRID)


def test_compression_is_divided_by_in_the_grid_alone():
    users = [path for path in source_files() if path.is_relative_to(SYSTEM)]
    users = [path for path in users if path.relative_to(SYSTEM).parts[0] in GRID_USERS]
    result = {str(path.relative_to(ROOT)): fixed_compressions(ast.parse(path.read_text())) for path in users}
    assert users and {path: texts for path, texts in result.items() if texts} == {}


def test_compression_rule_sees_literals():
    code = "rows = height // 8\nif frames % 4 != 1 or size % 16: pass\nsafe = a // b + c % 3"
    assert fixed_compressions(ast.parse(code)) == ["frames % 4", "height // 8", "size % 16"]


def test_the_root_holds_what_belongs_there():
    assert {path.name for path in tracked("*") if path.parent == ROOT} - ROOT_FILES == set()


def test_models_and_ops_know_nothing_of_files():
    wrong = []
    for path in source_files():
        if path.is_relative_to(SYSTEM) and path.relative_to(SYSTEM).parts[0] not in ("models", "flow"):
            continue
        used = {module.split(".")[0] for _, module in imports(ast.parse(path.read_text()))}
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in used & FILE_LIBRARIES]
    assert wrong == []


def test_files_are_short():
    lengths = {path: len(path.read_text().splitlines()) for path in tracked("*.py", *C_SOURCES)}
    assert lengths
    assert {str(path.relative_to(ROOT)): lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_kernels_know_neither_torch_nor_python():
    banned = re.compile(r'#\s*include\s*[<"](torch|ATen|c10|pybind11|Python\.h|nanobind)')
    files = [path for path in tracked(*C_SOURCES) if path.is_relative_to(ROOT / "csrc")]
    assert files
    wrong = [str(path.relative_to(ROOT)) for path in files if banned.search(path.read_text())]
    assert [path for path in wrong if not path.startswith("csrc/bindings/")] == []


def included(path: Path) -> list[str]:
    return re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)


def forbidden_includes(csrc: Path, path: Path) -> list[str]:
    """Includes that point up or sideways: `common` knows no family of ops, no family knows another."""
    room = path.relative_to(csrc).parts[0]
    if room in ("include", "bindings"):
        return []
    allowed = {"common"} if room == "common" else {"common", room}
    wrong = []
    for name in included(path):
        target, _, rest = name.partition("/")
        public = target == "hunyuan" and (rest == "types.h" or rest == f"{room}.h")
        if not public and target not in allowed:
            wrong.append(f"{path.relative_to(csrc)} includes {name}")
    return wrong


def test_includes_of_kernels_point_down():
    csrc = ROOT / "csrc"
    files = [path for path in tracked(*C_SOURCES) if path.is_relative_to(csrc)]
    assert [wrong for path in files for wrong in forbidden_includes(csrc, path)] == []


def test_include_rule_sees_an_arrow_up(tmp_path):
    texts = {
        "common/a.h": '#include "common/b.h"\n#include "hunyuan/types.h"\n#include "norm/norm.h"\n#include <vector>\n',
        "norm/a.cpp": '#include "norm/norm.h"\n#include "hunyuan/norm.h"\n#include "hunyuan/linear.h"\n',
        "bindings/a.cpp": '#include "hunyuan_ext.h"\n',
    }
    wrong = []
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(text)
        wrong += forbidden_includes(tmp_path, path)
    assert wrong == ["common/a.h includes norm/norm.h", "norm/a.cpp includes hunyuan/linear.h"]


def test_pickles_are_loaded_as_data_only():
    wrong = []
    for path in tracked("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and unsafe_load(node):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node.func)}")
    assert wrong == []


@pytest.mark.parametrize(
    ("code", "unsafe"),
    [
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=False)", True),
        ("torch.load(path, weights_only=True)", False),
        ("pickle.load(file)", True),
        ("pickle.loads(data)", True),
        ("pickle.Unpickler(file)", True),
        ("np.load(path, allow_pickle=True)", True),
        ("np.load(path)", False),
        ("json.load(file)", False),
    ],
)
def test_pickle_rule(code, unsafe):
    assert unsafe_load(ast.parse(code, mode="eval").body) is unsafe


def unsafe_load(call: ast.Call) -> bool:
    """True if a call may run code that a file holds."""
    keywords = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    name = ast.unparse(call.func)
    if name == "torch.load":
        return keywords.get("weights_only") is not True
    if name in ("pickle.load", "pickle.loads", "pickle.Unpickler"):
        return True
    return name in ("np.load", "numpy.load") and keywords.get("allow_pickle", False) is not False


def test_no_machine_paths_or_package_indexes():
    """The tree works anywhere: no folder of someone's machine, no address of a package index."""
    path_pattern = re.compile(r"(?<![\w.])/(work|home/\w+|root|Users/\w+)/")
    index_pattern = re.compile(r"https?://\S*(pypi|pythonhosted|npmjs|debian|whl/)|--(extra-)?index-url|--find-links")
    texts = ("*.py", "*.md", "*.toml", "*.yaml", "*.txt", "*.ini", "*.cfg", "*.json", *C_SOURCES)
    wrong = []
    for path in tracked(*texts, "Makefile", "run"):
        if path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if path_pattern.search(line) or index_pattern.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number} {line.strip()[:80]}")
    assert wrong == []


def test_no_unfinished_code():
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    wrong = []
    for path in tracked("*.py", *C_SOURCES, "Makefile"):
        if path == Path(__file__).resolve():
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{number}"
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if words.search(line)
        ]
    assert wrong == []


def test_every_cpu_kernel_has_a_sanitizer_case():
    files = (ROOT / "tests" / "cpp" / "kernels").glob("*.cpp")
    cases = set(re.findall(r"^CASE\((\w+)\)", "".join(path.read_text() for path in files), re.MULTILINE))
    kernels = {name for name, kernel in KERNELS.items() if "cpu" in kernel.dtypes}
    missing = kernels - cases
    assert not missing, f"add a CASE for each of {sorted(missing)} in tests/cpp/kernels"


def test_page_for_new_ops_lists_every_file_of_one():
    """docs/add_an_op.md: the files that name the template op are those of its table, and they are few."""
    page = ROOT / "docs" / "add_an_op.md"
    rows = re.findall(r"^\|([^|]+)\|([^|]+)\|([^|]+)\|$", page.read_text(), re.MULTILINE)[2:]
    listed = {name for _, template, _ in rows for name in re.findall(r"`([\w/]+\.\w+)`", template)}
    files = tracked("*.py", "*.md", "*.cmake", "CMakeLists.txt", *C_SOURCES)
    overrun_probe = ROOT / "tests" / "cpp" / "kernels" / "main.cpp"
    naming = {path for path in files if "template_scale" in path.read_text()} - {page, overrun_probe}
    assert listed == {str(path.relative_to(ROOT)) for path in naming if path != Path(__file__).resolve()}
    assert len(rows) <= 13

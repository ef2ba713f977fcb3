"""Who imports whom: the core itself alone, capabilities those below them; modules are named like none elsewhere."""

import ast
from pathlib import Path

import pytest
import transformers

import transformers_fastvlm

PACKAGE = Path(transformers_fastvlm.__file__).parent
OUTSIDE_THE_CORE = {"__init__", "__main__", "auto", "cli", "extras"}
CORE = {path.stem for path in PACKAGE.glob("*.py")} - OUTSIDE_THE_CORE
FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
# What each may import besides the core, `extras` and `programs`.
_LOWER = {"inference", "quantization", "training"}
BELOW = {
    "programs": set(),
    "quantization": set(),
    "inference": {"quantization"},
    "training": {"inference", "quantization"},
    "asking": {"inference", "quantization"},
    "benchmark": _LOWER,
    "evaluation": _LOWER,
    "export": _LOWER,
    "scripts": {*_LOWER, "evaluation"},
    "serving": _LOWER,
    "publishing": {*_LOWER, "benchmark", "evaluation", "export"},  # whose results a repository has
}


def package_imports(path: Path) -> set[str]:
    """Modules and folders of the package that a file imports, wherever in it; those beside it in a folder left out."""
    depth = len(path.relative_to(PACKAGE).parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.partition(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transformers_fastvlm."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("name", sorted(CORE))
def test_the_core_imports_itself_alone(name):
    assert package_imports(PACKAGE / f"{name}.py") <= CORE


@pytest.mark.parametrize("folder", FOLDERS)
def test_capabilities_import_only_what_is_below_them(folder):
    public = set(transformers_fastvlm.__all__)
    allowed = CORE | {"auto", "extras", "programs", folder, *BELOW[folder]} | public
    for path in (PACKAGE / folder).rglob("*.py"):
        assert package_imports(path) <= allowed, path


def test_no_circle_within_the_core():
    waiting = {name: package_imports(PACKAGE / f"{name}.py") for name in CORE}
    while waiting:
        ready = {name for name, needs in waiting.items() if not needs & waiting.keys()}
        assert ready, f"{sorted(waiting)} import each other"
        waiting = {name: needs for name, needs in waiting.items() if name not in ready}


def test_no_module_has_the_name_of_one_of_transformers():
    theirs = {path.stem for path in Path(transformers.__file__).parent.glob("*.py")}
    theirs |= {path.stem for path in (Path(transformers.__file__).parent / "utils").glob("*.py")}
    assert not CORE & theirs


def test_foreign_formats_are_known_to_one_module():
    for name in CORE - {"checkpoint_formats"}:
        tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
        assert not {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        } & {"llava_qwen2", "fast_vlm", "<image>", "image_aspect_ratio", "mm_projector_type"}, name

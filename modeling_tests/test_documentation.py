# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What documentation is made of is true: pictures are of this code, tables have an origin, links lead somewhere."""

import json
import re
import sys
from pathlib import Path

import pytest
from transformers import AutoProcessor

import transformers_fastvlm
from transformers_fastvlm import AutoModelForVision2Seq

ROOT = Path(__file__).parent.parent
TINY_READER = ROOT / "checkpoints" / "tiny-reader"
PACKAGE = ROOT / "src" / "transformers_fastvlm"
sys.path.insert(0, str(ROOT / "docs" / "generators"))

import pictures

FIGURES = sorted(ROOT.glob("docs/figures/*.json"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


def calls_of(action) -> list[str]:
    """Qualified names of the package's functions and the decoder's that an action calls, each once, in order."""
    seen: dict[str, None] = {}
    folder = str(Path(transformers_fastvlm.__file__).parent)

    def note(frame, event, argument):
        if event == "call":
            code = frame.f_code
            if code.co_filename.startswith(folder) or "/models/qwen2/" in code.co_filename:
                owner = frame.f_locals.get("self")
                seen.setdefault(code.co_name if owner is None else f"{owner_of(owner, code)}.{code.co_name}")

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return list(seen)


def owner_of(instance, code) -> str:
    """The class that defines the function: `co_qualname` is of Python 3.11 on."""
    for cls in type(instance).__mro__:
        found = vars(cls).get(code.co_name)
        function = getattr(found, "__wrapped__", found)
        if getattr(function, "__code__", None) is code:
            return cls.__name__
    return type(instance).__name__


def test_a_call_goes_the_way_that_the_picture_shows():
    model, processor = AutoModelForVision2Seq.from_pretrained(TINY_READER), AutoProcessor.from_pretrained(TINY_READER)
    image = {"type": "image", "image": str(TINY_READER / "images" / "cat.jpg")}
    messages = [{"role": "user", "content": [image, {"type": "text", "text": "What does it say?"}]}]

    def answer():
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        model.generate(**inputs, max_new_tokens=2, do_sample=False)

    called = calls_of(answer)
    shown = [step.function for step in pictures.CALL]
    assert [name for name in called if name in shown] == shown


def test_the_picture_names_files_of_the_package():
    files = [pictures.defining_file(PACKAGE, step.function) for step in pictures.CALL]
    assert files.count("transformers") == 1  # the decoder
    for name, picture in pictures.PICTURES.items():
        assert picture(PACKAGE).startswith("| file |" if name == "index" else "<div><svg"), name


def test_imports_go_downwards():
    rooms = pictures.room_imports(PACKAGE)
    assert not rooms["core"]
    rows = pictures.layers(rooms)
    assert "cli" in rows[0]
    place = {name: index for index, row in enumerate(rows) for name in row}
    assert all(place[name] < place[other] for name, found in rooms.items() for other in found)
    with pytest.raises(ValueError, match="circle"):
        pictures.layers({"a": {"b"}, "b": {"a"}})


def test_only_what_a_chain_implies_is_left_out_of_a_picture():
    imports = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert pictures.without_shortcuts(imports) == {"a": {"b"}, "b": {"c"}, "c": set()}
    assert pictures.layers(imports) == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_a_table_has_an_origin(path):
    table = json.loads(path.read_text(encoding="utf-8"))
    assert table["command"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", table["date"])
    assert {"cpu", "threads", "versions"} <= set(table["machine"])
    assert all(len(row) == len(table["columns"]) for row in table["rows"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_tables_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http", "api/")):
            assert (page.parent / target).exists(), target
    for target in re.findall(r"^\{\{ table (\S+) \}\}$", text, re.MULTILINE):
        assert (ROOT / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_figures_of_a_measurement_are_kept_by_hand(page):
    """A row of a table that has more than one cell with a unit or an error belongs into JSON."""
    measured = re.compile(r"\d(?:\.\d+)? ?(?:%|ms|s|MiB|GB|×)\s*$|± ?\d")
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            assert sum(bool(measured.search(cell)) for cell in cells) < 2, line


def test_yaml_files_can_be_read():
    yaml = pytest.importorskip("yaml")
    workflows = {path.stem: yaml.safe_load(path.read_text()) for path in ROOT.glob(".github/workflows/*.yml")}
    assert set(workflows) >= {"tests", "docs", "release"}
    for workflow in workflows.values():
        assert workflow["permissions"] == {"contents": "read"}
        assert all(job["steps"] and job["timeout-minutes"] for job in workflow["jobs"].values())
    pythons = workflows["tests"]["jobs"]["pythons"]["strategy"]["matrix"]["python"]
    assert pythons == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    steps = [step for each in workflows.values() for job in each["jobs"].values() for step in job["steps"]]
    for line in [line for step in steps for line in step.get("run", "").splitlines()]:
        assert not line.startswith("make ") or line.split()[1] in targets, line
    for path in ROOT.glob(".github/ISSUE_TEMPLATE/*.yml"):
        form = yaml.safe_load(path.read_text())
        assert path.stem == "config" or {"name", "description", "body"} <= set(form)
    hooks = [
        hook
        for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
        for hook in repo["hooks"]
    ]
    assert [hook["entry"].split()[0] for hook in hooks] == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/mypy"]


def test_the_citation_is_of_this_version():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)

# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the site is made of besides its pages: tables from committed JSON, pictures of the code, pages of the API.

A line `{{ table FILE }}` of a page becomes the table of that file, and `{{ picture NAME }}` one of `pictures.py`.
Every package under `src/transformers_fastvlm` with an `__all__` gets a page of its docstrings.
"""

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "transformers_fastvlm"
sys.path.insert(0, str(Path(__file__).parent))

import figure_tables
import pictures

_DIRECTIVE = re.compile(r"^\{\{ (table|picture) (\S+) \}\}$", re.MULTILINE)
# How docstrings in transformers' style refer to a class: [`FastVLMModel`].
_REFERENCE = re.compile(r"\[<code>(~?[\w.]+)</code>\](?![\[(])")
# How they mark types: (`int`, *optional*), which mkdocstrings shows as they are.
_MARKED_TYPE = re.compile(r"<code>([^<]*[`*][^<]*)</code>")


def public_packages() -> dict[str, str]:
    """Names of the packages with public names, by the file name of their page; the package itself comes first."""
    inits = [PACKAGE / "__init__.py", *sorted(PACKAGE.glob("*/__init__.py"))]
    names = {}
    for path in inits:
        if "\n__all__ = " in path.read_text(encoding="utf-8"):
            name = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
            names[f"api/{'index' if path.parent == PACKAGE else path.parent.name}.md"] = name
    return names


def api_page(package: str) -> str:
    return f"# {package}\n\n::: {package}\n"


def expand(markdown: str) -> str:
    """A page with its directives replaced.

    Raises:
        OSError: if there is no such file.
        KeyError: if there is no such picture, or something is missing in a table's file.
    """
    make: dict[str, Callable[[str], str]] = {
        "table": lambda name: figure_tables.markdown(ROOT / name),
        "picture": lambda name: pictures.PICTURES[name](PACKAGE),
    }
    return _DIRECTIVE.sub(lambda match: make[match[1]](match[2]), markdown)


def on_config(config):
    for entry in config.nav:
        if "API" in entry:
            entry["API"] = [
                {name.removeprefix("transformers_fastvlm."): page} for page, name in public_packages().items()
            ]
    return config


def on_files(files, config):
    from mkdocs.structure.files import File

    for page, package in public_packages().items():
        files.append(File.generated(config, page, content=api_page(package)))
    return files


def on_page_markdown(markdown, page, config, files):
    return expand(markdown)


def on_page_content(html, page, config, files):
    names = {path.rsplit(".", 1)[-1]: path for path in _public_names()}

    def link(match: re.Match) -> str:
        name = match[1].rsplit(".", 1)[-1] if match[1].startswith("~") else match[1]
        code = f"<code>{name}</code>"
        head, _, rest = name.partition(".")
        if head not in names:
            return code
        identifier = names[head] + (f".{rest}" if rest else "")
        return f'<autoref identifier="{identifier}" optional>{code}</autoref>'

    if page.file.src_uri in public_packages():
        html = _MARKED_TYPE.sub(lambda match: re.sub("[`*]", "", match[0]), html)
    return _REFERENCE.sub(link, html)


def _public_names() -> list[str]:
    found = []
    for package in public_packages().values():
        tree = ast.parse((ROOT / "src" / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
                found += [f"{package}.{name}" for name in ast.literal_eval(node.value)]
    return found

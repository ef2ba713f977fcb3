# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures and a list made from the package's source: the way of a call, which file imports which, what each has."""

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

_STYLE = 'fill="currentColor" stroke="none"'
_CODE = 'font-family="monospace" font-size="12.5"'
_BOX = 'rx="4" fill="#7986cb" fill-opacity="0.18" stroke="currentColor" stroke-opacity="0.5"'
_ARROW = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>'
)


@dataclass(frozen=True)
class Step:
    """
    One step of `generate`.

    Args:
        function: qualified name of a function of the package, or of the decoder in transformers.
        does: what becomes of what.
        result: names and shapes.
    """

    function: str
    does: str
    result: str


# In the order in which a first answer calls them: a test runs one and compares.
CALL = (
    Step("FastVLMProcessor.apply_chat_template", "messages → prompt, one <image> per image", "text"),
    Step("read_image", "files, URLs, arrays → RGB", "PIL images"),
    Step("FastVLMImageProcessorMixin.preprocess", "pad to a square, resize, 0..1", "pixel_values (crops, 3, R, R)"),
    Step(
        "FastVLMProcessor.replace_image_token",
        "<image> → one placeholder per visual token",
        "input_ids (batch, tokens)",
    ),
    Step("FastVLMGenerationMixin._prepare_model_inputs", "generate begins: each image is encoded once", ""),
    Step("FastVLMModel.get_image_features", "encoder, then projector", "FastVLMImageFeatures"),
    Step("FastViTHDModel.forward", "stem, 5 stages, 3×3 convolution", "(crops, 3072, R/64, R/64)"),
    Step("FastVLMMultiModalProjector.forward", "flatten; Linear, GELU, Linear", "(crops, (R/64)², hidden)"),
    Step("FastVLMForConditionalGeneration.forward", "prefill: the prompt's embeddings", "(batch, tokens, hidden)"),
    Step(
        "FastVLMModel.insert_image_features", "visual tokens into the placeholders' places", "(batch, tokens, hidden)"
    ),
    Step("Qwen2Model.forward", "the decoder, any of transformers", "(batch, tokens, hidden), cache"),
    Step("DecoderHead.__call__", "the last position's scores", "logits (batch, 1, vocabulary)"),
)
# What every further token goes through.
LOOP_FROM = "FastVLMForConditionalGeneration.forward"


def defining_file(package: Path, function: str) -> str:
    """The flat file of the package that defines a function, or "transformers"."""
    head, _, method = function.partition(".")
    for path in sorted(package.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if getattr(node, "name", None) != head:
                continue
            names = {getattr(each, "name", None) for each in getattr(node, "body", [])}
            if not method or method in names:
                return path.name
    return "transformers"


def draw_call(package: Path) -> str:
    """The way of a call through the files, from messages to the next token, as SVG."""
    left, width, height = 276, 560, 46
    right = left + width
    tops = [10 + index * height for index in range(len(CALL))]
    lines = [_ARROW]
    for top, step in zip(tops, CALL):
        lines.append(f'<rect x="{left}" y="{top}" width="{width}" height="36" {_BOX}/>')
        lines.append(_text(left - 12, top + 22, defining_file(package, step.function), f'text-anchor="end" {_CODE}'))
        lines.append(_text(left + 10, top + 15, step.function, f'font-weight="bold" {_CODE}'))
        lines.append(_text(left + 10, top + 30, step.does, 'font-size="12"'))
        lines.append(_text(right - 10, top + 30, step.result, f'text-anchor="end" {_CODE}'))
    lines += [_line(left + 40, top - 10, left + 40, top - 1) for top in tops[1:]]
    first = tops[[step.function for step in CALL].index(LOOP_FROM)] + 18
    last = tops[-1] + 18
    lines.append(
        f'<path d="M{right} {last} h28 V{first} h-27" fill="none" stroke="currentColor" marker-end="url(#tip)"/>'
    )
    lines.append(_text(right + 34, (first + last) / 2 - 4, "each further", 'font-size="12"'))
    lines.append(_text(right + 34, (first + last) / 2 + 12, "token", 'font-size="12"'))
    return _svg(right + 110, 10 + height * len(CALL), lines, "The way of a call through the files")


def module_imports(package: Path) -> dict[str, set[str]]:
    """Which flat files of the package import which, by relative imports, wherever in the file."""
    names = {path.stem for path in package.glob("*.py")}
    return {name: _relative_imports(package / f"{name}.py", 1) & (names - {name}) for name in names}


def core_imports(package: Path) -> dict[str, set[str]]:
    """The imports among the core's files: all flat ones but those above it."""
    others = {"__init__", "__main__", "cli", "extras"}
    return {name: found - others for name, found in module_imports(package).items() if name not in others}


def room_imports(package: Path) -> dict[str, set[str]]:
    """Which parts of the package import which: its folders, the command, and the flat files as `core`."""
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    imports: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        room = _room(parts[0].removesuffix(".py"), rooms)
        found = {_room(name, rooms) for name in _relative_imports(path, len(parts))}
        imports[room] = imports.get(room, set()) | found - {room}
    return imports


def _room(name: str, rooms: Iterable[str]) -> str:
    if name in rooms:
        return name
    return "cli" if name in ("cli", "__main__") else "core"


def _relative_imports(path: Path, depth: int) -> set[str]:
    """First names of what a file imports from the package; `depth` is how many dots lead there."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            modules = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {module.split(".")[0] for module in modules}
    return found


def layers(imports: dict[str, set[str]]) -> list[list[str]]:
    """Names in rows: whatever imports something stands above it; the first row is imported by nothing.

    Raises:
        ValueError: if imports go in a circle.
    """
    row_of: dict[str, int] = {}

    def measure(name: str, path: tuple[str, ...]) -> int:
        if name in path:
            raise ValueError(f"Imports go in a circle: {' imports '.join([name, *path])}.")
        if name not in row_of:
            importers = [other for other, found in imports.items() if name in found]
            row_of[name] = 1 + max((measure(other, (name, *path)) for other in importers), default=-1)
        return row_of[name]

    rows: dict[int, list[str]] = {}
    for name in sorted(imports):
        rows.setdefault(measure(name, ()), []).append(name)
    return [rows[row] for row in sorted(rows)]


def without_shortcuts(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports that no chain of others implies."""

    def reached(name: str) -> set[str]:
        return imports[name].union(*(reached(other) for other in imports[name]))

    return {
        name: {b for b in found if not any(b in reached(c) for c in found - {b})} for name, found in imports.items()
    }


def draw_imports(imports: dict[str, set[str]], title: str) -> str:
    """Names in rows, with a line from each to what it imports, as SVG; what chains imply is left out."""
    rows = layers(imports)
    shown = without_shortcuts(imports)
    width = max(sum(_width(name) + 16 for name in row) for row in rows) + 20
    places: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        parents = {name: [places[other][0] for other in places if name in shown[other]] or [width / 2] for name in row}
        row = sorted(row, key=lambda name: sum(parents[name]) / len(parents[name]))
        gap = (width - sum(map(_width, row))) / (len(row) + 1)
        x = gap
        for name in row:
            places[name] = (x + _width(name) / 2, 24 + 74 * level)
            x += _width(name) + gap
    lines = [_ARROW]
    for name, found in shown.items():
        for other in sorted(found):
            (x1, y1), (x2, y2) = places[name], places[other]
            lines.append(_line(x1, y1 + 14, x2, y2 - 15, 0.55))
    for name, (x, y) in places.items():
        w = _width(name)
        lines.append(f'<rect x="{x - w / 2:.1f}" y="{y - 14}" width="{w}" height="28" {_BOX}/>')
        lines.append(_text(x, y + 5, name, f'text-anchor="middle" {_CODE}'))
    return _svg(width, 74 * len(rows), lines, title)


def _width(name: str) -> int:
    return 8 * len(name) + 20


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {_STYLE} {style}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float = 1) -> str:
    return (
        f'<path d="M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}" stroke="currentColor" stroke-opacity="{opacity}" '
        'fill="none" marker-end="url(#tip)"/>'
    )


def _svg(width: float, height: float, lines: list[str], title: str) -> str:
    """In a block, which Markdown leaves as it is."""
    return (
        f'<div><svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'style="max-width: {width:.0f}px; width: 100%">{"".join(lines)}</svg></div>'
    )


def list_files(package: Path) -> str:
    """A Markdown table of the core's files, each with the first sentence of its docstring."""
    lines = ["| file | has |", "|---|---|"]
    for name in sorted(core_imports(package)):
        text = ast.get_docstring(ast.parse((package / f"{name}.py").read_text(encoding="utf-8"))) or ""
        first = " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")
        lines.append(f"| `{name}.py` | {first} |")
    return "\n".join(lines)


PICTURES: dict[str, Callable[[Path], str]] = {
    "call": draw_call,
    "files": lambda package: draw_imports(core_imports(package), "Which files of the core import which"),
    "index": list_files,
    "rooms": lambda package: draw_imports(room_imports(package), "Which parts of the package import which"),
}

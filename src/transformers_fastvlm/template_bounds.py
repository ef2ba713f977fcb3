# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Chat templates are programs that come with checkpoints: whether one ends soon, and with a prompt of sane length.

A template is rendered once on trial, in an environment in which whatever makes text or lists is measured before it is
made, and in a thread that is ended when its time is over. What passes may be rendered as it is.
"""

import ctypes
import functools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers.utils.chat_template_utils import _compile_jinja_template, get_json_schema

SECONDS = 5.0
LONGEST = 2**24  # characters of a value
MOST = 2**29  # of all values together
_ENTRY = 64  # characters that an entry of a list counts for, besides its own
_LARGEST_BITS = 4096  # of a number that is computed
_WIDTH_OF_MANY_DIGITS = re.compile(r"\d{6,}|\*|\{[^{}]*\{")


class _OutOfBounds(Exception):
    """A template would make a value that is too large."""


class _TimeIsOver(BaseException):
    """Raised in the thread of a trial from outside."""


def check_template(
    template: str, conversations: Sequence[Any], tools: Sequence[Any] | None = None, **variables: Any
) -> None:
    """
    Raise a `ValueError` if a chat template takes more than 5 seconds, or makes a text of more than 2²⁴ characters.

    Errors that a template raises otherwise are left to its real rendering.

    Args:
        template (`str`): Jinja template.
        conversations: lists of messages.
        tools (*optional*): JSON schemas or functions.
        **variables: what the template is given besides.
    """
    outcome: list[Exception] = []
    variables = _plain(variables)
    if tools is not None:
        variables["tools"] = _plain([tool if isinstance(tool, Mapping) else get_json_schema(tool) for tool in tools])

    def trial() -> None:
        try:
            compiled, bounds = _compile(template)
            for messages in conversations:
                bounds.used = 0
                compiled.render(messages=_plain(messages), **variables)
        except Exception as error:
            outcome.append(error)
        except _TimeIsOver:
            pass

    thread = threading.Thread(target=trial, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_TimeIsOver))
        raise ValueError(f"The chat template was refused: it did not end within {SECONDS:g} seconds.")
    if outcome and isinstance(outcome[0], _OutOfBounds):
        raise ValueError(f"The chat template was refused: it {outcome[0]}.")


def _plain(value: Any) -> Any:
    """The value as JSON has it; other objects, such as images, by the names of their types."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"


class _Bounds(threading.local):
    """Refuses values before they are made, by what they are made from; each thread counts for itself."""

    def __init__(self):
        self.used = 0

    def allow(self, size: int) -> None:
        self.used += size
        if size > LONGEST or self.used > MOST:
            raise _OutOfBounds(f"makes texts or lists of more than {LONGEST:,} characters or {MOST:,} in all")

    def measured(self, value: Any) -> Any:
        self.allow(_measure(value))
        return value

    def joined(self, join: Callable[[list], Any], parts: Any) -> Any:
        kept, size = [], 0
        for part in parts:
            kept.append(part)
            size += _measure(part)
            if size > LONGEST:
                break
        self.allow(size)
        return join(kept)

    def before_operator(self, operator: str, left: Any, right: Any) -> None:
        numbers = [value for value in (left, right) if isinstance(value, int)]
        if len(numbers) == 2:
            bits = left.bit_length() * (abs(right) if operator == "**" else 1) + right.bit_length()
            if operator != "%" and bits > _LARGEST_BITS:
                raise _OutOfBounds("computes a number of more than a thousand digits")
        elif operator == "+" and not numbers:
            self.allow(_measure(left) + _measure(right))
        elif operator == "*" and numbers:
            self.allow(_measure(left if numbers[0] is right else right) * max(numbers[0], 0))
        elif operator == "%" and isinstance(left, str):
            self.allow(_formatted(left, right))

    def before_call(self, name: str, text: Any, args: Sequence[Any]) -> None:
        """Before a method of a text, or a filter, that may make a text longer than what it is given."""
        numbers = [abs(value) for value in args if isinstance(value, int)]
        largest = max(numbers, default=0)
        if name in ("ljust", "rjust", "center", "zfill", "batch", "slice"):
            self.allow(largest)
        elif name in ("expandtabs", "indent"):
            width = max([largest, *(len(value) for value in args if isinstance(value, str))])
            self.allow(_measure(text) + (str(text).count("\t" if name == "expandtabs" else "\n") + 1) * width)
        elif name == "replace" and len(args) > 1:
            self.allow(_measure(text) + str(text).count(str(args[0])) * _measure(args[1]))
        elif name == "join":
            separator, parts = (text, args[:1]) if isinstance(text, str) and args else ("", [text, *args])
            count = len(parts[0]) if parts and hasattr(parts[0], "__len__") else 1
            longest = max([len(str(separator)), *(len(value) for value in args[:1] if isinstance(value, str))])
            self.allow(_measure(parts) + count * longest)
        elif name in ("format", "format_map"):
            self.allow(_formatted(str(text), args))
        elif name in ("translate", "wordwrap"):
            self.allow(_measure(text) * _measure(args))
        elif name in ("tojson", "pprint"):
            self.allow(_measure(text) * (1 + largest))
        elif name == "generate_lorem_ipsum":
            self.allow(LONGEST + 1)


def _measure(value: Any) -> int:
    """How many characters a value has as text, about; entries that a list has twice count twice."""
    if isinstance(value, str):
        return len(value)
    size, waiting = 0, [value]
    while waiting and size <= LONGEST:
        value = waiting.pop()
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, int):
            size += value.bit_length() // 3
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value
        size += _ENTRY
    return size


def _formatted(text: str, args: Any) -> int:
    if _WIDTH_OF_MANY_DIGITS.search(text):
        return LONGEST + 1  # fields of any width
    return len(text) * (1 + _measure(args))


@functools.lru_cache(maxsize=32)
def _compile(template: str) -> tuple[Any, _Bounds]:
    """The template in an environment as transformers has it, with bounds."""
    bounds = _Bounds()
    environment = _compile_jinja_template("").environment.overlay()
    environment.intercepted_binops = frozenset(["+", "*", "**", "%"])
    environment.finalize = bounds.measured
    concat, call, call_binop = environment.concat, environment.call, environment.call_binop
    environment.concat = functools.partial(bounds.joined, concat)
    environment.filters = {name: _bounded_filter(bounds, name, of) for name, of in environment.filters.items()}

    def bounded_call(context: Any, function: Any, *args, **kwargs) -> Any:
        of = getattr(getattr(function, "__wrapped__", function), "__self__", None)  # jinja wraps `str.format`
        args = tuple(list(value) if hasattr(value, "__next__") else value for value in args)
        bounds.before_call(getattr(function, "__name__", ""), of, [*args, *kwargs.values()])
        return bounds.measured(call(context, function, *args, **kwargs))

    def bounded_operator(context: Any, operator: str, left: Any, right: Any) -> Any:
        bounds.before_operator(operator, left, right)
        return call_binop(context, operator, left, right)

    environment.call, environment.call_binop = bounded_call, bounded_operator
    _check_constants(environment.parse(template), environment, bounds)
    compiled = environment.from_string(template)
    # What `~` is compiled to.
    names = compiled.root_render_func.__globals__
    for name in ("str_join", "markup_join"):
        names[name] = functools.partial(bounds.joined, names[name])
    return compiled, bounds


def _bounded_filter(bounds: _Bounds, name: str, function: Callable) -> Callable:
    skipped = int(hasattr(function, "jinja_pass_arg"))  # the environment or context

    @functools.wraps(function)
    def bounded(*args, **kwargs) -> Any:
        args = tuple(list(value) if hasattr(value, "__next__") else value for value in args)
        value = args[skipped] if len(args) > skipped else None
        bounds.before_call(name, value, [*args[skipped + 1 :], *kwargs.values()])
        return bounds.measured(function(*args, **kwargs))

    return bounded


def _check_constants(tree: Any, environment: Any, bounds: _Bounds) -> None:
    """Refuse constant expressions out of bounds, wherever they stand: transformers computes them when it compiles."""

    def constant(node: Any) -> Any:
        kind = type(node).__name__
        if kind == "Const":
            return node.value
        if kind in ("List", "Tuple"):
            return [constant(item) for item in node.items]
        if kind == "Neg":
            return -constant(node.node)
        if kind == "Concat":
            return bounds.joined(lambda parts: "".join(map(str, parts)), [constant(item) for item in node.nodes])
        if kind == "Filter" and node.node is not None and not node.kwargs:
            function = environment.filters[node.name]
            if not hasattr(function, "jinja_pass_arg"):
                return function(constant(node.node), *map(constant, node.args))
        if kind in ("Add", "Mul", "Pow", "Mod", "Sub"):
            return environment.call_binop(None, node.operator, constant(node.left), constant(node.right))
        raise LookupError(kind)

    for node in tree.find_all(object):
        try:
            constant(node)
        except _OutOfBounds:
            raise
        except Exception:  # no constant, or one that is an error when it is rendered
            continue

# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""How properties are run, and what counts as refusing bad input clearly.

A property is a function of drawn values that raises where it does not hold. `fuzzed` makes two tests of it: a quick
one, whose examples never change, and a long one, marked `slow`. For that, environment variables give the number of
examples, `FASTVLM_FUZZ_EXAMPLES`, and a seed, `FASTVLM_FUZZ_SEED`.
"""

import contextlib
import linecache
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy
from jinja2 import TemplateError

import transformers_fastvlm

LONG_EXAMPLES = int(os.environ.get("FASTVLM_FUZZ_EXAMPLES", "400"))
LONG_SEED = int(os.environ.get("FASTVLM_FUZZ_SEED") or random.SystemRandom().randrange(2**32))
# Seconds and bytes that no example comes near of; without them a hang would be one of the whole suite.
DEADLINE = 20
MEMORY = 6 * 2**30

# What the package's docstrings declare, and how chat templates refuse.
KINDS = (ValueError, TypeError, OSError, FloatingPointError, TemplateError)
PACKAGE = str(Path(transformers_fastvlm.__file__).parent) + os.sep
# Configurations are validated field by field in there, and its messages name the field.
VALIDATION = os.sep.join(["huggingface_hub", "dataclasses.py"])


def fuzzed(
    quick: int, how: Sequence[str] = (), **strategies: SearchStrategy
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make quick and long tests of a property.

    Args:
        quick (`int`): examples of a quick test.
        how (`Sequence[str]`): ways to try it in, which it is given one by one as `how`; each is a test of its own.
        **strategies: one per other argument of the property.
    """
    ways = [(way, {"how": way}) for way in how] or [("", {})]
    long = pytest.mark.slow
    cases = [pytest.param(quick, True, fixed, id=f"quick {way}".strip()) for way, fixed in ways]
    share = max(1, LONG_EXAMPLES // len(ways))
    cases += [pytest.param(share, False, fixed, id=f"long {way}".strip(), marks=long) for way, fixed in ways]

    def decorate(check: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize(("examples", "is_quick", "fixed"), cases)
        def test(examples: int, is_quick: bool, fixed: dict[str, str]) -> None:
            def checked(**drawn: Any) -> None:
                check(**fixed, **drawn)

            profile = settings(
                max_examples=examples,
                derandomize=is_quick,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                # The quick tests stay quick where one fails, the more so if it took too long.
                phases=[Phase.generate] if is_quick else [Phase.generate, Phase.shrink],
                report_multiple_bugs=not is_quick,
            )
            run = profile(given(**strategies)(checked))
            if is_quick:
                run()
            else:
                print(f"FASTVLM_FUZZ_SEED={LONG_SEED}")
                seed(LONG_SEED)(run)()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


class Refused:
    """What `attempt` returns instead of a value where the call refused its input, clearly."""

    def __init__(self, error: BaseException):
        self.kind, self.message = type(error), str(error)

    def __repr__(self) -> str:
        return f"Refused({self.kind.__name__}: {self.message})"


class UnclearError(AssertionError):
    """A call failed somewhere inside, instead of refusing its input."""


class TookTooLong(AssertionError):
    """A call did not come back."""


def attempt(call: Callable[[], Any], *terms: str) -> Any:
    """What a call returns, or `Refused` if it raised one of the declared errors, on purpose and in the user's terms.

    On purpose means by a `raise` of this package's or of a configuration's validation. Where another library's does,
    its message must have one of `terms`, the names of options or files that the user gave, or list possible values.
    """
    try:
        with limits():
            return call()
    except (UnclearError, TookTooLong):
        raise
    except Exception as error:
        if reason := unclear(error, terms):
            raise UnclearError(f"{reason}: {type(error).__module__}.{type(error).__name__}: {error}") from error
        return Refused(error)


def unclear(error: Exception, terms: tuple[str, ...] = ()) -> str | None:
    """Why an error is none that tells a user what to change; `None` if it does."""
    frames = []
    traceback = error.__traceback__
    while traceback is not None:
        frames.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
        traceback = traceback.tb_next
    file, line = frames[-1]
    if file.endswith(VALIDATION):
        return None
    where = f"{file.rpartition('site-packages' + os.sep)[2]}:{line}"
    if not isinstance(error, KINDS):
        return f"an undeclared kind of error, from {where}"
    is_ours = file.startswith(PACKAGE)
    on_purpose = linecache.getline(file, line).strip().startswith("raise")
    names_it = any(term in str(error) for term in (*terms, "please select one of"))
    if on_purpose and (is_ours or names_it):
        return None
    return f"an error not raised on purpose, from {where}"


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Raise where the block takes longer than `DEADLINE` or `MEMORY` more of address space than it began with."""
    with _deadline(), _memory():
        yield


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        raise TookTooLong(f"still running after {DEADLINE} s, in {frame.f_code.co_filename}:{frame.f_lineno}")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(DEADLINE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

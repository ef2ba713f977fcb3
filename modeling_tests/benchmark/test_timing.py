"""Objects in processes of their own."""

import os

import pytest

from transformers_fastvlm.benchmark.timing import OwnProcess, in_fresh_process


class Counter:
    def __init__(self, start: int):
        if start < 0:
            raise ValueError(f"{start} is too small")
        self.value = start

    def add(self, number: int) -> tuple[int, int]:
        self.value += number
        return self.value, os.getpid()


def test_an_object_keeps_its_state_in_its_own_process():
    with OwnProcess(Counter, 5) as first, OwnProcess(Counter, 7) as second:
        (_, process), (value, again), (other, its) = first.call("add", 1), first.call("add", 2), second.call("add", 1)
        with pytest.raises(TypeError):
            first.call("add", "word")
    assert (value, other) == (8, 8)
    assert process == again
    assert len({process, its, os.getpid()}) == 3


def test_what_cannot_be_made_there_is_an_error_here():
    with pytest.raises(ValueError, match="-1 is too small"):
        OwnProcess(Counter, -1)


def test_a_function_in_a_fresh_process():
    assert in_fresh_process(os.getpid) != os.getpid()

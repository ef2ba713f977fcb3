"""Imports lmms-eval before the tests of it do, and leaves PIL as it was for all tests after them."""

from contextlib import suppress

from transformers_fastvlm.evaluation.images import pil_as_it_was

with pil_as_it_was(), suppress(ImportError):
    import lmms_eval.evaluator  # noqa: F401

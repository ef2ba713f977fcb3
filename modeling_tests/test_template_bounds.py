# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Chat templates that never end or make texts without end are refused; all others are left alone."""

import threading
import tracemalloc

import PIL.Image
import pytest

from helpers_tokenizer import qwen2_tokenizer
from transformers_fastvlm import template_bounds
from transformers_fastvlm.chat_templates import CHAT_TEMPLATE
from transformers_fastvlm.image_processing_pil_fastvlm import FastVLMImageProcessorPil
from transformers_fastvlm.processing_fastvlm import FastVLMProcessor

MESSAGES = [
    {
        "role": "user",
        "content": [{"type": "image", "image": PIL.Image.new("RGB", (9, 9))}, {"type": "text", "text": "a"}],
    },
    {"role": "assistant", "content": "b"},
]


@pytest.fixture(scope="module")
def processor() -> FastVLMProcessor:
    return FastVLMProcessor(FastVLMImageProcessorPil(size=64), qwen2_tokenizer())


ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "one list": "{% set r = range(99999) %}{% for i in r %}{% for j in r %}{% for k in r %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "recursion": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "generators": "{% for i in range(99999) %}{% set x = range(99999) | map('string') | list %}{% endfor %}",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_templates_without_end(processor, monkeypatch, kind):
    monkeypatch.setattr(template_bounds, "SECONDS", 0.3)
    before = threading.active_count()
    with pytest.raises(ValueError, match=r"chat template was refused: it did not end within 0\.3 seconds"):
        processor.apply_chat_template(MESSAGES, ENDLESS[kind])
    for thread in threading.enumerate():
        if "trial" in thread.name:
            thread.join(10)
    assert threading.active_count() <= before


LARGE = {
    "repeated": "{{ 'a' * 10**10 }}",
    "repeated, not constant": "{{ 'a' * (messages|length * 10**10) }}",
    "number first": "{{ 10**10 * 'a' }}",
    "list": "{{ ([0] * 10**10)|length }}",
    "never executed": "{% if false %}{{ 'a' * 10**10 }}{% endif %}",
    "filter never executed": "{% if false %}{{ ('a' * 2)|center(10**10) }}{% endif %}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "squares": "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "center": "{{ 'a'|center(messages|length * 10**10) }}",
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "zfill": "{{ 'a'.zfill(10**10) }}",
    "percent": "{{ '%9999999999d' % 1 }}",
    "percent by an argument": "{{ '%*d' % (10**10, 1) }}",
    "format": "{{ '{:>9999999999}'.format(1) }}",
    "format by an argument": "{{ '{:>{}}'.format(1, 10**10) }}",
    "format filter": "{{ '%9999999999d'|format(1) }}",
    "indent": "{{ 'a\\nb'|indent(10**10) }}",
    "tojson": "{{ [messages]|tojson(indent=10**10) }}",
    "expandtabs": "{{ '\\t'.expandtabs(10**9) }}",
    "replace": "{% set a = 'a' * 10**5 %}{{ a.replace('a', a) }}",
    "replace filter": "{% set a = 'a' * 10**5 %}{{ a|replace('a', a) }}",
    "join": "{% set a = 'a' * 10**5 %}{{ a.join(range(99999)|list) }}",
    "join filter": "{% set a = 'a' * 10**5 %}{{ range(99999)|join(a) }}",
    "lipsum": "{{ lipsum(n=10**6) }}",
    "doubled by ~": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubled by +": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubled list": "{% set n = namespace(x=[0]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubled block": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}"
    "{% set n.x = y %}{% endfor %}",
    "doubled macro": "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set n = namespace(x='ab') %}"
    "{% for i in range(60) %}{% set n.x = f(n.x) %}{% endfor %}",
    "nested": "{% set n = namespace(x=[]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "output": "{% set a = 'a' * 10**6 %}{% for i in range(99999) %}{{ a }}{% endfor %}",
    "kept": "{% set n = namespace(x=[]) %}{% for i in range(9999) %}{% set n.x = n.x + ['a' * 10**6 ~ i] %}"
    "{% endfor %}",
}


@pytest.mark.parametrize("kind", LARGE)
def test_templates_that_make_too_much(processor, kind, monkeypatch):
    monkeypatch.setattr(template_bounds, "SECONDS", 120)  # counting memory takes time
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="chat template was refused: it (makes texts|computes a number)"):
            processor.apply_chat_template(MESSAGES, LARGE[kind])
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


HARMLESS = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' ~ m.content|string|trim }}{% endfor %}",
    "modulo": "{% for m in messages %}{{ loop.index0 % 2 }}{{ '%s: %d' % (m.role, 7) }}{{ ' ' * 3 }}{% endfor %}",
    "methods": "{{ messages[1].content.replace('b', 'ccc').center(9).split('c')|join(', ') }}{{ 'x'.join(['a']) }}",
    "filters": "{{ messages[1]|tojson(indent=4)|indent(2) }}{{ [3, 1]|sort|join('-') }}{{ 'a'|replace('a', 'b') }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
    "numbers": "{{ 10**9 }}{{ 2 * 1700000000 }}{{ '{} {}'.format(1700000000, 'a') }}{{ 7.5 * 2 + 1 }}",
    "variables": "{{ eos_token }}{{ greeting|default('none') }}{{ namespace(a=10**9).a }}{{ range(3)|list }}",
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_other_templates_render_as_ever(processor, monkeypatch, kind):
    actual = processor.apply_chat_template(MESSAGES, HARMLESS[kind], greeting="hello")
    monkeypatch.setattr("transformers_fastvlm.processing_fastvlm.check_template", lambda *args, **kwargs: None)
    assert actual == processor.apply_chat_template(MESSAGES, HARMLESS[kind], greeting="hello") != ""


def test_errors_of_a_template_are_its_own(processor):
    for template, message in [
        ("{{ raise_exception('No system prompts.') }}", "No system prompts"),
        ("{% for %}", "Expected|expected"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
    ]:
        with pytest.raises(Exception, match=message):
            processor.apply_chat_template(MESSAGES, template)


def test_the_default_template_needs_no_trial(processor, monkeypatch):
    monkeypatch.setattr("transformers_fastvlm.processing_fastvlm.check_template", pytest.fail)
    assert processor.chat_template == CHAT_TEMPLATE and processor.apply_chat_template(MESSAGES)


def test_it_is_a_checkpoints_template_too(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(LARGE["repeated"])
    with pytest.raises(ValueError, match="was refused"):
        FastVLMProcessor.from_pretrained(tmp_path).apply_chat_template(MESSAGES, tokenize=True)

# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Which licences there are is the Hub's to say, and nothing waits for a Hub that is not there."""

import socket
import time
from dataclasses import replace

import pytest
from huggingface_hub import HfApi, ModelCard, constants

from publishing.loopback_hub import Fault
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm.publishing import PublishError, PublishSettings, hub_lists, publish

NEW = "sundays-1.0"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def settings(tiny, licence):
    return PublishSettings(str(tiny), "acme/reader", license=licence, remote_code=False)


def test_a_licence_that_is_new_on_the_hub(hub, tiny, tmp_path):
    with pytest.raises(PublishError, match=rf"'{NEW}' is none of the Hub's licence identifiers"):
        publish(settings(tiny, NEW), tmp_path / "first", HfApi())
    hub.api.lists = replace(hub_lists.BUNDLED, licenses=hub_lists.BUNDLED.licenses | {NEW})
    publish(settings(tiny, NEW), tmp_path / "second", HfApi())
    assert ModelCard.load("acme/reader").data.license == NEW


def test_a_licence_that_nobody_has_used_yet(hub):
    hub.api.lists = replace(hub_lists.BUNDLED, licenses=frozenset({NEW}))
    assert hub_lists.hub_lists(hub.endpoint).licenses == hub_lists.BUNDLED.licenses | {NEW}


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503},
        {"status": 200, "body": {"license": [{"name": NEW}]}},
        {"status": 200, "body": {"pipeline_tag": []}},
        {"after_bytes": 20, "at": "response"},
    ],
)
def test_an_answer_that_is_none(fault, hub):
    hub.faults.append(Fault("GET", "models-tags-by-type", **fault))
    assert hub_lists.hub_lists(hub.endpoint) == hub_lists.BUNDLED


def test_a_hub_that_does_not_answer_is_not_waited_for(hub, monkeypatch):
    monkeypatch.setattr(hub_lists, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = time.monotonic()
        assert hub_lists.hub_lists(f"http://127.0.0.1:{silent.getsockname()[1]}") == hub_lists.BUNDLED
        assert time.monotonic() - before < 5


def test_offline_nothing_is_asked(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_lists.hub_lists(hub.endpoint) == hub_lists.BUNDLED
    assert not hub.requests


def test_the_bundled_lists_are_identifiers():
    assert {"apache-2.0", "mit", "apple-amlr", "other"} < hub_lists.BUNDLED.licenses
    assert "image-text-to-text" in hub_lists.BUNDLED.pipeline_tags

# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Keys and passwords are found in whatever a repository has, and shown by their beginning alone."""

import json
from pathlib import Path

import pytest

import transformers_fastvlm
from transformers_fastvlm.publishing.private_words import private_words

# Made up, and put together here, so that nobody's scanner takes this file for a leak.
BODY = "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gI3kL5nP7rT9vX1"
HEXADECIMAL = "0123456789abcdef" * 2 + "01234567"
SECRETS = {
    "a Hugging Face token": ["hf" + "_" + BODY[:34]],
    "an OpenAI key": ["sk" + "-" + BODY, "sk" + "-proj-" + BODY],
    "an Anthropic key": ["sk" + "-ant-api03-" + BODY],
    "an AWS key": ["AKIA" + "QWERTY7ASDFGH5ZX"],
    "a GitHub token": ["ghp" + "_" + BODY[:36], "github" + "_pat_" + BODY[:22] + "_" + BODY],
    "a GitLab token": ["glpat" + "-" + BODY[:20]],
    "a Google key": ["AIza" + BODY[:35]],
    "a Slack token": ["xoxb" + "-123456789012-" + BODY[:24], "https://hooks.slack.com" + "/services/T0/B0/" + BODY],
    "a Stripe key": ["sk" + "_live_" + BODY[:24]],
    "a PyPI token": ["pypi" + "-" + BODY + BODY],
    "an npm token": ["npm" + "_" + BODY[:36]],
    "a Weights & Biases key": [
        "WANDB_API_KEY=" + HEXADECIMAL,
        "wandb_api_key: " + HEXADECIMAL,
        "machine api.wandb.ai login user password " + HEXADECIMAL,
        "wandb" + "_v1_" + BODY,
    ],
    "a JSON Web Token": ["eyJ" + BODY[:20] + ".eyJ" + BODY[:20] + "." + BODY[:20]],
    "a private key": ["-----BEGIN " + "RSA PRIVATE KEY-----", "-----BEGIN " + "PRIVATE KEY-----"],
    "a bearer token": ["Authorization: Bearer " + BODY],
    "a password in an address": ["https://bob:" + "correcthorse@example.com/models", "postgres://:" + BODY + "@db"],
    "a secret": [
        '"api_key": "' + BODY + '"',
        '"apiKey" : "' + BODY + '"',
        '"client_secret_key": "' + BODY + '"',
        "password=" + BODY,
        "train.py --api-key " + BODY,
        "train.py --hub_token " + BODY,
    ],
}
HARMLESS = [
    '"pad_token": "<|endoftext|>", "image_token": "<image>", "eos_token_id": 151645',
    '"hub_token": "<HUB_TOKEN>", "api_key": "YOUR_API_KEY", "password": null, "api_key": "${API_KEY}"',
    "task-specific-heads-of-long-names, risk-averse-decision-making, a desk-mounted-camera-of-1080p",
    "The bearer of this ticket. Its password is asked for at the door; the secret: there is none.",
    "https://huggingface.co/acme/reader and https://user@host/path and http://127.0.0.1:8000/v1@x",
    "{{ messages[0]['content'] }} {% if api_key %}{{ secret }}{% endif %}",
    "max_new_tokens=128, access_token_ids=[1], tokenizer.pad_token = tokenizer.eos_token",
    HEXADECIMAL + " is a commit, wandb is not installed",
]


@pytest.mark.parametrize(("what", "secret"), [(what, secret) for what, each in SECRETS.items() for secret in each])
@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "README.md"])
def test_every_kind_is_found_and_never_shown_whole(what, secret, name, tmp_path):
    path = tmp_path / name
    if name == "config.json":  # as a field of its own where it is one, and as a part of a command with quotes
        path.write_text(json.dumps({"command": f"run --x {secret}"}))
    else:
        path.write_text(f"One\n# {secret}\nThree\n")
    found = dict(private_words(path))
    assert what in found
    for shown in found.values():
        assert shown.endswith("…")
        for hidden in (BODY[:12], HEXADECIMAL[:12], "correcthorse", "QWERTY7ASD", "PRIVATE KEY"):
            assert hidden not in shown


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret(text, tmp_path):
    (tmp_path / "README.md").write_text(text)
    assert private_words(tmp_path / "README.md") == []


def test_the_code_that_is_published_has_none():
    for path in sorted(Path(transformers_fastvlm.__file__).parent.glob("*.py")):
        assert private_words(path) == []

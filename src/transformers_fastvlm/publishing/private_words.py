# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Keys, passwords and paths that a repository must not have in it.

A table of patterns of our own: detect-secrets 1.5.0 knows four of the thirteen kinds that this began with, and by
default asks the services whether what it finds is valid.
"""

import json
import re
import tempfile
from pathlib import Path

from safetensors import safe_open

# Their words are anybody's.
_VOCABULARIES = ("vocab.json", "merges.txt")
_TEXT_SUFFIXES = (".json", ".py", ".md", ".jinja", ".txt", "")

# Of a pattern with a group `secret`, what is before it may be shown.
_SECRETS = {
    "a Hugging Face token": r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}",
    "an Anthropic key": r"\bsk-ant-[\w-]{16,}",
    "an OpenAI key": r"\bsk-(?!ant-)[\w-]{20,}",
    "an AWS key": r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b",
    "a GitHub token": r"\b(?:gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_\w{20,})",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a Google key": r"\b(?:AIza[\w-]{35}|GOCSPX-[\w-]{20,}|ya29\.[\w-]{20,})",
    "a Slack token": r"\bxox[abceoprs]-[A-Za-z0-9-]{10,}|\bhooks\.slack\.com/services/(?P<secret>[\w/]{20,})",
    "a Stripe key": r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
    "a PyPI token": r"\bpypi-[\w-]{50,}",
    "an npm token": r"\bnpm_[A-Za-z0-9]{36}",
    "a Weights & Biases key": r"\bwandb_v\d_[\w-]{20,}|(?i:wandb)[\w.\"'\\ :=-]{1,40}?(?P<secret>\b[0-9a-f]{40}\b)",
    "a JSON Web Token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}",
    "a private key": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "a bearer token": r"\b(?i:bearer)\s+(?P<secret>(?=\S*\d)[\w.~+/-]{16,}=*)",
    "a password in an address": r"\b[A-Za-z][\w+.-]*://[^\s/:@\"'<>{}$]*:(?P<secret>[^\s/@\"'<>{}$]+)@",
    # "api_key": "...", and the same in a command or an environment. What stands for a secret is none: <token>, ${KEY}.
    "a secret": (
        r"(?i:api[_-]?key|secret[_-]?(?:key|access[_-]?key)?|access[_-]?key(?:[_-]?id)?|private[_-]?key|passw(?:or)?d"
        r"|passphrase|credentials?|(?:access|api|auth|bearer|hf|hub|refresh|session)[_-]?token)"
        r"(?:\\?[\"']\s*[:=]\s*\\?[\"']|\s*=\s*[\"']?|\s*:\s*[\"']|\s+(?=\S*\d))"
        r"(?P<secret>(?!(?i:your|xxx|none\b|null\b|true\b|false\b))[^\s\"'<>{}$%*\\(),\[\]]{8,})"
    ),
}
_PATH = re.compile(r"(?<![\w/.:])(?:/(?:home|Users|root|tmp|mnt|data|workspace|scratch)/|[A-Z]:\\+Users\\+)[\w.-]")
_PATTERNS = {what: re.compile(pattern) for what, pattern in _SECRETS.items()}


def private_words(path: Path) -> list[tuple[str, str]]:
    """What must not be in a file: of which kind, and enough of it to be found, which is never a whole secret."""
    text = _text(path)
    found = [
        (what, _beginning(match)) for what, pattern in _PATTERNS.items() if (match := pattern.search(text)) is not None
    ]
    if (match := _PATH.search(text)) is not None:
        found.append(("an absolute path", f"{match.group()}…"))
    own = {str(Path.home()), str(Path.cwd()), tempfile.gettempdir()}
    return found + [
        ("a path of this machine", place) for place in sorted(own) if len(place) > 1 and f"{place}/" in text
    ]


def _beginning(match: re.Match[str]) -> str:
    secret = match.groupdict().get("secret")
    if secret is None:
        return f"{match.group()[:6]}…"
    before = match.group()[: match.start("secret") - match.start()]
    return f"{before}{secret[: min(4, len(secret) // 3)]}…"


def _text(path: Path) -> str:
    """What a file says, without the words of a vocabulary and the numbers of weights."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return str(file.metadata())
    if path.suffix not in _TEXT_SUFFIXES or path.name in _VOCABULARIES:
        return ""
    text = path.read_text(encoding="utf-8")
    if path.name == "tokenizer.json":
        content = json.loads(text)
        content["model"] = {name: value for name, value in content["model"].items() if name not in ("vocab", "merges")}
        text = json.dumps({**content, "added_tokens": []})
    return text

"""The README's first snippet runs as it stands, on the bundled checkpoint in place of the authors' one."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY_READER = ROOT / "checkpoints" / "tiny-reader"


def test_first_snippet_answers():
    snippet = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    changes = {
        "apple/FastVLM-0.5B": str(TINY_READER),
        "photo.jpg": str(TINY_READER / "images" / "cat.jpg"),
        "What is in this picture?": "What does it say?",
    }
    for old, new in changes.items():
        assert old in snippet
        snippet = snippet.replace(old, new)
    process = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "MEOW"

"""The README's examples run, and print what they say."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from fastrnn.notebooks import NotebookErratumWarning

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(EXAMPLES) >= 5
    names: dict[str, Any] = {}
    for n, example in enumerate(EXAMPLES):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotebookErratumWarning)
            exec(compile(example, f"<example {n} of README.md>", "exec"), names)
        promised = re.findall(r"^print\(.*\)  # (.*)$", example, re.MULTILINE)
        assert len(promised) == example.count("print(")
        assert capsys.readouterr().out.splitlines() == promised


@pytest.mark.parametrize("n", [n for n, text in enumerate(EXAMPLES) if "import numpy" in text])
def test_an_example_with_imports_needs_nothing_before_it(n: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotebookErratumWarning)
        exec(compile(EXAMPLES[n], f"<example {n} of README.md>", "exec"), {})

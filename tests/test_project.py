"""The shape of the project: public names, imports one way, the README's commands, packaging."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import pytest

import fastrnn
from tests.kernels.test_jit import imports

ROOT = Path(__file__).parents[1]
PACKAGE = Path(fastrnn.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# --- names that are promised ------------------------------------------------------------

FUNCTIONS = {
    "rnn_cell_forward": ["xt", "a_prev", "parameters"],
    "rnn_forward": ["x", "a0", "parameters"],
    "rnn_cell_backward": ["da_next", "cache"],
    "rnn_backward": ["da", "caches"],
    "lstm_cell_forward": ["xt", "a_prev", "c_prev", "parameters"],
    "lstm_forward": ["x", "a0", "parameters"],
    "lstm_cell_backward": ["da_next", "dc_next", "cache"],
    "lstm_backward": ["da", "caches"],
    "output_backward": ["dz", "caches"],
    "softmax": ["x"],
    "sigmoid": ["x"],
    "tanh": ["x"],
}
METHODS = {
    "workspace": ["T", "B"],
    "forward": ["x", "state", "workspace"],
    "backward": ["dh", "dstate", "workspace"],
    "step": ["x_t", "state"],
    "update": ["parameters"],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_takes_what_the_notebooks_give(name: str) -> None:
    function = getattr(fastrnn, name)
    assert list(inspect.signature(function).parameters) == FUNCTIONS[name]
    assert function.__doc__


@pytest.mark.parametrize("layer", ["RNN", "LSTM"])
@pytest.mark.parametrize("name", METHODS)
def test_a_layer_has_its_methods(layer: str, name: str) -> None:
    method = getattr(getattr(fastrnn, layer), name)
    _, *arguments = inspect.signature(method).parameters
    assert arguments[: len(METHODS[name])] == METHODS[name]
    assert method.__doc__


def test_nothing_else_is_public() -> None:
    assert set(fastrnn.__all__) == {*FUNCTIONS, "RNN", "LSTM", "warmup"}
    assert all(hasattr(fastrnn, name) for name in fastrnn.__all__)


# --- imports ----------------------------------------------------------------------------


def imported(source: Path, name: str) -> Iterator[str]:
    """What a module imports, by its dotted name: modules and, of modules, names."""
    package = (name if source.name == "__init__.py" else name.rpartition(".")[0]).split(".")
    for level, module, item in imports(source):
        above = package[: len(package) + 1 - level] if level else []
        base = ".".join([*above, *filter(None, [module])])
        yield base
        yield f"{base}.{item}"


def modules() -> dict[str, Path]:
    """All modules of the package by their dotted names."""
    found = {}
    for source in PACKAGE.rglob("*.py"):
        parts = source.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = source
    return found


def test_imports_point_one_way() -> None:
    found = modules()
    graph = {
        name: {other for other in imported(source, name) if other in found and other != name}
        for name, source in found.items()
    }
    assert "fastrnn.layer" in graph["fastrnn.lstm"]
    assert "fastrnn.kernels.simd" in graph["fastrnn.kernels.linear"]
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_reference_is_plain_numpy() -> None:
    names = imported(PACKAGE / "reference.py", "fastrnn.reference")
    assert not [name for name in names if name.startswith("fastrnn")]


IMPORT = """
import json, sys
import numba.core.event as event

with event.install_recorder("numba:compile") as recorder:
    import fastrnn, fastrnn.notebooks, fastrnn.reference
print(json.dumps({"compiled": len(recorder.buffer), "modules": list(sys.modules)}))
"""


def test_importing_compiles_nothing_and_leaves_the_command_line_alone() -> None:
    process = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
    )
    result = json.loads(process.stdout)
    assert result["compiled"] == 0
    rest = {"cli", "demo", "bench", "timing", "peers", "selftest", "weights"}
    assert not {f"fastrnn.{name}" for name in rest} & set(result["modules"])


# --- packaging and pages ----------------------------------------------------------------


def test_types_are_packaged() -> None:
    assert files("fastrnn").joinpath("py.typed").is_file()


def test_two_dependencies() -> None:
    names = [re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]]  # type: ignore[index]
    assert sorted(names) == ["numba", "numpy"]


def test_the_readme_has_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    begin = "python3 -m venv .venv && .venv/bin/pip install -q -e "
    main_job, tests = (block for block in blocks if block.startswith(begin))
    assert main_job == f'{begin}".[demo]" && .venv/bin/fastrnn demo\n'
    assert tests == f'{begin}".[test]" && .venv/bin/python -m pytest -q\n'
    assert {"demo", "test"} <= set(PROJECT["optional-dependencies"])
    assert "fastrnn" in PROJECT["scripts"]
    assert len(re.findall("<!-- speed:(?:begin|end) -->", readme)) == 2


@pytest.mark.parametrize("page", sorted(path.name for path in ROOT.glob("*.md")))
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_changelog_knows_the_version() -> None:
    assert fastrnn.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_version_is_said_once() -> None:
    assert "version" in PROJECT["dynamic"]
    assert metadata.version("fastrnn") == fastrnn.__version__


def test_contributing_names_every_task() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    tasks = re.findall(r'^(?:long_)?tasks="(.*)"$', script, re.MULTILINE)
    assert len(tasks) == 2
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`bash \.ci/run (\w+)`", page))
    assert named == set(" ".join(tasks).split())

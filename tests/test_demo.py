"""``fastrnn demo``: the model's gradients, that it learns, and everything a user can do wrong."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn import cli, demo, weights
from tests.gradcheck import check_gradients
from tests.test_cli import ENVIRONMENT

SMALL = ["--steps", "4", "--hidden", "9", "--length", "5", "--batch", "3", "--sample", "120"]
TEXT = "".join(f"{n} bottles of beer on the wall,\n" for n in range(40))


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def run(*argv: str) -> int:
    return cli.main(["demo", *argv])


# The model


def small_model(dtype: str = "float64") -> tuple[demo.CharacterModel, Any, Any]:
    rng = np.random.default_rng(1)
    model = demo.CharacterModel(demo.new_parameters(7, 11, dtype, rng), T=5, B=3)
    codes, targets = rng.integers(0, 7, (2, 5, 3))
    return model, codes, targets


def test_gradients() -> None:
    model, codes, targets = small_model()
    h, log_y, _ = model.forward(codes)
    gradients = {key: g.copy() for key, g in model.backward(h, log_y, targets).items()}

    def loss(**parameters: Any) -> float:
        other = demo.CharacterModel(parameters, T=5, B=3)
        return demo.cross_entropy(other.forward(codes)[1], targets)

    check_gradients(loss, model.parameters, gradients)


def test_log_softmax_is_stable() -> None:
    z = np.array([[0.0, 1000.0, -1000.0], [1.0, 1.0, 1.0]])
    np.testing.assert_allclose(demo.log_softmax(z), [[-1000, 0, -2000], [-math.log(3)] * 3])


def test_state_is_carried_from_batch_to_batch() -> None:
    codes = np.arange(2 * 11)
    found = list(itertools.islice(demo.batches(codes, T=5, B=2), 5))
    np.testing.assert_array_equal(found[0][0].T, [[0, 1, 2, 3, 4], [11, 12, 13, 14, 15]])
    np.testing.assert_array_equal(found[0][1], found[0][0] + 1)
    np.testing.assert_array_equal(found[1][0], found[0][0] + 5)
    np.testing.assert_array_equal(found[2][0], found[0][0])
    assert [anew for _, _, anew in found] == [True, False, True, False, True]


def test_training_passes_the_state_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, _ = small_model()
    forward, states = model.forward, []

    def recorded(codes: Any, state: Any = None) -> Any:
        h, log_y, last = forward(codes, state)
        states.append((state, tuple(array.copy() for array in last)))
        return h, log_y, last

    monkeypatch.setattr(model, "forward", recorded)
    demo.train(model, np.arange(33) % 7, 3, 0.01, lambda *_: None, lambda: False)
    (first, after_first), (second, _), (third, _) = states
    assert first is None and third is None  # 11 characters in a stream: two batches
    for given, left in zip(second, after_first, strict=True):
        np.testing.assert_array_equal(given, left)


def test_clip() -> None:
    gradients = {"a": np.array([[3.0]]), "b": np.array([0.0, 4.0])}
    demo.clip(gradients, 10.0)
    np.testing.assert_array_equal(gradients["b"], [0.0, 4.0])
    demo.clip(gradients, 1.0)
    np.testing.assert_allclose(gradients["a"], [[0.6]])
    np.testing.assert_allclose(gradients["b"], [0.0, 0.8])


def test_adam() -> None:
    w = np.zeros(3)
    adam = demo.Adam({"w": w})
    g = np.array([4.0, -0.5, 1e-3])
    adam.step({"dw": g}, 0.1)
    np.testing.assert_allclose(w, -0.1 * np.sign(g), rtol=1e-3)  # whatever the gradient's size
    adam.step({"dw": np.zeros(3)}, 0.1)
    mean, square = 0.9 * 0.1 / (1 - 0.9**2), 0.999 * 0.001 / (1 - 0.999**2)
    expected = -0.1 * np.sign(g) * (1 + mean / math.sqrt(square))
    np.testing.assert_allclose(w, expected, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_learns(dtype: str) -> None:
    codes = demo.encode(TEXT, "".join(sorted(set(TEXT))))
    parameters = demo.new_parameters(codes.max() + 1, 16, dtype, np.random.default_rng(0))
    model = demo.CharacterModel(parameters, T=12, B=4)
    losses = demo.train(model, codes, 200, 0.03, lambda *_: None, lambda: False)
    assert abs(losses[0] - math.log(codes.max() + 1)) < 0.3
    assert np.mean(losses[-20:]) < 0.2 * losses[0]


def test_training_stops_when_told() -> None:
    model, _, _ = small_model()
    calls = []
    losses = demo.train(
        model, np.arange(33) % 7, 50, 0.01, lambda *call: calls.append(call), lambda: True
    )
    assert calls == [(1, losses[0])]


def test_samples_follow_the_seed_and_the_temperature() -> None:
    model, _, _ = small_model()
    prompt = np.array([1, 2, 3])

    def draw(temperature: float, seed: int) -> list[int]:
        return model.sample(prompt, 60, temperature, np.random.default_rng(seed))

    assert draw(1.0, 0) == draw(1.0, 0) != draw(1.0, 1)
    assert draw(1e-6, 0) == draw(1e-6, 1)  # cold: always the likeliest
    assert len(draw(1.0, 0)) == 60


def test_a_sample_is_what_the_whole_sequence_makes_likeliest() -> None:
    model, _, _ = small_model()
    prompt = [1, 2, 3]
    drawn = model.sample(np.array(prompt), 20, 1e-6, np.random.default_rng(0))
    read = np.array(prompt + drawn[:-1])[:, None]
    log_y = model.head(model.layer.forward(model.one_hot[read])[0])
    assert drawn == list(log_y[2:, 0].argmax(axis=-1))


# The comparison


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-5), ("float64", 1e-13)])
def test_comparison_finds_what_differs(
    dtype: str, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, codes, targets = small_model(dtype)

    def errors() -> list[float]:
        rows = demo.compare(model, codes, targets).splitlines()[1:]
        found = [re.search(r" (\S+) +\d+\.\d+ ms +\d+\.\d+ ms +\d+\.\dx$", row) for row in rows]
        return [float(match[1]) for match in found if match]

    forward, backward = errors()
    assert 0 <= forward < most and 0 <= backward < most
    right = model.layer.backward
    for key in "dx", "da0", "dWo", "dbf":

        def wrong(dh: Any, workspace: Any, key: str = key) -> Any:
            gradients = right(dh, workspace=workspace)
            gradients[key][0, 0] += 0.1
            return gradients

        monkeypatch.setattr(model.layer, "backward", wrong)
        assert errors()[1] > 1e-3, key


# The command


def test_the_whole_demo(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--text", text, *SMALL) == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    assert f"{len(TEXT):,} characters, {len(set(TEXT))} different" in out
    for line in "model ", "kernels ", "training ", "loss ", "held out ", "sample ", "check ":
        assert f"\n{line}" in out
    assert "\n  forward " in out and "\n  forward + backward " in out
    assert re.search(r"^  step 4 of 4   loss \d\.\d{3} nats per character$", err, re.MULTILINE)


def test_the_default_text(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pydoc_data.topics")
    assert run(*SMALL) == 0
    out = capsys.readouterr().out
    (characters,) = re.findall(r"([\d,]+) characters, \d+ different", out)
    assert int(characters.replace(",", "")) > 300_000


def test_without_the_default_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    assert run(*SMALL) == 2
    assert "give a text with --text FILE" in capsys.readouterr().err


def test_a_seed_settles_everything(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def outcome(*options: str) -> tuple[bytes, str]:
        path = tmp_path / "model.npz"
        assert run("--text", text, *SMALL, "--save", str(path), *options) == 0
        out = capsys.readouterr().out
        return path.read_bytes(), out[out.index("sample ") : out.index("check ")]

    assert outcome("--seed", "3") == outcome("--seed", "3")
    first, second = outcome("--seed", "3"), outcome("--seed", "4")
    assert first[0] != second[0] and first[1] != second[1]


def test_saved_weights_are_taken_up_again(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.npz"
    assert run("--text", text, *SMALL, "--dtype", "float64", "--save", str(path)) == 0
    with np.load(path, allow_pickle=False) as archive:
        assert archive["Wf"].shape == (9, 9 + len(set(TEXT)))
        assert archive["Wf"].dtype == np.float64
        assert "".join(archive["characters"]) == "".join(sorted(set(TEXT)))
    held_out = re.findall(r"^held out .*$", capsys.readouterr().out, re.MULTILINE)

    again = [
        "--text",
        text,
        "--load",
        str(path),
        *["--length", "5", "--batch", "3", "--steps", "0"],
    ]
    assert run(*again) == 0
    out = capsys.readouterr().out
    assert "9 hidden units" in out and "float64" in out
    assert re.findall(r"^held out .*$", out, re.MULTILINE) == held_out

    assert run(*again, "--hidden", "10") == 2
    assert "--hidden is 10, but" in capsys.readouterr().err
    Path(text).write_text(TEXT + "€", encoding="utf-8")
    assert run(*again) == 2
    assert "'€'" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:100])
    assert run(*again) == 2
    assert "holds no character model" in capsys.readouterr().err


def test_what_a_terminal_cannot_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + ("\x1b[31m\t\u2028é\r\n" * 100).encode())
    assert run("--text", str(path), *SMALL) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\t", "\r", "\u2028", "\ufeff"} & set(out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"text\0text" * 1000, "binary"),
        (b"caf\xe9 " * 1000, "UTF-8"),
        ("text ".encode("utf-16") * 1000, "UTF-8"),
        (b"too short", "too few"),
        (b"x" * 554, "wanted 555 or more"),
    ],
    ids=repr,
)
def test_a_text_that_cannot_be_used(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    assert run("--text", str(path)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastrnn demo: error: ") and message in err
    assert err.count("\n") == 1


def test_a_folder_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--text", str(tmp_path)) == 2
    assert capsys.readouterr().err.startswith(f"fastrnn demo: error: cannot read {tmp_path}: ")


def test_the_least_text_that_is_asked_for_is_enough() -> None:
    for T, B in (1, 1), (5, 3), (32, 16), (64, 1), (7, 100):
        with pytest.raises(demo.DemoError, match="wanted") as refusal:
            demo.split(np.zeros(3, int), T, B)
        (asked,) = re.findall(r"wanted ([\d,]+) or more", str(refusal.value))
        least = int(asked.replace(",", ""))
        learned, held_out = demo.split(np.zeros(least, int), T, B)
        assert len(learned) + len(held_out) == least
        next(demo.batches(learned, T, B))
        with pytest.raises(demo.DemoError):
            demo.split(np.zeros(least - 1, int), T, B)


@pytest.mark.parametrize(
    "options",
    [
        "--steps -1", "--steps 1.5", "--steps many", "--hidden 0", "--hidden 1000000000000",
        "--length 0", "--batch 0", "--threads 0", "--rate -0.1", "--rate nan", "--dtype float16",
        "--dtype int", "--seed -1", "--sample -1", "--temperature 0", "--temperature inf",
        "--save", "--steps", "--text", "--save missing/model.npz", "--save .", "--load missing.npz",
        "--speed 3",
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_used(
    options: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "train", None)
    assert run("--text", text, *options.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastrnn") and ": error: " in err
    assert err.count("\n") == 1


def test_too_large_for_the_memory(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(demo, "new_parameters", full)
    assert run("--text", text) == 2
    assert capsys.readouterr().err == ("fastrnn demo: error: not enough memory for these sizes\n")


# Progress


@pytest.mark.parametrize("steps", [1, 4, 10, 37, 1000])
def test_plain_lines_now_and_then(steps: int, capsys: pytest.CaptureFixture[str]) -> None:
    progress = demo.Progress(steps)
    for step in range(1, steps + 1):
        progress(step, 2.0)
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert min(steps, 10) <= len(lines) <= 11
    assert lines[-1] == f"  step {steps} of {steps}   loss 2.000 nats per character"


def test_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = demo.Progress(3)
    for step in 1, 2, 3:
        progress(step, 2.0)
    progress.bar.refresh()
    progress.close()
    err = capsys.readouterr().err
    assert "loss 2.000" in err and "3/3" in err
    assert max(map(len, re.split(r"[\r\n]", err))) <= 80


def test_no_bar_without_tqdm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    demo.Progress(3)(1, 2.0)
    assert capsys.readouterr().err == "  step 1 of 3   loss 2.000 nats per character\n"


# Ctrl-C


@pytest.mark.skipif(os.name == "nt", reason="a signal to one process needs POSIX")
def test_interrupted(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # may come in ignored
        "from fastrnn.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    options = ["--text", text, *SMALL, "--steps", "100000000", "--save", str(path)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "demo", *options],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline().startswith("  step ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err == ""
    assert re.search(r"\n +stopped after \d+ steps, ", out)
    assert "\nloss " in out and "\nsaved " in out
    assert out.endswith("\ninterrupted: no sample, no comparison\n")
    assert weights.load(path)[1] == "".join(sorted(set(TEXT)))


def test_the_second_interrupt_is_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with demo.interruptible() as interrupted:
            signal.raise_signal(signal.SIGINT)
            assert interrupted.is_set()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with demo.interruptible() as interrupted:
            assert not interrupted.is_set()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_someone_else_stays() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with demo.interruptible() as interrupted:
            signal.raise_signal(signal.SIGINT)
            assert not interrupted.is_set()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)

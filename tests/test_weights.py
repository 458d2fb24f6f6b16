"""The file of a character model: written whole or not at all, read with suspicion."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastrnn import weights
from fastrnn.demo import new_parameters

CHARACTERS = "\n aä…"


@pytest.fixture
def parameters() -> dict[str, Any]:
    return new_parameters(len(CHARACTERS), 3, "float32", np.random.default_rng(0))


def test_round_trip(tmp_path: Path, parameters: dict[str, Any]) -> None:
    path = tmp_path / "model.npz"
    weights.check_writable(path)
    assert list(tmp_path.iterdir()) == []
    weights.save(path, parameters, CHARACTERS)
    assert list(tmp_path.iterdir()) == [path]
    found, characters = weights.load(path)
    assert characters == CHARACTERS
    assert found.keys() == parameters.keys()
    for key, array in parameters.items():
        assert found[key].dtype == array.dtype
        np.testing.assert_array_equal(found[key], array)


def test_numpy_reads_it_without_pickle(tmp_path: Path, parameters: dict[str, Any]) -> None:
    path = tmp_path / "model"  # the name stays as it was given
    weights.save(path, parameters, CHARACTERS)
    with np.load(path, allow_pickle=False) as archive:
        assert set(archive) == {*parameters, "characters"}
        assert "".join(archive["characters"]) == CHARACTERS


def test_the_same_weights_make_the_same_file(tmp_path: Path, parameters: dict[str, Any]) -> None:
    for name in "ab":
        weights.save(tmp_path / name, parameters, CHARACTERS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"parameters": {}}, "parameters lacks Wf"),
        ({"parameters": None}, "parameters is NoneType"),
        ({"Wy": np.zeros((4, 3))}, "parameters"),
        ({"Wf": np.zeros((3, 9))}, "'Wf'"),
        ({"Wf": np.full((3, 8), None)}, "'Wf'"),  # NumPy would write a pickle
        ({"bi": np.full((3, 1), np.inf)}, "parameters are not all finite"),
        ({"characters": "ba"}, "characters are not"),
        ({"characters": "\0aä…"}, "characters are not"),  # NumPy drops the zero
        ({"characters": None}, "characters is NoneType"),
        ({"path": 3}, "path is int"),
        ({"path": "a\0b"}, "cannot write"),
    ],
    ids=str,
)
def test_what_would_not_be_read_again_is_not_written(
    tmp_path: Path, parameters: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    arguments = {"path": tmp_path / "model.npz", "characters": CHARACTERS}
    arguments["parameters"] = parameters | {
        key: changed.pop(key) for key in [*changed] if key in parameters
    }
    with pytest.raises((TypeError, ValueError, KeyError), match=message):
        weights.save(**arguments | changed)
    assert not list(tmp_path.iterdir())


def test_a_failing_disk_leaves_the_old_file(
    tmp_path: Path, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.npz"
    weights.save(path, parameters, CHARACTERS)
    before = path.read_bytes()

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(weights.WeightsError, match=r"cannot write .*: No space left on device"):
        weights.save(path, parameters, CHARACTERS)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_link_is_followed(tmp_path: Path, parameters: dict[str, Any]) -> None:
    target, link = tmp_path / "target.npz", tmp_path / "link.npz"
    target.touch()
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("no symbolic links here")
    weights.check_writable(link)
    weights.save(link, parameters, CHARACTERS)
    assert link.is_symlink()
    assert weights.load(target)[1] == CHARACTERS

    lost = tmp_path / "lost.npz"
    lost.symlink_to(tmp_path / "missing" / "model.npz")
    with pytest.raises(weights.WeightsError, match=r"missing.*: No such file"):
        weights.check_writable(lost)


@pytest.mark.parametrize("name", [".", "missing/model.npz", "file/model.npz", "x" * 300])
def test_what_cannot_be_written_is_known_before(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(weights.WeightsError, match=r"^cannot write [^\n]*$"):
        weights.check_writable(tmp_path / name)


def test_devices_are_left_alone() -> None:
    if not Path("/dev/null").exists():
        pytest.skip("no /dev/null here")
    with pytest.raises(weights.WeightsError, match="not a regular file"):
        weights.check_writable(Path("/dev/null"))


# Damage


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arrays: {name: array for name, array in arrays.items() if name != key}


def with_(**changed: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arrays: {**arrays, **changed}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("characters"), "characters"),
        (without("Wo"), "Wo"),
        (with_(Wo=np.zeros((3, 7), np.float32)), "Wo"),
        (with_(Wf=np.zeros((3, 9), np.float32)), "Wf"),
        (with_(Wf=np.zeros(3, np.float32)), "Wf"),
        (with_(Wy=np.zeros((4, 3), np.float32)), "Wy"),
        (with_(bi=np.full((3, 1), np.nan, np.float32)), "finite"),
        (with_(bi=np.array([["a"], ["b"], ["c"]])), "bi"),
        (with_(characters=np.array(list("abc"))), "W"),
        (with_(characters=np.array(list("aabcd"))), "different"),
        (with_(characters=np.array(list("edcba"))), "order"),
        (with_(characters=np.arange(5)), "characters"),
        (with_(characters=np.array("abcde")), "characters"),
    ],
)
def test_a_file_of_another_kind(
    tmp_path: Path, parameters: dict[str, Any], change: Any, message: str
) -> None:
    arrays = {**parameters, "characters": np.array(list(CHARACTERS))}
    path = tmp_path / "model.npz"
    np.savez(path, **change(arrays))
    with pytest.raises(weights.WeightsError, match="holds no character model: .*" + message) as at:
        weights.load(path)
    assert "\n" not in str(at.value)


def test_damage_anywhere_is_noticed(tmp_path: Path, parameters: dict[str, Any]) -> None:
    path = tmp_path / "model.npz"
    weights.save(path, parameters, CHARACTERS)
    content = path.read_bytes()
    whole, _ = weights.load(path)
    rng = np.random.default_rng(0)
    for at in range(0, len(content), 97):
        path.write_bytes(content[:at])
        with pytest.raises(weights.WeightsError):
            weights.load(path)
        flipped = bytearray(content)
        flipped[at] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            found, _ = weights.load(path)
        except weights.WeightsError:
            continue
        for key, array in whole.items():  # a byte that nothing depends on, as a date
            np.testing.assert_array_equal(found[key], array)


def test_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    for content in b"", b"text", b"\x80\x04K\x01.", array.getvalue():
        path.write_bytes(content)
        with pytest.raises(weights.WeightsError, match=r"not a whole \.npz archive"):
            weights.load(path)


def test_a_pickle_is_not_opened(tmp_path: Path, parameters: dict[str, Any]) -> None:
    path = tmp_path / "model.npz"
    characters: Any = np.array(list(CHARACTERS), dtype=object)
    np.savez(path, **parameters, characters=characters)
    with pytest.raises(weights.WeightsError, match="allow_pickle"):
        weights.load(path)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsError, match=r"cannot read .*: No such file"):
        weights.load(tmp_path / "missing.npz")
    with pytest.raises(weights.WeightsError, match=r"cannot read .*: "):
        weights.load(tmp_path)

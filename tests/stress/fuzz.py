"""Wrong calls of every public function: right calls with one thing broken.

    python -m tests.stress.fuzz [--calls 100000] [--seed 0]

Each must be refused by a TypeError, ValueError or KeyError (MemoryError for a size that no memory
holds) whose message names an argument or a part of one, and must leave every argument, and what
later right calls return, as it was.
"""

from __future__ import annotations

import argparse
import faulthandler
import inspect
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

import fastrnn
from fastrnn import notebooks, weights
from fastrnn.workspace import Workspace
from tests.cells import CELLS, RNN, Cell
from tests.compare import same_bits
from tests.problems import normal
from tests.test_checks import N_A, N_X, N_Y, NOT_REAL, SIZES, M, T

Array = NDArray[Any]
Axes = tuple[str, ...]
Place = tuple[Any, ...]  # in the arguments: a name, then keys and indices

REFUSALS = TypeError, ValueError, KeyError, MemoryError
LENGTHS = {**SIZES, "n_a + n_x": N_A + N_X, "n_a + n_y": N_A + N_Y, "1": 1}

# What is wrong at a place that is no array.
HUGE = 1 << 62
NOT_COUNTS = (None, 1.5, "2", True, 1j, [1], np.float64(2), np.ones(2), -1, -HUGE)
NOT_FLAGS = ("no", 0.0, [], np.zeros(2), 2, b"")
NOT_MAPPINGS = (None, 3, "Wax", [("Wax", 1)], {"Wax", "Wf"}, np.zeros(3), dict, iter(()))
NOT_SEQUENCES = (None, 3, "text", b"text", {0: 1}, {1.0}, np.zeros((2, 2)), tuple, iter(()))
NOT_WORKSPACES = (3, "ws", (), np.zeros((T, M, N_A)), Workspace)
NOT_DTYPES = (None, 3, "float16", "nonsense", int, object, [None], ["float32", "int8"], 1j, "")
NOT_PATHS = (None, 3.5, ["model.npz"], {}, np.zeros(2), "missing/model.npz", "\0", "x" * 5000, ".")
NOT_CHARACTERS = (None, 3, list("abcdef"), b"abcdef", "abcde", "abcdefg", "fedcba", "aabcde", "")


@dataclass
class Call:
    """A public function with arguments that are right, and where it looks.

    Attributes
    ----------
    arrays : dict
        The axes of each array: a name in `LENGTHS`, "any", "T or less", "T or more"; None
        where any number of them is right.
    mappings : dict
        The keys that it needs of each mapping.
    others : dict
        Of everything else, what would be wrong.
    optional : set
        Where None is right.
    overwritten : set
        Arrays that it writes to.
    prepare : callable
        What must have been called before.
    """

    function: Callable[..., Any]
    arguments: dict[str, Any]
    arrays: dict[Place, Axes | None] = field(default_factory=dict)
    mappings: dict[Place, tuple[str, ...]] = field(default_factory=dict)
    others: dict[Place, tuple[Any, ...]] = field(default_factory=dict)
    optional: set[Place] = field(default_factory=set)
    overwritten: set[Place] = field(default_factory=set)
    prepare: Callable[[], Any] = lambda: None

    def places(self) -> list[Place]:
        return [*self.arrays, *self.mappings, *self.others]

    def names(self) -> set[str]:
        """What a message may name: arguments, and what a place within them is called."""
        found = set(inspect.signature(self.function).parameters)
        found.update(key for keys in self.mappings.values() for key in keys)
        if {"cache", "caches"} & found:
            found |= {"cache", "a_cur", "x_t", *CELLS["lstm"].cache}
        return found

    def fits(self, place: Place, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is right there."""
        axes = self.arrays[place]
        if axes is None:
            return True
        return len(axes) == len(shape) and all(map(_is_length, axes, shape))


def _is_length(axis: str, length: int) -> bool:
    name, _, bound = axis.partition(" or ")
    if name == "any":
        return True
    if bound:
        return length <= LENGTHS[name] if bound == "less" else length >= LENGTHS[name]
    return length == LENGTHS[name]


# --- right calls --------------------------------------------------------------------------


STATE = "n_a", "m"
SEQUENCE = {"x": ("n_x", "m", "any"), "a0": STATE, "da": ("n_a", "m", "T or less")}
HEAD = {"Wya": ("n_y", "n_a"), "Wy": ("n_y", "n_a"), "by": ("n_y", "1")}
WEIGHTS = {
    "rnn": {"Wax": ("n_a", "n_x"), "Waa": ("n_a", "n_a"), "ba": ("n_a", "1")},
    "lstm": {f"W{gate}": ("n_a", "n_a + n_x") for gate in "fico"}
    | {f"b{gate}": ("n_a", "1") for gate in "fico"},
}


def with_weights(call: Call, place: Place, axes: Mapping[str, Axes]) -> Call:
    call.mappings[place] = tuple(axes)
    call.arrays |= {(*place, key): each for key, each in axes.items()}
    return call


def with_cache(call: Call, place: Place, names: tuple[str, ...], unread: tuple[str, ...]) -> Call:
    """A step's cache there, and its arrays."""
    call.others[place] = NOT_SEQUENCES
    for i, name in enumerate(names[:-1]):
        if name not in unread:
            call.arrays[*place, i] = ("n_x" if name == "xt" else "n_a", "m")
    return call


def of_functions(module: ModuleType, cell: Cell) -> Iterator[Call]:
    """The functions of a cell in `fastrnn`, or in a notebook's module that has its names."""
    problem = cell.problem(N_X, N_A, M, T, N_Y)
    parameters, x, a0, da = problem
    inputs, upstream = cell.step_inputs(problem), cell.step_upstream(problem)
    head = {key: HEAD[key] for key in (cell.head, "by")}
    every = {**WEIGHTS[cell.name], **head}

    forward = Call(
        cell.function(module, "forward"), {"x": x, "a0": a0, "parameters": parameters},
        {("x",): SEQUENCE["x"], ("a0",): STATE},
    )  # fmt: skip
    yield with_weights(forward, ("parameters",), every)
    cell_forward = Call(
        cell.function(module, "cell_forward"), {**inputs, "parameters": parameters},
        {(name,): ("n_x", "m") if name == "xt" else STATE for name in inputs},
    )  # fmt: skip
    yield with_weights(cell_forward, ("parameters",), every)
    if not hasattr(module, f"{cell.name}_backward"):
        return

    cached = cell.function(module, "cell_forward")(*inputs.values(), parameters)[-1]
    caches = cell.function(module, "forward")(x, a0, parameters)[-1]
    names = cell.cache
    if module is notebooks.compact:
        names = ("a_prev", "a_next", "xt", "parameters")
    cell_backward = Call(
        cell.function(module, "cell_backward"), {**upstream, "cache": cached},
        {(name,): STATE for name in upstream},
    )  # fmt: skip
    with_cache(cell_backward, ("cache",), names, ())
    read = {key: axes for key, axes in WEIGHTS[cell.name].items() if key.startswith("W")}
    yield with_weights(cell_backward, ("cache", len(names) - 1), read)
    for steps in caches[0], list(caches[0]):
        short = "T or more" if module is notebooks.compact else "T or less"
        backward = Call(
            cell.function(module, "backward"), {"da": da, "caches": (steps, x)},
            {("da",): ("n_a", "m", short)},
        )  # fmt: skip
        yield with_steps(backward, names, read, module is notebooks.compact)
        if module is fastrnn:
            dz = normal((N_Y, M, T))
            output_backward = Call(
                fastrnn.output_backward, {"dz": dz, "caches": (steps, x)},
                {("dz",): ("n_y", "m", "T or less")},
            )  # fmt: skip
            yield with_steps(output_backward, names, {cell.head: HEAD[cell.head]}, False)


def with_steps(call: Call, names: tuple[str, ...], read: Mapping[str, Axes], reads_x: bool) -> Call:
    """The caches of a sequence, and, if they are a list of tuples, these."""
    call.others |= {("caches",): NOT_SEQUENCES, ("caches", 0): (*NOT_SEQUENCES, [], [None])}
    if reads_x:
        call.arrays["caches", 1] = ("any", "any", "T or less")
    steps = call.arguments["caches"][0]
    if isinstance(steps, list):
        for t in range(len(steps)):
            with_cache(call, ("caches", 0, t), names, ())
            with_weights(call, ("caches", 0, t, len(names) - 1), read)
    return call


def of_step_by_step() -> Iterator[Call]:
    """The functions of the notebook that has names of its own."""
    module = notebooks.step_by_step
    problem = RNN.problem(N_X, N_A, M, T, N_Y)
    parameters, x, a0, da = problem
    names = {"W_ax": "Wax", "W_aa": "Waa", "b_a": "ba", "W_ya": "Wya", "b_y": "by"}
    given = {theirs: parameters[ours] for theirs, ours in names.items()}
    axes = {theirs: (WEIGHTS["rnn"] | HEAD)[ours] for theirs, ours in names.items()}
    read = {key: axes[key] for key in ("W_ax", "W_aa", "b_a")}
    state, cached = ("a_prev",), ("a_cur", "a_prev", "xt", "weight_dict")

    yield with_weights(
        Call(
            module.cell_rnn, {"a_prev": a0, "x_curr": x[:, :, 0], "weight_dict": given},
            {state: STATE, ("x_curr",): ("n_x", "m")},
        ), ("weight_dict",), axes,
    )  # fmt: skip
    yield with_weights(
        Call(
            module.forward_rnn, {"x": x, "a0": a0, "weight_dict": given},
            {("x",): SEQUENCE["x"], ("a0",): STATE},
        ), ("weight_dict",), axes,
    )  # fmt: skip
    cache = module.cell_rnn(a0, x[:, :, 0], given)[-1]
    backward = Call(
        module.backward_rnnCell, {"da_t_1": da[:, :, 0], "cache": cache}, {("da_t_1",): STATE}
    )
    with_cache(backward, ("cache",), cached, ("a_cur",))
    yield with_weights(backward, ("cache", 3), read)
    steps, _ = module.forward_rnn(x, a0, given)[-1]
    for caches in (steps, x), (list(steps), x):
        call = Call(
            module.backward_pass, {"da": da, "caches": caches},
            {("da",): ("n_a", "m", "T or more")},
        )  # fmt: skip
        yield with_steps(call, cached, read, True)


def of_layer(cell: Cell) -> Iterator[Call]:
    """The layer of a cell: how it is made, and its methods."""
    problem = cell.problem(N_X, N_A, M, T, N_Y)
    parameters = problem.parameters
    x, dh = (np.ascontiguousarray(array.T) for array in (problem.x, problem.da))
    read = WEIGHTS[cell.name]
    new = {key: ("n_a", "any") if key == "Wax" else axes for key, axes in read.items()}
    made = Call(
        cell.layer, {"parameters": parameters, "threads": 2, "training": True},
        others={("threads",): (*NOT_COUNTS, 0), ("training",): NOT_FLAGS},
    )  # fmt: skip
    yield with_weights(made, ("parameters",), new)

    layer = cell.layer(parameters, 2)
    inference = cell.layer(parameters, training=False)
    ws, few = layer.workspace(T, M), layer.workspace(T, M, training=False)
    updated = Call(
        layer.update, {"parameters": parameters, "copy": True}, others={("copy",): NOT_FLAGS}
    )
    yield with_weights(updated, ("parameters",), read)
    short = layer.workspace(1, M)

    def trained(parameters: Any) -> dict[str, Array]:
        """By unpacked weights."""
        layer.update(parameters, copy=False)
        layer.forward(x[:1], None, short)
        return layer.backward(dh[:1], None, short)

    call = Call(trained, {"parameters": parameters})
    yield with_weights(call, ("parameters",), read)
    yield Call(
        layer.workspace, {"T": T, "B": M, "training": True},
        others={("T",): (*NOT_COUNTS, HUGE), ("B",): (*NOT_COUNTS, HUGE), ("training",): NOT_FLAGS},
        optional={("training",)},
    )  # fmt: skip
    yield Call(inference.workspace, {"T": T, "B": M, "training": None},
               others={("training",): (*NOT_FLAGS, True)}, optional={("training",)})  # fmt: skip
    yield Call(layer.zero_state, {"B": M}, others={("B",): (*NOT_COUNTS, HUGE)})

    def with_state(call: Call, name: str, state: Any, optional: bool) -> Call:
        call.arguments[name] = state
        places: list[Place] = [(name,)]
        if isinstance(state, tuple):
            call.others[name,] = NOT_SEQUENCES
            places = [(name, i) for i in range(len(state))]
        call.arrays |= dict.fromkeys(places, ("m", "n_a"))
        if optional:
            call.optional |= {(name,), *places}
        return call

    arrays = [normal((M, N_A), seed=seed) for seed in range(len(cell.states))]
    state = tuple(arrays) if len(arrays) > 1 else arrays[0]
    wrong = (*NOT_WORKSPACES, layer.workspace(T + 1, M), layer.workspace(T, M - 1),
             inference.workspace(T, M))  # fmt: skip
    forward = Call(
        layer.forward, {"x": x, "workspace": ws}, {("x",): ("T", "m", "n_x")},
        others={("workspace",): wrong}, optional={("workspace",)},
    )  # fmt: skip
    yield with_state(forward, "state", state, True)
    layer.forward(x, None, few)
    backward = Call(
        layer.backward, {"dh": dh, "workspace": ws}, {("dh",): ("T", "m", "n_a")},
        others={("workspace",): (None, *wrong, few, layer.workspace(T, M))},
        prepare=lambda: layer.forward(x, state, ws),
    )  # fmt: skip
    yield with_state(backward, "dstate", state, True)

    fresh = [array.copy() for array in arrays]

    def restore() -> None:
        for array, kept in zip(arrays, fresh, strict=True):
            array[...] = kept

    step = Call(layer.step, {"x_t": x[0]}, {("x_t",): ("m", "n_x")}, prepare=restore)
    yield with_state(step, "state", state, False)
    step.overwritten = {place for place in step.arrays if place[0] == "state"}
    if isinstance(state, tuple):
        step.others[("state",)] += (list(state), (arrays[0], arrays[0]))


def of_activations() -> Iterator[Call]:
    """softmax, sigmoid and tanh, and what the notebooks have for them."""
    x = normal((3, 4, 2))
    for module in (fastrnn, *(getattr(notebooks, name) for name in NOTEBOOKS)):
        for name in module.__all__:
            if re.match("softmax|sigmoid|tanh", name):
                function = getattr(module, name)
                (argument,) = inspect.signature(function).parameters
                call = Call(function, {argument: x}, {(argument,): None})
                if name.startswith("softmax"):
                    call.others[(argument,)] = (1.0, np.float32(1), np.array(1))
                yield call


def of_files(folder: Path) -> Iterator[Call]:
    """The file of a character model."""
    characters = "abcdef"
    parameters = CELLS["lstm"].problem(N_Y, N_A, M, T, N_Y).parameters
    path = folder / "model.npz"
    arguments = {"path": path, "parameters": parameters, "characters": characters}
    save = Call(
        weights.save, arguments,
        others={("path",): NOT_PATHS, ("characters",): NOT_CHARACTERS},
    )  # fmt: skip
    axes = WEIGHTS["lstm"] | {key: HEAD[key] for key in ("Wy", "by")}
    axes = {
        key: ("n_a", "n_a + n_y") if wide == ("n_a", "n_a + n_x") else wide
        for key, wide in axes.items()
    }
    yield with_weights(save, ("parameters",), axes)
    weights.save(**arguments)
    for function in weights.load, weights.check_writable:
        yield Call(function, {"path": path}, others={("path",): NOT_PATHS})


NOTEBOOKS = "compact", "exercise", "from_scratch", "full_rnn", "step_by_step"


def all_calls(folder: Path) -> list[Call]:
    """Right calls of every public function."""
    found = [Call(fastrnn.warmup, {"dtypes": []}, others={("dtypes",): NOT_DTYPES})]
    for cell in CELLS.values():
        found += [*of_functions(fastrnn, cell), *of_layer(cell)]
    for name in NOTEBOOKS[:-1]:
        found += of_functions(getattr(notebooks, name), RNN)
    found += of_functions(notebooks.from_scratch, CELLS["lstm"])
    return [*found, *of_step_by_step(), *of_activations(), *of_files(folder)]


# --- wrong calls --------------------------------------------------------------------------


def value_at(arguments: Any, place: Place) -> Any:
    for key in place:
        arguments = arguments[key]
    return arguments


def replaced(tree: Any, place: Place, value: Any) -> Any:
    """A copy of these arguments with another value at a place; what is not on the way is shared."""
    if not place:
        return value
    changed: Any = dict(tree) if isinstance(tree, Mapping) else list(tree)
    changed[place[0]] = replaced(tree[place[0]], place[1:], value)
    return tuple(changed) if isinstance(tree, tuple) else changed


def reshaped(rng: Generator, array: Array) -> Array:
    """The array in another shape, most often."""
    axis = int(rng.integers(array.ndim))
    match rng.integers(8):
        case 0:
            return array.take(0, axis)
        case 1:
            return np.expand_dims(array, int(rng.integers(array.ndim + 1)))
        case 2:
            return np.concatenate((array, array.take([0], axis)), axis)
        case 3:
            return array.take(range(array.shape[axis] - 1), axis)
        case 4:
            return array.transpose(rng.permutation(array.ndim))
        case 5:
            return array.take([], axis)
        case 6:
            shape = list(array.shape)
            shape[axis] = 1 << 40
            return np.broadcast_to(array.take([0], axis), shape)
        case _:
            return array.reshape(-1) if rng.random() < 0.5 else np.array(array.flat[0])


def broken(rng: Generator, call: Call, place: Place) -> Any:
    """A value that is wrong there, or, by chance, right: see `is_right`."""
    value = value_at(call.arguments, place)
    options = list(call.others.get(place, ()))
    if place in call.mappings:
        keys = call.mappings[place]
        key = keys[rng.integers(len(keys))]
        fewer = {name: each for name, each in value.items() if name != key}
        options += [*NOT_MAPPINGS, {}, fewer, fewer | {key.lower() + " ": value[key]}]
    elif place in call.arrays:
        options += [each for each, _, _ in NOT_REAL.values()]
        if place in call.overwritten:
            options += not_overwritable(value)
        if rng.random() < 0.5:
            return reshaped(rng, value)
    elif isinstance(value, tuple):
        options += [(), value[:-1], value[1:], (*value, value[0])]
    return options[rng.integers(len(options))]


def not_overwritable(array: Array) -> list[Any]:
    """What can be read as this array and not be written."""
    locked = array.copy()
    locked.flags.writeable = False
    return [array.tolist(), np.asfortranarray(array), locked, array.astype(">f8"), array[::-1],
            array.view(np.matrix), memoryview(array)]  # fmt: skip


def is_right(call: Call, place: Place, value: Any) -> bool:
    """Whether a broken value is right after all."""
    if value is None:
        return place in call.optional
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and place in call.arrays:
        return call.fits(place, value.shape) and (
            place not in call.overwritten or (type(value) is np.ndarray and value.flags.carray)
        )
    return False


def wrong_call(rng: Generator, call: Call) -> tuple[Place, dict[str, Any]]:
    """Arguments with one thing broken, and where."""
    while True:
        places = call.places()
        place = places[rng.integers(len(places))]
        value = broken(rng, call, place)
        if not is_right(call, place, value):
            return place, replaced(call.arguments, place, value)


# --- the trial ----------------------------------------------------------------------------


def snapshot(value: Any) -> Any:
    """What an argument holds, to be compared with what it holds later."""
    if isinstance(value, np.ndarray):
        if 0 in value.strides and value.size:  # may be larger than any memory
            return value.shape, value.dtype, value[(0,) * value.ndim].tobytes()
        return value.shape, value.dtype, value.strides, value.flags.writeable, value.tobytes()
    if isinstance(value, dict):
        return [(key, snapshot(each)) for key, each in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [snapshot(each) for each in value]
    return type(value), id(value)


def results(call: Call) -> list[Array]:
    """All arrays that the right call returns, copied."""
    call.prepare()
    found: list[Array] = []

    def gather(value: Any) -> None:
        if isinstance(value, np.ndarray):
            found.append(value.copy())
        elif isinstance(value, Mapping):
            gather(list(value.values()))
        elif isinstance(value, list | tuple):
            for each in value:
                gather(each)

    gather(call.function(**call.arguments))
    return found


def described(call: Call, place: Place, value: Any) -> str:
    where = "".join(f"[{key!r}]" for key in place)
    shape = f" of shape {value.shape}" if isinstance(value, np.ndarray) else ""
    name = f"{call.function.__module__}.{call.function.__qualname__}"
    return f"{name} with {where} = {value!r:.200}{shape}"


def complaint(call: Call, arguments: dict[str, Any]) -> str | None:
    """What is amiss with the answer to a wrong call, if anything."""
    before = snapshot(arguments)
    try:
        call.function(**arguments)
    except REFUSALS as error:
        message = str(error)
        # A file is named, and a copy that NumPy has no room for is larger than what can be given.
        named = isinstance(error, weights.WeightsError) or "Unable to allocate" in message
        if not named and not any(
            re.search(rf"\b{re.escape(name)}\b", message) for name in call.names()
        ):
            return f"names no argument: {type(error).__name__}: {message}"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    else:
        return "was not refused"
    return None if snapshot(arguments) == before else "changed an argument"


def run(calls: int, seed: int) -> tuple[int, list[str]]:
    """Try so many wrong calls; how many there were of how many functions, and complaints."""
    complaints: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", notebooks.NotebookErratumWarning)
        right = all_calls(Path(folder))
        expected = [results(call) for call in right]
        for n in range(calls):
            rng = np.random.default_rng((seed, n))
            call = right[n % len(right)]
            call.prepare()
            place, arguments = wrong_call(rng, call)
            if fault := complaint(call, arguments):
                complaints[f"{described(call, place, value_at(arguments, place))}: {fault}"] = None
            if n % 1000 == 999 or n == calls - 1:
                for call, wanted in zip(right, expected, strict=True):
                    if not all(map(same_bits, results(call), wanted)):
                        complaints[f"{call.function} after call {n} returns something else"] = None
    return len(right), list(complaints)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    start = time.perf_counter()
    functions, complaints = run(options.calls, options.seed)
    for line in complaints:
        print(line)
    seconds = time.perf_counter() - start
    print(f"{options.calls} wrong calls of {functions} right ones in {seconds:.0f} s; "
          f"{len(complaints)} complaints")  # fmt: skip
    return len(complaints) > 0


if __name__ == "__main__":
    raise SystemExit(main())

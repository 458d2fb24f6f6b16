"""Bad arguments of every public function: which error, and what its message says."""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastrnn
from fastrnn.checks import common_dtype, ready
from tests.cells import CELLS, Cell
from tests.problems import normal

N_X, N_A, M, T, N_Y = 3, 5, 4, 2, 6
AXES = {
    "x": ("n_x", "m", "T"),
    "xt": ("n_x", "m"),
    "dz": ("n_y", "m", "T"),
    "da": ("n_a", "m", "T"),
}
SIZES = {"n_x": N_X, "n_a": N_A, "m": M, "T": T, "n_y": N_Y}


class Call(NamedTuple):
    """A public function with arguments that are right, by name."""

    function: Callable[..., Any]
    arguments: dict[str, Any]

    def __call__(self, **changed: Any) -> Any:
        return self.function(**{**self.arguments, **changed})


def array(name: str, seed: int = 0) -> Any:
    axes = AXES.get(name, ("n_a", "m"))
    return normal(tuple(SIZES[axis] for axis in axes), seed=seed)


ACTIVATIONS = "sigmoid", "tanh", "softmax"

# Their arguments that are arrays.
ARRAYS = dict.fromkeys(ACTIVATIONS, ("x",)) | {
    "rnn_forward": ("x", "a0"),
    "rnn_backward": ("da",),
    "rnn_cell_forward": ("xt", "a_prev"),
    "rnn_cell_backward": ("da_next",),
    "output_backward of rnn": ("dz",),
    "lstm_forward": ("x", "a0"),
    "lstm_backward": ("da",),
    "lstm_cell_forward": ("xt", "a_prev", "c_prev"),
    "lstm_cell_backward": ("da_next", "dc_next"),
    "output_backward of lstm": ("dz",),
}


@cache
def calls() -> dict[str, Call]:
    """Every public function of whole arrays, by name."""
    found = {name: Call(getattr(fastrnn, name), {"x": array("x")}) for name in ACTIVATIONS}
    for cell in CELLS.values():
        problem = cell.problem(N_X, N_A, M, T, N_Y)
        parameters, x, a0, da = problem
        _, caches = cell.forward(fastrnn, problem)
        inputs, upstream = cell.step_inputs(problem), cell.step_upstream(problem)
        *_, kept = cell.function(fastrnn, "cell_forward")(*inputs.values(), parameters)
        dz = array("dz")
        for kind, arguments in (
            ("forward", {"x": x, "a0": a0, "parameters": parameters}),
            ("backward", {"da": da, "caches": caches}),
            ("cell_forward", {**inputs, "parameters": parameters}),
            ("cell_backward", {**upstream, "cache": kept}),
        ):
            found[f"{cell.name}_{kind}"] = Call(cell.function(fastrnn, kind), arguments)
        found[f"output_backward of {cell.name}"] = Call(
            fastrnn.output_backward, {"dz": dz, "caches": caches}
        )
    return found


def test_every_public_function_is_here() -> None:
    functions = {name for name in fastrnn.__all__ if inspect.isfunction(getattr(fastrnn, name))}
    called = {call.function.__name__ for call in calls().values()}
    assert functions - {"warmup"} == called
    for label, call in calls().items():
        call()
        arrays = tuple(k for k, v in call.arguments.items() if isinstance(v, np.ndarray))
        assert arrays == ARRAYS[label]


def refusal(call: Callable[[], Any], *kinds: type[Exception]) -> str:
    """The message with which a call is refused, which says what was wanted."""
    with pytest.raises(kinds) as caught:
        call()
    assert type(caught.value) in kinds
    (message,) = caught.value.args
    assert "wanted" in message
    assert isinstance(message, str)
    return message


# --- arrays -----------------------------------------------------------------------------


class Foreign:
    """Another library's array that will not be NumPy's, as one with a gradient to come."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self.error("not now")


# What comes, and what the message says that came.
NOT_REAL: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (None, TypeError, "None"),
    "text": ("text", TypeError, "<U4"),
    "bytes": (b"text", TypeError, "|S4"),
    "complex": (np.ones((N_A, M), complex), TypeError, "complex128"),
    "complex number": (1j, TypeError, "complex"),
    "objects": (np.full((N_A, M), None), TypeError, "object"),
    "list of text": ([["a", "b"]], TypeError, "<U1"),
    "list of None": ([[None, 1.0]], TypeError, "object"),
    "huge integers": ([[10**400]], TypeError, "object"),
    "dict": ({}, TypeError, "dict"),
    "set": ({1.0}, TypeError, "set"),
    "generator": ((n for n in range(3)), TypeError, "generator"),
    "dates": (np.zeros((N_A, M), "M8[s]"), TypeError, "datetime64"),
    "durations": (np.zeros((N_A, M), "m8[s]"), TypeError, "timedelta64"),
    "records": (np.zeros((N_A, M), [("a", float)]), TypeError, "[('a', '<f8')]"),
    "ragged list": ([[1.0, 2.0], [3.0]], ValueError, "no array"),
    "list of arrays": ([np.zeros((2, 3)), np.zeros((3, 2))], ValueError, "no array"),
    "foreign array with a gradient": (Foreign(RuntimeError), TypeError, "no array (not now)"),
    "foreign array of a foreign type": (Foreign(TypeError), TypeError, "no array (not now)"),
    "foreign array without memory": (Foreign(AttributeError), TypeError, "no array (not now)"),
}


each_array = pytest.mark.parametrize(
    ("label", "name"), [(label, name) for label, names in ARRAYS.items() for name in names]
)


@each_array
@pytest.mark.parametrize("bad", NOT_REAL)
def test_not_an_array_of_real_numbers(label: str, name: str, bad: str) -> None:
    call = calls()[label]
    value, error, came = NOT_REAL[bad]
    message = refusal(lambda: call(**{name: value}), error)
    assert message.startswith(f"{name} ")
    assert came in message
    assert message.endswith("wanted an array of real numbers")


@each_array
def test_wrong_number_of_axes(label: str, name: str) -> None:
    call = calls()[label]
    value = call.arguments[name]
    if call.function.__name__ in ACTIVATIONS:
        return
    for wrong in (value[0], value[None], value[..., None], 1.0, np.float32(1), np.array(1)):
        message = refusal(lambda wrong=wrong: call(**{name: wrong}), ValueError)
        shape = np.shape(wrong)
        assert message.startswith(f"{name} has shape {shape}, {len(shape)} axes; wanted (n_")


def test_softmax_of_a_number() -> None:
    message = refusal(lambda: fastrnn.softmax(1.0), ValueError)
    assert message == "x has shape (), no axis; wanted (n, ...)"


@each_array
def test_wrong_sizes(label: str, name: str) -> None:
    """A wrong size is told from the sizes of the others, and either may be named."""
    call = calls()[label]
    value = call.arguments[name]
    if call.function.__name__ in ACTIVATIONS:
        return
    names = tuple(f"{key} has shape " for key in call.arguments)
    names += tuple(f"parameters[{key!r}] has shape " for key in ["Wax", "Wf", "Wya", "Wy"])
    for axis, meaning in enumerate(AXES.get(name, ("n_a", "m"))):
        longer = np.concatenate((value, value.take([0], axis)), axis)
        shorter = value.take(range(value.shape[axis] - 1), axis)
        if (name, meaning) == ("x", "T"):
            continue  # the one axis that nothing else has
        for wrong in (longer, shorter):
            if meaning == "T" and wrong is shorter:
                call(**{name: wrong})
                continue
            message = refusal(lambda wrong=wrong: call(**{name: wrong}), ValueError)
            assert message.startswith(names)
            if meaning == "T":
                assert message == (
                    f"{name} has shape {wrong.shape}, 3 steps; wanted at most 2, "
                    "as many as caches has"
                )
            else:
                assert f"{meaning} = " in message


# --- parameters -------------------------------------------------------------------------


each_with_parameters = pytest.mark.parametrize(
    ("cell", "kind"),
    [
        pytest.param(cell, kind, id=f"{cell.name} {kind}")
        for cell in CELLS.values()
        for kind in ("forward", "cell_forward", "layer", "update")
    ],
)


def with_parameters(cell: Cell, kind: str) -> tuple[Call, tuple[str, ...]]:
    """A function that takes parameters, or the layer's maker or update, and the keys it needs."""
    parameters = cell.problem(N_X, N_A, M, T, N_Y).parameters
    if kind in ("layer", "update"):
        function = cell.layer if kind == "layer" else cell.layer(parameters).update
        return Call(function, {"parameters": parameters}), cell.weights
    return calls()[f"{cell.name}_{kind}"], tuple(parameters)


@each_with_parameters
def test_parameters_that_are_no_mapping(cell: Cell, kind: str) -> None:
    call, keys = with_parameters(cell, kind)
    for wrong in (None, 3, "Wax", [1, 2], (1, 2), np.zeros(3)):
        message = refusal(lambda wrong=wrong: call(parameters=wrong), TypeError)
        assert message.startswith(f"parameters is {type(wrong).__name__}; wanted a mapping with")
        assert all(key in message for key in keys)


@each_with_parameters
def test_missing_keys(cell: Cell, kind: str) -> None:
    call, keys = with_parameters(cell, kind)
    parameters = call.arguments["parameters"]
    for key in keys:
        fewer = {name: value for name, value in parameters.items() if name != key}
        message = refusal(lambda fewer=fewer: call(parameters=fewer), KeyError)
        assert message.startswith(f"parameters lacks {key}; it has {', '.join(fewer)}; wanted ")
    message = refusal(lambda: call(parameters={}), KeyError)
    assert message.startswith("parameters lacks ")
    assert "it has no keys" in message
    message = refusal(lambda: call(parameters={1: 2}), KeyError)
    assert "it has 1;" in message


@each_with_parameters
def test_weights_of_a_closed_file(cell: Cell, kind: str) -> None:
    call, keys = with_parameters(cell, kind)
    file = io.BytesIO()
    np.savez(file, **call.arguments["parameters"])
    file.seek(0)
    with np.load(file) as archive:
        call(parameters=archive)
    message = refusal(lambda: call(parameters=archive), ValueError)
    assert message.startswith(f"parameters[{keys[0]!r}] cannot be read (")


@each_with_parameters
@pytest.mark.parametrize("bad", NOT_REAL)
def test_weights_that_are_no_arrays(cell: Cell, kind: str, bad: str) -> None:
    call, keys = with_parameters(cell, kind)
    value, error, came = NOT_REAL[bad]
    for key in keys:
        changed = call.arguments["parameters"] | {key: value}
        message = refusal(lambda changed=changed: call(parameters=changed), error)
        assert message.startswith(f"parameters[{key!r}] ")
        assert came in message


@each_with_parameters
def test_weights_of_wrong_shapes(cell: Cell, kind: str) -> None:
    call, keys = with_parameters(cell, kind)
    parameters = call.arguments["parameters"]
    names = ("parameters[", "x has shape", "xt has shape", "a0 has shape", "a_prev has shape")
    for key in keys:
        value = parameters[key]
        for wrong in (value[0], value[None], 1.0):
            changed = parameters | {key: wrong}
            message = refusal(lambda changed=changed: call(parameters=changed), ValueError)
            assert message.startswith(f"parameters[{key!r}] has shape {np.shape(wrong)}, ")
        for axis in (0, 1):
            if key not in ("by", "ba", "bf", "bi", "bc", "bo") and value.shape[axis] == 1:
                continue
            for wrong in (
                np.concatenate((value, value.take([0], axis)), axis),
                value.take(range(value.shape[axis] - 1), axis),
            ):
                changed = parameters | {key: wrong}
                if (key, axis, kind) == ("Wax", 1, "layer"):
                    call(parameters=changed)  # another D, and nothing to hold it against
                    continue
                message = refusal(lambda changed=changed: call(parameters=changed), ValueError)
                assert message.startswith(names)
                assert " = " in message or "wanted (" in message


@pytest.mark.parametrize("kind", ["forward", "cell_forward", "layer"])
def test_lstm_weights_narrower_than_the_state(kind: str) -> None:
    call, _ = with_parameters(CELLS["lstm"], kind)
    narrow = {f"W{gate}": np.zeros((N_A, N_A - 1)) for gate in "fico"}
    message = refusal(lambda: call(parameters=call.arguments["parameters"] | narrow), ValueError)
    assert message == "parameters['Wf'] has shape (5, 4); wanted (n_a, n_a + n_x) with n_a = 5"


# --- caches -----------------------------------------------------------------------------


each_backward = pytest.mark.parametrize(
    ("cell", "label"),
    [
        pytest.param(cell, label, id=label)
        for cell in CELLS.values()
        for label in (f"{cell.name}_backward", f"output_backward of {cell.name}")
    ],
)
each_cell = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


@each_backward
def test_caches_that_are_none(cell: Cell, label: str) -> None:
    call = calls()[label]
    steps, x = call.arguments["caches"]
    pair = "wanted a tuple (per-step caches, x)"
    tuples = f"wanted ({', '.join(cell.cache)})"
    bad: list[tuple[Any, type[Exception], str, str]] = [
        (None, TypeError, "caches is NoneType", pair),
        (3, TypeError, "caches is int", pair),
        ("ab", TypeError, "caches is str", pair),
        (x, TypeError, "caches is ndarray", pair),
        ({0: steps, 1: x}, TypeError, "caches is dict", pair),
        ((), ValueError, "caches has 0 items", pair),
        ((steps,), ValueError, "caches has 1 items", pair),
        ((steps, x, x), ValueError, "caches has 3 items", pair),
        ((None, x), TypeError, "caches[0] is NoneType", "wanted a list of per-step caches"),
        ((x, steps), TypeError, "caches[0] is ndarray", "wanted a list of per-step caches"),
        (([], x), ValueError, "caches[0] is empty", "for each step"),
    ]
    if call.function is not fastrnn.output_backward:  # which takes a 4-tuple for an RNN's
        bad += [
            (("ab", x), TypeError, "caches[0][0] is str", tuples),
            (([None], x), TypeError, "caches[0][0] is NoneType", tuples),
            (([1], x), TypeError, "caches[0][0] is int", tuples),
            (([x], x), TypeError, "caches[0][0] is ndarray", tuples),
            (([steps[0][:3]], x), ValueError, "caches[0][0] has 3 items", tuples),
        ]
    bad += [
        (([steps[0], None], x), TypeError, "caches[0][1] is NoneType", tuples),
        (([steps[0], steps[1][1:]], x), ValueError, f"has {len(cell.cache) - 1} items", tuples),
    ]
    for caches, error, came, wanted in bad:
        message = refusal(lambda caches=caches: call(caches=caches), error)
        assert message.startswith("caches")
        assert came in message
        assert wanted in message


@pytest.mark.parametrize("wrong", [None, 1, "text", (), (1, 2)], ids=str)
def test_output_backward_of_steps_that_are_none(wrong: Any) -> None:
    dz, (_, x) = calls()["output_backward of rnn"].arguments.values()
    message = refusal(lambda: fastrnn.output_backward(dz, ([wrong], x)), TypeError, ValueError)
    assert message.startswith("caches[0][0] ")


@each_backward
def test_arrays_in_caches(cell: Cell, label: str) -> None:
    call = calls()[label]
    steps, x = call.arguments["caches"]
    for at, name in enumerate(cell.cache[:-1]):
        for wrong, error, came in (
            (None, TypeError, "is None"),
            ("text", TypeError, "<U4"),
            (steps[1][at].astype(complex), TypeError, "complex128"),
            ([[1.0], [1.0, 2.0]], ValueError, "no array"),
            (steps[1][at][0], ValueError, f"has shape ({M},), 1 axes"),
            (steps[1][at][:, :-1], ValueError, f", {M - 1})"),
            (steps[1][at][:-1], ValueError, "has shape"),
        ):
            cache = list(steps[1])
            cache[at] = wrong
            plain = [steps[0], tuple(cache)]
            message = refusal(lambda plain=plain: call(caches=(plain, x)), error)
            assert message.startswith(f"{name} in caches[0][1] ")
            assert came in message


@each_backward
def test_caches_of_the_other_cell(cell: Cell, label: str) -> None:
    call = calls()[label]
    if call.function is fastrnn.output_backward:
        return  # it takes both
    (other,) = (other for other in CELLS.values() if other is not cell)
    steps, x = calls()[f"{other.name}_backward"].arguments["caches"]
    for caches in ((steps, x), (list(steps), x)):
        message = refusal(lambda caches=caches: call(caches=caches), ValueError)
        assert message.startswith(f"caches[0][0] has {len(other.cache)} items; wanted (a_next,")


@each_backward
def test_parameters_in_caches(cell: Cell, label: str) -> None:
    call = calls()[label]
    steps, x = call.arguments["caches"]
    head = call.function is fastrnn.output_backward
    keys = (cell.head,) if head else cell.weights
    for wrong, error, came in (
        (None, TypeError, "parameters is NoneType; wanted a mapping"),
        (3, TypeError, "parameters is int; wanted a mapping"),
        ({}, KeyError, f"parameters lacks {keys[0]}"),
        ({**steps[0][-1], keys[0]: None}, TypeError, f"parameters[{keys[0]!r}] is None"),
        ({**steps[0][-1], keys[0]: np.zeros((9, 9))}, ValueError, "has shape (9, 9)"),
    ):
        plain = [(*cache[:-1], wrong) for cache in steps]
        assert came in refusal(lambda plain=plain: call(caches=(plain, x)), error)


@each_backward
def test_parameters_that_differ_between_steps(cell: Cell, label: str) -> None:
    call = calls()[label]
    steps, x = call.arguments["caches"]
    parameters = steps[0][-1]
    equal = {key: np.array(array) for key, array in parameters.items()}
    plain = [*list(steps)[:-1], (*steps[-1][:-1], equal)]
    for name, array in call().items():
        np.testing.assert_array_equal(call(caches=(plain, x))[name], array)
    key = cell.head if call.function is fastrnn.output_backward else cell.weights[0]
    for value in parameters[key] + 1, np.full_like(parameters[key], np.nan):
        other = {**parameters, key: value}
        plain = [*list(steps)[:-1], (*steps[-1][:-1], other)]
        message = refusal(lambda plain=plain: call(caches=(plain, x)), ValueError)
        assert f"parameters in caches[0][{len(steps) - 1}] are not those in caches[0][0]" in message
        assert "wanted one set" in message
    nan = {key: np.full_like(array, np.nan) for key, array in parameters.items()}
    plain = [(*cache[:-1], {**nan, key: nan[key].copy()}) for cache in steps]
    call(caches=(plain, x))


@each_cell
def test_a_cache_that_is_none(cell: Cell) -> None:
    call = calls()[f"{cell.name}_cell_backward"]
    good = call.arguments["cache"]
    (other,) = (other for other in CELLS.values() if other is not cell)
    other_cache = calls()[f"{other.name}_cell_backward"].arguments["cache"]
    for wrong, error, came in (
        (None, TypeError, "NoneType"),
        (3, TypeError, "int"),
        ("text", TypeError, "str"),
        ((), ValueError, "0 items"),
        (good[:-1], ValueError, f"{len(good) - 1} items"),
        ((*good, 1), ValueError, f"{len(good) + 1} items"),
        (other_cache, ValueError, f"{len(other_cache)} items"),
    ):
        message = refusal(lambda wrong=wrong: call(cache=wrong), error)
        assert message.startswith("cache ")
        assert came in message
        assert f"wanted ({', '.join(cell.cache)})" in message


# --- layers -----------------------------------------------------------------------------


LAYER_ARRAYS = {
    "rnn": ("x", "dh", "x_t", "state", "dstate"),
    "lstm": ("x", "dh", "x_t", "state[0]", "state[1]", "dstate[0]", "dstate[1]"),
}


@pytest.mark.parametrize(
    ("cell", "label"),
    [(cell, label) for cell in CELLS.values() for label in LAYER_ARRAYS[cell.name]],
    ids=lambda value: getattr(value, "name", value),
)
def test_arrays_of_a_layer(cell: Cell, label: str) -> None:
    layer = cell.layer(cell.problem(N_X, N_A, M, T, N_Y).parameters)
    ws = layer.workspace(T, M)
    x, dh, h = normal((T, M, N_X)), normal((T, M, N_A)), normal((M, N_A))
    layer.forward(x, None, ws)
    name, at = label.split("[")[0], "1]" in label
    good = {"x": x, "dh": dh, "x_t": x[0]}.get(name, h)

    def call(value: Any) -> Any:
        if "[" in label:
            value = (h, value) if at else (value, h)
        if name in ("dh", "dstate"):
            return layer.backward(**{"dh": dh, name: value}, workspace=ws)
        if name == "x_t":
            return layer.step(value, layer.zero_state(M))
        return layer.forward(**{"x": x, name: value})

    for value, error, came in NOT_REAL.values():
        if value is None and "state" in name:
            continue  # zeros
        message = refusal(lambda value=value: call(value), error)
        assert message.startswith(f"{label} ")
        assert came in message
    for wrong in (good[0], good[None], 1.0):
        message = refusal(lambda wrong=wrong: call(wrong), ValueError)
        shape = np.shape(wrong)
        assert message.startswith(f"{label} has shape {shape}, {len(shape)} axes; wanted (")
    for wrong in (good[..., :-1], good[..., :-1].copy()):  # kernels would take only the copy
        message = refusal(lambda wrong=wrong: call(wrong), ValueError)
        assert message.startswith(f"{label} has shape {wrong.shape}; wanted (")
    if "state" in name:
        message = refusal(lambda: call(good[:-1]), ValueError)
        assert message.startswith(f"{label} has shape {good[:-1].shape}; wanted (B, H) with B = 4")
    call(good)


def test_states_of_an_lstm_that_are_no_pairs() -> None:
    layer = fastrnn.LSTM(CELLS["lstm"].problem(N_X, N_A, M, T, N_Y).parameters)
    ws = layer.workspace(T, M)
    x, h, dh = normal((T, M, N_X)), np.zeros((M, N_A)), normal((T, M, N_A))
    layer.forward(x, None, ws)
    for wrong, error, came in (
        (h, TypeError, "ndarray"),
        ("hc", TypeError, "str"),
        (3, TypeError, "int"),
        ((h,), ValueError, "1 items"),
        ((h, h, h), ValueError, "3 items"),
    ):
        for call, name in (
            (Call(layer.forward, {"x": x}), "state"),
            (Call(layer.backward, {"dh": dh, "workspace": ws}), "dstate"),
            (Call(layer.step, {"x_t": x[0]}), "state"),
        ):
            message = refusal(lambda c=call, n=name, w=wrong: c(**{n: w}), error)
            assert message.startswith(f"{name} ")
            assert came in message
            assert "wanted a tuple (h, c)" in message


@each_cell
def test_counts(cell: Cell) -> None:
    parameters = cell.problem(N_X, N_A, M, T, N_Y).parameters
    layer = cell.layer(parameters)
    for name, least, call in (
        ("threads", 1, lambda n: cell.layer(parameters, n)),
        ("T", 0, lambda n: layer.workspace(n, M)),
        ("B", 0, lambda n: layer.workspace(T, n)),
        ("B", 0, layer.zero_state),
    ):
        for wrong in (None, 1.0, "2", True, np.float64(1), [1]):
            message = refusal(lambda call=call, wrong=wrong: call(wrong), TypeError)
            assert message == f"{name} is {type(wrong).__name__}; wanted an int"
        for wrong in (least - 1, -7, np.int64(least - 1)):
            message = refusal(lambda call=call, wrong=wrong: call(wrong), ValueError)
            assert message == f"{name} is {wrong}; wanted {least} or more"
        call(np.int32(2))


@each_cell
def test_sizes_that_no_memory_holds(cell: Cell) -> None:
    layer = cell.layer(cell.problem(N_X, N_A, M, T, N_Y).parameters)
    for huge in (1 << 61, 1 << 70):
        for call, message in (
            (lambda n: layer.workspace(n, M), f"T is {huge} and B {M}; "),
            (lambda n: layer.workspace(T, n), f"T is {T} and B {huge}; "),
            (layer.zero_state, f"B is {huge}; "),
        ):
            with pytest.raises(MemoryError, match=message):
                call(huge)


@each_cell
def test_training_is_a_bool(cell: Cell) -> None:
    parameters = cell.problem(N_X, N_A, M, T, N_Y).parameters
    layer = cell.layer(parameters, training=np.True_)
    assert layer.training is True
    for wrong in ("no", 0, np.zeros(2)):
        for call in (
            lambda w: cell.layer(parameters, training=w),
            lambda w: layer.workspace(1, 1, w),
        ):
            message = refusal(lambda call=call, wrong=wrong: call(wrong), TypeError)
            assert message == f"training is {type(wrong).__name__}; wanted a bool"


@each_cell
def test_a_refused_update_leaves_the_weights(cell: Cell) -> None:
    problem = cell.problem(N_X, N_A, M, T, N_Y)
    layer = cell.layer(problem.parameters)
    x = problem.x.T
    before, _ = layer.forward(x)
    new = cell.problem(N_X, N_A, M, T, N_Y, seed=1).parameters
    for key in cell.weights:
        refusal(lambda key=key: layer.update(new | {key: np.zeros((9, 9))}), ValueError)
    assert np.array_equal(layer.forward(x)[0], before)


# --- the types that are computed in -----------------------------------------------------


def test_common_dtype_is_one_of_two_objects() -> None:
    single, double = np.dtype(np.float32), np.dtype(np.float64)
    for dtype in (single, double):
        again = copy.deepcopy(np.zeros(1, np.dtype(dtype.str, copy=True)))
        assert common_dtype([again]) is dtype
        assert common_dtype([again, np.zeros(1, dtype.newbyteorder(">"))]) is dtype
        assert common_dtype([np.zeros(1, dtype.newbyteorder(">"))]) is dtype


def test_ready_copies_only_what_it_must() -> None:
    array = normal((3, 4))
    assert ready(array, array.dtype) is array
    for other in (array.T, array[::2], array[:, 1:], np.asfortranarray(array)):
        copied = ready(other, array.dtype)
        assert copied.flags.carray
        assert not np.shares_memory(copied, array)
        assert np.array_equal(copied, other)
    assert ready(array, np.dtype(np.float32)).dtype == np.float32

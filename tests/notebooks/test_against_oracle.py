"""Every function of every notebook module against plain NumPy: names, layouts, keys and values."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import fastrnn
from fastrnn.notebooks import compact, exercise, from_scratch, full_rnn, step_by_step
from tests.notebooks.oracle import Compact, Exercise, FromScratch, FullRNN, StepByStep, same
from tests.problems import lstm_problem, normal, rnn_problem

Array = NDArray[Any]
Sizes = Any  # n_x, n_a, m, T, n_y

pytestmark = pytest.mark.filterwarnings("ignore::fastrnn.notebooks.NotebookErratumWarning")

# The functions of each notebook and their arguments: first the cell's and the sequence's forward,
# then the cell's and the sequence's backward.
RNN = {
    "rnn_cell_forward": ("xt", "a_prev", "parameters"),
    "rnn_forward": ("x", "a0", "parameters"),
    "rnn_cell_backward": ("da_next", "cache"),
    "rnn_backward": ("da", "caches"),
}
STEP_BY_STEP = {
    "cell_rnn": ("a_prev", "x_curr", "weight_dict"),
    "forward_rnn": ("x", "a0", "weight_dict"),
    "backward_rnnCell": ("da_t_1", "cache"),
    "backward_pass": ("da", "caches"),
}
LSTM = {
    "lstm_cell_forward": ("xt", "a_prev", "c_prev", "parameters"),
    "lstm_forward": ("x", "a0", "parameters"),
}
SOFTMAX = {"softmax": ("x",)}
SIGMOID = {"sigmoid": ("x",)}
CELL, SEQUENCE, CELL_BACK, SEQUENCE_BACK = range(4)


class Notebook(NamedTuple):
    module: Any
    oracle: Any
    functions: dict[str, tuple[str, ...]]

    def functions_of(self, which: int) -> tuple[Any, Any]:
        """The module's function and the oracle's."""
        name = list(self.functions)[which]
        return getattr(self.module, name), getattr(self.oracle, name)

    def both(self, which: int, *arguments: Any) -> tuple[Any, Any]:
        """What the module's function and the oracle's return."""
        ours, theirs = self.functions_of(which)
        return ours(*arguments), theirs(*arguments)

    def problem(self, sizes: Sizes, **options: Any) -> tuple[Any, Array, Array, Array]:
        parameters, x, a0, da = rnn_problem(*sizes, **options)
        if self.module is step_by_step:
            parameters = {theirs: parameters[ours] for theirs, ours in step_by_step.KEYS.items()}
        return parameters, x, a0, da

    def cell_arguments(self, xt: Array, a_prev: Array, parameters: Any) -> tuple[Any, ...]:
        given = {"xt": xt, "x_curr": xt, "a_prev": a_prev}
        *arrays, _ = next(iter(self.functions.values()))
        return *(given[name] for name in arrays), parameters


NOTEBOOKS = {
    "full_rnn": Notebook(full_rnn, FullRNN, RNN | SOFTMAX),
    "step_by_step": Notebook(step_by_step, StepByStep, STEP_BY_STEP | {"softmax_func": ("yhat",)}),
    "from_scratch": Notebook(from_scratch, FromScratch, RNN | LSTM | SOFTMAX | SIGMOID),
    "compact": Notebook(compact, Compact, RNN | SOFTMAX),
    "exercise": Notebook(
        exercise, Exercise, RNN | {"softmax_forward": ("x",), "tanh_forward": ("x",)}
    ),
}
SIZES = (
    (1, 1, 1, 1, 1),
    (3, 5, 10, 4, 2),
    (2, 17, 3, 5, 4),
    (7, 65, 2, 9, 3),
    (5, 130, 4, 6, 3),
    (40, 64, 10, 33, 12),
)

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS.values(), ids=NOTEBOOKS)
each_size = pytest.mark.parametrize("sizes", SIZES, ids=str)


def read(steps: Any) -> list[Any]:
    """The arrays of all per-step caches."""
    return [cache[:-1] for cache in steps]


def random_caches(notebook: Notebook, sizes: Sizes) -> Any:
    """Caches whose states do not follow from one another, nor from the weights."""
    parameters, x, *_ = notebook.problem(sizes)
    n_x, n_a, m, T, _ = sizes
    states = np.tanh(normal((2 * T, n_a, m)))
    inputs = normal((T, n_x, m))
    return [(*states[2 * t : 2 * t + 2], inputs[t], parameters) for t in range(T)], x


@each_notebook
def test_names_of_functions_and_arguments(notebook: Notebook) -> None:
    assert sorted(notebook.module.__all__) == sorted(notebook.functions)
    for name, arguments in notebook.functions.items():
        assert tuple(inspect.signature(getattr(notebook.module, name)).parameters) == arguments


@each_notebook
@each_size
def test_cell(notebook: Notebook, sizes: Sizes) -> None:
    parameters, x, a0, da = notebook.problem(sizes)
    arguments = notebook.cell_arguments(x[:, :, 0], a0, parameters)
    (*got, cache), (*want, plain) = notebook.both(CELL, *arguments)
    same(got, want)
    same(cache[:3], plain[:3])
    assert len(cache) == 4
    assert cache[3] is parameters

    ours, theirs = notebook.functions_of(CELL_BACK)
    gradients = theirs(da[:, :, 0], plain)
    same(ours(da[:, :, 0], cache), gradients)
    same(ours(da[:, :, 0], plain), gradients)
    same(theirs(da[:, :, 0], cache), gradients)


@each_notebook
@each_size
def test_sequence(notebook: Notebook, sizes: Sizes) -> None:
    parameters, x, a0, da = notebook.problem(sizes)
    (*got, caches), (*want, plain) = notebook.both(SEQUENCE, x, a0, parameters)
    same(got, want)

    steps, cached_x = caches
    assert cached_x is x
    assert len(steps) == sizes[3]
    assert all(len(cache) == 4 and cache[3] is parameters for cache in steps)
    same(read(steps), read(plain[0]))
    same(read(steps[-2:]), read(plain[0][-2:]))
    same(steps[-1][:3], plain[0][-1][:3])

    ours, theirs = notebook.functions_of(SEQUENCE_BACK)
    gradients = theirs(da, plain)
    same(ours(da, caches), gradients)
    same(ours(da, plain), gradients)
    same(theirs(da, caches), gradients)


@each_notebook
def test_sequence_by_a_loop_over_the_cell(notebook: Notebook) -> None:
    parameters, x, a0, da = notebook.problem((3, 17, 4, 6, 2))
    cell, _ = notebook.functions_of(CELL)
    (a, *_, caches), _ = notebook.both(SEQUENCE, x, a0, parameters)
    steps, a_prev = [], a0
    for t in range(6):
        *_, cache = cell(*notebook.cell_arguments(x[:, :, t], a_prev, parameters))
        steps.append(cache)
        a_prev = a[:, :, t]
    same(read(steps), read(caches[0]))
    ours, theirs = notebook.functions_of(SEQUENCE_BACK)
    same(ours(da, (steps, x)), theirs(da, caches))


@each_notebook
@each_size
def test_backward_of_caches_that_do_not_hang_together(notebook: Notebook, sizes: Sizes) -> None:
    *_, da = notebook.problem(sizes)
    steps, x = random_caches(notebook, sizes)
    same(*notebook.both(CELL_BACK, da[:, :, 0], steps[0]))
    same(*notebook.both(SEQUENCE_BACK, da, (steps, x)))


@each_notebook
def test_keyword_arguments(notebook: Notebook) -> None:
    parameters, x, a0, da = notebook.problem((3, 5, 4, 3, 2))
    steps, x = caches = random_caches(notebook, (3, 5, 4, 3, 2))
    calls = (
        notebook.cell_arguments(x[:, :, 0], a0, parameters),
        (x, a0, parameters),
        (da[:, :, 0], steps[0]),
        (da, caches),
    )
    for (name, names), arguments in zip(notebook.functions.items(), calls, strict=False):
        got = getattr(notebook.module, name)(**dict(zip(names, arguments, strict=True)))
        want = getattr(notebook.oracle, name)(*arguments)
        if isinstance(want, tuple):
            got, want = got[:-1], want[:-1]
        same(got, want)


@each_notebook
@pytest.mark.parametrize("plain", [False, True], ids=["own caches", "plain caches"])
def test_number_of_steps_of_da(notebook: Notebook, plain: bool) -> None:
    """Notebooks 001 and 003 take it from x, the others from da."""
    parameters, x, a0, da = notebook.problem((3, 5, 4, 6, 2))
    ours, theirs = notebook.functions_of(SEQUENCE_BACK)
    caches = notebook.both(SEQUENCE, x, a0, parameters)[plain][-1]
    longer = np.concatenate((da, da), axis=2)
    if notebook.module in (step_by_step, compact):
        same(ours(longer, caches), theirs(longer, caches))
        with pytest.raises(
            ValueError, match=r"da has shape \(5, 4, 2\), 2 steps; wanted at least 6"
        ):
            ours(da[:, :, :2], caches)
    else:
        same(ours(da[:, :, :2], caches), theirs(da[:, :, :2], caches))
        with pytest.raises(
            ValueError, match=r"da has shape \(5, 4, 12\), 12 steps; wanted at most 6"
        ):
            ours(longer, caches)


@each_notebook
def test_float32(notebook: Notebook) -> None:
    parameters, x, a0, da = notebook.problem((3, 17, 4, 6, 2), dtype=np.float32)
    (a, y, caches), want = notebook.both(SEQUENCE, x, a0, parameters)
    assert a.dtype == y.dtype == np.float32
    same((a, y), want[:-1], 1e-5)
    got, want = notebook.both(SEQUENCE_BACK, da, caches)
    assert all(gradient.dtype == np.float32 for gradient in got.values())
    same(got, want, 1e-4)


@each_notebook
def test_integers(notebook: Notebook) -> None:
    parameters, x, a0, da = notebook.problem((3, 5, 4, 3, 2))
    parameters = {key: np.rint(array).astype(int) for key, array in parameters.items()}
    x, a0, da = (np.rint(array).astype(int) for array in (x, a0, da))
    (*got, caches), (*want, _) = notebook.both(SEQUENCE, x, a0, parameters)
    same(got, want)
    same(*notebook.both(SEQUENCE_BACK, da, caches))


@each_notebook
def test_steps_are_made_when_asked_for(notebook: Notebook) -> None:
    parameters, x, a0, _ = notebook.problem((3, 5, 4, 6, 2))
    steps = notebook.both(SEQUENCE, x, a0, parameters)[0][-1][0]
    assert not isinstance(steps, list)
    assert steps[2] is not steps[2]
    assert np.shares_memory(steps[2][0], steps[2][0])


@each_notebook
def test_misfits_are_refused_by_name(notebook: Notebook) -> None:
    parameters, x, a0, da = notebook.problem((3, 5, 4, 6, 2))
    forward, _ = notebook.functions_of(SEQUENCE)
    backward, _ = notebook.functions_of(SEQUENCE_BACK)
    cell_backward, _ = notebook.functions_of(CELL_BACK)
    *_, caches = forward(x, a0, parameters)
    first = next(iter(parameters))
    with pytest.raises(KeyError, match=first):
        forward(x, a0, {key: parameters[key] for key in parameters if key != first})
    with pytest.raises(TypeError, match=r"(parameters|weight_dict) is NoneType"):
        forward(x, a0, None)
    with pytest.raises(ValueError, match="a0"):
        forward(x, a0[:-1], parameters)
    with pytest.raises(ValueError, match="da has shape"):
        backward(da[:-1], caches)
    with pytest.raises(ValueError, match="cache"):
        cell_backward(da[:, :, 0], caches[0][0][:3])
    with pytest.raises(ValueError, match="caches"):
        backward(da, ([], x))


@each_size
def test_lstm(sizes: Sizes) -> None:
    parameters, x, a0, _ = lstm_problem(*sizes)
    c0 = normal(a0.shape)
    arguments = x[:, :, 0], a0, c0, parameters
    (*got, cache), (*want, plain) = (
        notebook.lstm_cell_forward(*arguments) for notebook in (from_scratch, FromScratch)
    )
    same(got, want)
    same(cache[:9], plain[:9])
    assert len(cache) == 10
    assert cache[9] is parameters

    (*got, (steps, cached_x)), (*want, (plain_steps, _)) = (
        notebook.lstm_forward(x, a0, parameters) for notebook in (from_scratch, FromScratch)
    )
    same(got, want)
    assert cached_x is x
    assert len(steps) == sizes[3]
    assert all(len(cache) == 10 and cache[9] is parameters for cache in steps)
    same(read(steps), read(plain_steps))


@each_notebook
@pytest.mark.parametrize("shape", [(6,), (1, 1), (4, 7), (3, 5, 4)], ids=str)
def test_elementwise_functions(notebook: Notebook, shape: tuple[int, ...]) -> None:
    for name in list(notebook.functions)[4:]:
        if not name.startswith("lstm"):
            for x in (normal(shape), 100 * normal(shape), np.rint(3 * normal(shape)).astype(int)):
                same(getattr(notebook.module, name)(x), getattr(notebook.oracle, name)(x))


def test_they_are_fastrnn() -> None:
    """Where a notebook has no way of its own, its module has none."""
    for module in (full_rnn, from_scratch):
        assert module.rnn_backward is fastrnn.rnn_backward
        assert module.rnn_cell_backward is fastrnn.rnn_cell_backward
    assert from_scratch.sigmoid is fastrnn.sigmoid

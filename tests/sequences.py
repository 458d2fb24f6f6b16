"""The tests that the functions of every cell pass; a cell's module adds its own to them."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import fastrnn
from fastrnn import reference
from tests.cells import Cell, Sizes, convert, in_type
from tests.compare import (
    TORCH_SIZES,
    assert_as_torch,
    assert_close,
    assert_same_bits,
    part,
    same_bits,
    torch_arrays,
)
from tests.gradcheck import check_gradients
from tests.problems import Problem, normal

Array = NDArray[Any]

# (n_x, n_a, m, T, n_y): one of everything; the largest; units that fill no whole vectors or
# panels; rows that fill no whole tile; long sums over a single row, and over so many that they
# go in two passes, the second one shorter.
SIZES: tuple[Sizes, ...] = (
    (1, 1, 1, 1, 1),
    (40, 64, 10, 33, 12),
    (3, 5, 10, 4, 2),
    (4, 17, 3, 6, 5),
    (11, 65, 5, 3, 7),
    (5, 130, 2, 4, 3),
    (70, 8, 1, 20, 33),
    (2, 3, 57, 9, 2),
)
EMPTY: tuple[Sizes, ...] = (
    (0, 5, 3, 4, 2),
    (3, 0, 3, 4, 2),
    (3, 5, 0, 4, 2),
    (3, 5, 3, 4, 0),
)
ODD: Sizes = (3, 17, 5, 4, 3)

each_size = pytest.mark.parametrize("sizes", SIZES, ids=str)
each_type = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])


def unaligned(array: Array) -> Array:
    copy = np.ndarray(array.shape, array.dtype, bytearray(array.nbytes + 1), offset=1)
    copy[...] = array
    assert array.size == 0 or not copy.flags.aligned
    return copy


def read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


class Subclass(np.ndarray):
    """An array type of somebody else's."""


FORMS: dict[str, Callable[[Array], Any]] = {
    "Fortran order": lambda array: np.asfortranarray(array),
    "negative strides": lambda array: np.flip(np.flip(array).copy()),
    "every second element": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "read-only": read_only,
    "not aligned": unaligned,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "subclass": lambda array: array.view(Subclass),
    "buffer": lambda array: memoryview(array.copy()),
}


class SequenceTests:
    """Subclasses are test classes; their `cell` says which functions are meant."""

    cell: ClassVar[Cell]

    def problem(self, sizes: Sizes = ODD, dtype: Any = np.float64, seed: int = 0) -> Problem:
        return self.cell.problem(*sizes, dtype=dtype, seed=seed)

    def backward(self, da: Array, dz: Array, caches: Any) -> dict[str, Array]:
        gradients = self.cell.function(fastrnn, "backward")(da, caches)
        return gradients | fastrnn.output_backward(dz, caches)

    # Values

    @each_size
    @each_type
    def test_sequence_as_reference(self, sizes: Sizes, dtype: Any) -> None:
        problem = self.problem(sizes, dtype)
        dz = normal((sizes[4], sizes[2], sizes[3]), dtype)
        exact = self.cell.run(reference, in_type(problem, np.longdouble), dz.astype(np.longdouble))
        got = self.cell.run(fastrnn, problem, dz)
        assert_close(got, exact, dtype, self.cell.summands(sizes))

    @pytest.mark.parametrize("sizes", SIZES + EMPTY, ids=str)
    @each_type
    def test_packed_or_unpacked_weights_give_the_same_bits(
        self, sizes: Sizes, dtype: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        problem = self.problem(sizes, dtype)
        results = []
        for short in True, False:
            monkeypatch.setattr(f"fastrnn.{self.cell.name}.is_short", lambda *_, short=short: short)
            results.append(self.cell.run(fastrnn, problem))
        assert_same_bits(*results)

    @each_size
    @each_type
    def test_cell_as_reference(self, sizes: Sizes, dtype: Any) -> None:
        problem = self.problem(sizes, dtype)
        results = []
        for module, twin in (
            (fastrnn, problem),
            (reference, in_type(problem, np.longdouble)),
        ):
            inputs, upstream = self.cell.step_inputs(problem), self.cell.step_upstream(problem)
            if module is reference:
                inputs, upstream = (
                    {name: array.astype(np.longdouble) for name, array in arrays.items()}
                    for arrays in (inputs, upstream)
                )
            results.append(self.cell.run_step(module, inputs, upstream, twin.parameters))
        assert_close(*results, dtype, self.cell.summands((*sizes[:3], 1, sizes[4])))

    @pytest.mark.parametrize("sizes", TORCH_SIZES)
    def test_sequence_as_pytorch(self, sizes: str) -> None:
        arrays = torch_arrays(f"{self.cell.name}_{sizes}")
        problem = Problem(arrays, arrays["x"], arrays["a0"], arrays["da"])
        results, caches = self.cell.forward(fastrnn, problem)
        if "c" in results:
            results["c_last"] = results["c"][:, :, -1]
        y = results["y"]
        outputs = {key: arrays[key] for key in ("a", "y", "c_last") if key in arrays}
        assert_as_torch(results, outputs)

        backward = self.cell.function(fastrnn, "backward")
        assert_as_torch(backward(arrays["da"], caches), part(arrays, "hidden/"))

        # Cross-entropy, averaged over the m * T predictions.
        one_hot = np.arange(len(y))[:, None, None] == arrays["labels"]
        head = fastrnn.output_backward((y - one_hot) / arrays["labels"].size, caches)
        assert_as_torch(backward(head["da"], caches) | head, part(arrays, "head/"))

    # Gradients by central differences

    @pytest.mark.parametrize(
        "sizes", [(3, 5, 10, 4, 2), (4, 17, 3, 6, 5), (1, 1, 1, 1, 2)], ids=str
    )
    @each_type
    def test_gradients_through_the_softmax_head(self, sizes: Sizes, dtype: Any) -> None:
        problem = self.problem(sizes, dtype)
        parameters, x, a0, _ = problem
        target = reference.softmax(normal((sizes[4], *x.shape[1:]), dtype))

        def loss(x: Array, a0: Array, **weights: Array) -> Any:
            y = self.cell.function(fastrnn, "forward")(x, a0, weights)[1]
            return -np.sum(target * np.log(y), dtype=np.float64)

        results, caches = self.cell.forward(fastrnn, problem)
        head = fastrnn.output_backward(results["y"] - target, caches)
        gradients = self.cell.function(fastrnn, "backward")(head["da"], caches) | head
        check_gradients(loss, {"x": x, "a0": a0, **parameters}, gradients)

    def test_gradients_of_the_cell(self) -> None:
        problem = self.problem()
        inputs, upstream = self.cell.step_inputs(problem), self.cell.step_upstream(problem)
        weights = {key: problem.parameters[key] for key in self.cell.weights}

        def loss(**given: Array) -> Any:
            states = [given.pop(name) for name in inputs]
            step = self.cell.function(fastrnn, "cell_forward")
            after = step(*states, problem.parameters | given)
            return sum(np.sum(a * da) for a, da in zip(after, upstream.values(), strict=False))

        gradients = self.cell.run_step(fastrnn, inputs, upstream, problem.parameters)
        check_gradients(loss, {**inputs, **weights}, gradients)

    # Axes of length zero

    @pytest.mark.parametrize("sizes", EMPTY, ids=str)
    @each_type
    def test_empty_axes_as_reference(self, sizes: Sizes, dtype: Any) -> None:
        problem = self.problem(sizes, dtype)
        _, _, m, T, n_y = sizes
        dz = normal((n_y, m, T), dtype)
        got = self.cell.run(fastrnn, problem, dz)
        if n_y == 0:  # the reference's softmax knows no maximum of nothing
            assert got["y"].shape == (0, m, T)
            assert not got["da"].any()
            return
        exact = self.cell.run(reference, in_type(problem, np.longdouble), dz)
        assert_close(got, exact, dtype, self.cell.summands(sizes))

    @each_type
    def test_no_steps(self, dtype: Any) -> None:
        problem = self.problem((3, 5, 10, 0, 2), dtype)
        results, (steps, x) = self.cell.forward(fastrnn, problem)
        assert x is problem.x
        assert len(steps) == 0
        assert list(steps) == []
        assert results["a"].shape == (5, 10, 0)
        assert results["y"].shape == (2, 10, 0)
        gradients = self.backward(problem.da, np.empty((2, 10, 0), dtype), (steps, x))
        for name, array in gradients.items():
            assert array.dtype == dtype
            assert not array.any(), name
            if name[1:] in problem.parameters:
                assert array.shape == problem.parameters[name[1:]].shape

    # Caches

    def test_caches_are_indexed_as_lists_of_tuples(self) -> None:
        problem = self.problem()
        parameters, x, a0, _ = problem
        results, caches = self.cell.forward(fastrnn, problem)
        assert isinstance(caches, tuple)
        assert len(caches) == 2
        steps, kept = caches
        assert kept is x
        assert caches[1] is x
        T = x.shape[2]
        assert len(steps) == T
        assert len(list(steps)) == T

        loop, _ = self.cell.loop(fastrnn, problem)
        states = {"a_next": results["a"], "c_next": results.get("c"), "xt": x}
        for t in range(T):
            for cache in (caches[0][t], caches[0][t - T], list(steps)[t], steps[t : t + 1][0]):
                assert isinstance(cache, tuple)
                assert len(cache) == len(self.cell.cache)
                assert cache[-1] is parameters
                assert caches[0][t][-1] is parameters
                for name, array, expected in zip(self.cell.cache, cache, loop[t], strict=True):
                    if name != "parameters":
                        assert same_bits(array, expected), name
                    if name in states:
                        assert same_bits(array, states[name][:, :, t]), name
            first = a0 if t == 0 else results["a"][:, :, t - 1]
            assert same_bits(steps[t][self.cell.cache.index("a_prev")], first)

        assert [cache[0].tobytes() for cache in steps[::-2]] == [
            steps[t][0].tobytes() for t in range(T)[::-2]
        ]
        for wrong in (T, -T - 1):
            with pytest.raises(IndexError):
                steps[wrong]
        with pytest.raises(TypeError):
            steps["0"]  # type: ignore[call-overload]

    def test_caches_are_views(self) -> None:
        _, (steps, _) = self.cell.forward(fastrnn, self.problem())
        for first, again in zip(steps[1][:-1], steps[1][:-1], strict=True):
            assert np.shares_memory(first, again)
        # What one step hands on is what the next was given.
        a_next, a_prev = (self.cell.cache.index(name) for name in ("a_next", "a_prev"))
        assert np.shares_memory(steps[1][a_next], steps[2][a_prev])

    @each_type
    def test_caches_of_a_loop_over_the_cell(self, dtype: Any) -> None:
        problem = self.problem(dtype=dtype)
        dz = normal((3, 5, 4), dtype)
        _, caches = self.cell.forward(fastrnn, problem)
        expected = self.backward(problem.da, dz, caches)
        plain = [tuple(cache) for cache in caches[0]]
        for own in (
            (plain, problem.x),
            (tuple(plain), problem.x),
            [[list(cache) for cache in plain], problem.x],
            self.cell.loop(fastrnn, problem),
        ):
            assert_same_bits(self.backward(problem.da, dz, own), expected)

    def test_caches_of_a_loop_over_the_cell_of_the_reference(self) -> None:
        problem = self.problem()
        dz = normal((3, 5, 4))
        caches = self.cell.loop(reference, problem)
        exact = self.cell.function(reference, "backward")(problem.da, caches)
        exact |= reference.output_backward(dz, caches)
        got = self.backward(problem.da, dz, caches)
        assert_close(got, exact, np.float64, self.cell.summands(ODD))

        upstream = self.cell.step_upstream(problem).values()
        exact = self.cell.function(reference, "cell_backward")(*upstream, caches[0][2])
        got = self.cell.function(fastrnn, "cell_backward")(*upstream, caches[0][2])
        assert_close(got, exact, np.float64, self.cell.summands(ODD))

    @pytest.mark.parametrize("T", [0, 1, 3])
    @each_type
    def test_a_short_gradient_covers_the_first_steps(self, T: int, dtype: Any) -> None:
        problem = self.problem(dtype=dtype)
        _, caches = self.cell.forward(fastrnn, problem)
        da, dz = problem.da[:, :, :T], normal((3, 5, T), dtype)
        got = self.backward(da, dz, caches)
        twin = in_type(problem, np.longdouble)
        _, exact_caches = self.cell.forward(reference, twin)
        exact = self.cell.function(reference, "backward")(twin.da[:, :, :T], exact_caches)
        exact |= reference.output_backward(dz.astype(np.longdouble), exact_caches)
        assert got["dx"].shape == (3, 5, T)
        assert got["da"].shape == (17, 5, T)
        assert_close(got, exact, dtype, self.cell.summands(ODD))
        plain = list(caches[0]), caches[1]
        assert_same_bits(self.backward(da, dz, plain), got)

    def test_backward_twice(self) -> None:
        problem = self.problem()
        _, caches = self.cell.forward(fastrnn, problem)
        dz = normal((3, 5, 4))
        kept = [[array.copy() for array in cache[:-1]] for cache in caches[0]]
        first = self.backward(problem.da, dz, caches)
        assert_same_bits(self.backward(problem.da, dz, caches), first)
        for cache, arrays in zip(caches[0], kept, strict=True):
            assert all(same_bits(a, b) for a, b in zip(cache[:-1], arrays, strict=True))

    # Types and forms of the arguments

    @pytest.mark.parametrize("form", FORMS)
    @each_type
    def test_forms_of_arrays(self, form: str, dtype: Any) -> None:
        problem = self.problem(dtype=dtype)
        change = FORMS[form]
        dz = normal((3, 5, 4), dtype)
        expected = self.cell.run(fastrnn, problem, dz)
        assert_same_bits(self.cell.run(fastrnn, convert(problem, change), change(dz)), expected)

        inputs, upstream = self.cell.step_inputs(problem), self.cell.step_upstream(problem)
        expected = self.cell.run_step(fastrnn, inputs, upstream, problem.parameters)
        inputs, upstream, parameters = (
            {name: change(array) for name, array in arrays.items()}
            for arrays in (inputs, upstream, problem.parameters)
        )
        got = self.cell.run_step(fastrnn, inputs, upstream, parameters)
        for name in expected:
            if name in ("cache a_prev", "cache c_prev", "cache xt"):
                got[name] = np.ascontiguousarray(got[name], dtype)
        assert_same_bits(got, expected)

    def test_lists(self) -> None:
        problem = self.problem()
        lists = convert(problem, lambda array: array.tolist())
        results = self.cell.function(fastrnn, "forward")(lists.x, lists.a0, lists.parameters)
        caches = results[-1]
        dz = normal((3, 5, 4))
        assert caches[1] is lists.x
        assert caches[0][0][-1] is lists.parameters
        got = dict(zip(("a", "y", "c"), results[:-1], strict=False))
        got |= self.backward(lists.da, dz.tolist(), caches)
        assert_same_bits(got, self.cell.run(fastrnn, problem, dz))

    @pytest.mark.parametrize(
        ("given", "computed"),
        [
            *((kind, np.float64) for kind in ("int8", "uint16", "int64", "bool", "float16")),
            ("longdouble", np.float64),
            (">f8", np.float64),
            (">f4", np.float32),
            ("float32", np.float32),
        ],
    )
    def test_type_of_the_results(self, given: str, computed: Any) -> None:
        problem = convert(self.problem(), lambda array: np.rint(2 * np.abs(array)).astype(given))
        dz = np.rint(2 * np.abs(normal((3, 5, 4)))).astype(given)
        got = self.cell.run(fastrnn, problem, dz)
        assert_same_bits(
            got, self.cell.run(fastrnn, in_type(problem, computed), dz.astype(computed))
        )
        assert all(array.dtype == computed for array in got.values())

    @pytest.mark.parametrize(
        ("other", "computed"),
        [
            ("float64", np.float64),
            ("int32", np.float64),
            ("longdouble", np.float64),
            ("float16", np.float32),
            ("int8", np.float32),
            ("bool", np.float32),
            (">f4", np.float32),
        ],
    )
    def test_one_array_of_another_type(self, other: str, computed: Any) -> None:
        """float32 if NumPy promotes all arrays to it, else float64."""
        problem = in_type(convert(self.problem(), np.rint), np.float32)
        names = ("x", "a0", *problem.parameters)
        for name in names:
            arrays = {"x": problem.x, "a0": problem.a0, **problem.parameters}
            arrays[name] = arrays[name].astype(other)
            x, a0 = arrays.pop("x"), arrays.pop("a0")
            mixed = Problem(arrays, x, a0, problem.da)
            got = self.cell.forward(fastrnn, mixed)[0]
            assert all(array.dtype == computed for array in got.values()), name
            twin = in_type(mixed, computed)
            assert_same_bits(got, self.cell.forward(fastrnn, twin)[0])

        # Of the gradients' arguments likewise.
        _, caches = self.cell.forward(fastrnn, problem)
        dz = normal((3, 5, 4), np.float32)
        got = self.backward(problem.da.astype(other), dz.astype(other), caches)
        assert all(array.dtype == computed for array in got.values())

    def test_parameters_are_any_mapping(self) -> None:
        problem = self.problem()
        mapping = MappingProxyType(problem.parameters | {"further": None})
        assert_same_bits(
            self.cell.run(fastrnn, problem._replace(parameters=mapping)),  # type: ignore[arg-type]
            self.cell.run(fastrnn, problem),
        )

    # What is the caller's stays the caller's

    @each_type
    def test_nothing_given_is_changed(self, dtype: Any) -> None:
        problem = self.problem(dtype=dtype)
        dz = normal((3, 5, 4), dtype)
        inputs, upstream = self.cell.step_inputs(problem), self.cell.step_upstream(problem)
        given = [*problem.parameters.values(), *problem[1:], dz]
        given += [*inputs.values(), *upstream.values()]
        before = [array.tobytes() for array in given]
        keys = list(problem.parameters)
        self.cell.run(fastrnn, problem, dz)
        self.cell.run_step(fastrnn, inputs, upstream, problem.parameters)
        assert [array.tobytes() for array in given] == before
        assert list(problem.parameters) == keys

    @each_type
    def test_results_outlive_the_next_call(self, dtype: Any) -> None:
        def run(seed: int) -> dict[str, Array]:
            problem = self.problem(dtype=dtype, seed=seed)
            inputs, upstream = self.cell.step_inputs(problem), self.cell.step_upstream(problem)
            return self.cell.run(fastrnn, problem) | self.cell.run_step(
                fastrnn, inputs, upstream, problem.parameters
            )

        first = run(0)
        kept = {name: array.copy() for name, array in first.items()}
        second = run(1)
        assert_same_bits(first, kept)
        for array in first.values():
            assert not any(np.shares_memory(array, other) for other in second.values())
            assert array.flags.writeable

    def test_gradients_and_results_do_not_share_memory(self) -> None:
        problem = self.problem()
        results, caches = self.cell.forward(fastrnn, problem)
        results |= self.backward(problem.da, normal((3, 5, 4)), caches)
        names = list(results)
        for n, name in enumerate(names):
            for other in names[n + 1 :]:
                assert not np.shares_memory(results[name], results[other]), (name, other)

    # To the bit

    @each_type
    def test_a_second_run_equals_the_first(self, dtype: Any) -> None:
        problem = self.problem(dtype=dtype)
        assert_same_bits(self.cell.run(fastrnn, problem), self.cell.run(fastrnn, problem))

    @each_type
    def test_a_row_alone_equals_the_row_in_its_batch(self, dtype: Any) -> None:
        whole_problem = self.problem((3, 17, 13, 4, 3), dtype)
        dz = normal((3, 13, 4), dtype)
        whole = self.cell.run(fastrnn, whole_problem, dz)
        parameters, *arrays = whole_problem
        for rows in (slice(0, 1), slice(6, 7), slice(12, 13), slice(3, 8)):
            alone = Problem(parameters, *(array[:, rows] for array in arrays))
            got = self.cell.run(fastrnn, alone, dz[:, rows])
            for name in ("a", "y", "c", "dx", "da0", "da"):
                if name in got:
                    assert same_bits(got[name], whole[name][:, rows]), name

    @each_type
    def test_the_cell_step_by_step_equals_the_sequence(self, dtype: Any) -> None:
        problem = self.problem((3, 17, 7, 5, 3), dtype)
        results, (steps, _) = self.cell.forward(fastrnn, problem)
        loop, _ = self.cell.loop(fastrnn, problem)
        for t, (cache, expected) in enumerate(zip(loop, steps, strict=True)):
            for name, array, other in zip(self.cell.cache, cache, expected, strict=True):
                assert name == "parameters" or same_bits(array, other), (name, t)
        last = self.cell.function(fastrnn, "cell_forward")(
            *(problem.x[:, :, 4], *loop[3][: len(self.cell.states)]), problem.parameters
        )
        assert same_bits(last[-2], results["y"][:, :, 4])

    # NaN, infinity, huge numbers

    @each_type
    @pytest.mark.parametrize("row", [0, 4, 6])
    def test_nan_stays_in_its_row_and_goes_forth(self, row: int, dtype: Any) -> None:
        problem = self.problem((3, 17, 7, 4, 3), dtype)
        dz = normal((3, 7, 4), dtype)
        clean = self.cell.run(fastrnn, problem, dz)
        x = problem.x.copy()
        x[1, row, 2] = np.nan
        got = self.cell.run(fastrnn, problem._replace(x=x), dz)
        others = np.arange(7) != row
        for name in ("a", "y", "c"):
            if name in got:
                assert same_bits(got[name][:, others], clean[name][:, others])
                assert same_bits(got[name][:, row, :2], clean[name][:, row, :2])
                assert np.isnan(got[name][:, row, 2:]).all()
        for name in ("dx", "da0"):
            assert same_bits(got[name][:, others], clean[name][:, others])
            assert np.isnan(got[name][:, row]).all()
        for key in (*self.cell.weights, self.cell.head):
            assert np.isnan(got["d" + key]).all(), key
        assert same_bits(got["da"], clean["da"])
        assert same_bits(got["dby"], clean["dby"])

    @each_type
    def test_infinite_and_huge_input(self, dtype: Any) -> None:
        problem = self.problem(dtype=dtype)
        x = problem.x.copy()
        huge = np.finfo(dtype).max / 1e6
        x[0, 0, 0], x[1, 1, 1], x[:, 2, 1], x[:, 3, 2] = np.inf, -np.inf, huge, -huge
        problem = problem._replace(x=x)
        results, _ = self.cell.forward(fastrnn, problem)
        with np.errstate(all="ignore"):
            expected, _ = self.cell.forward(reference, problem)
        for name, array in results.items():
            assert np.isfinite(array).all(), name
        assert_close(results, expected, dtype, self.cell.summands(ODD))
        assert np.isfinite(self.cell.run(fastrnn, problem)["dx"]).all()

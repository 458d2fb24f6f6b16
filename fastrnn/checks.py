"""Every argument of the public functions passes here before a kernel runs.

Kernels check no bounds, so nothing reaches them but C-contiguous arrays of one floating
type whose axes fit together.  What does not fit is refused with an error that names the
argument, what came and what was wanted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Axes: TypeAlias = tuple[str, ...]
UsualCase: TypeAlias = Callable[[Sequence[Any], Any], tuple[np.dtype[Any], list[Array]] | None]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)


def as_array(argument: str, value: Any) -> Array:
    """A real array of whatever shape, or an error that names the argument."""
    if type(value) is np.ndarray:
        array = value
    elif value is None:
        raise TypeError(f"{argument} is None; wanted an array of real numbers")
    else:
        try:
            array = np.asarray(value)
        except MemoryError:
            raise
        except Exception as error:  # of other libraries' arrays
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(
                f"{argument} is no array ({error}); wanted an array of real numbers"
            ) from None
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{argument} has dtype {array.dtype} ({type(value).__name__}); "
            "wanted an array of real numbers"
        )
    return array


def _describe(axes: Axes, sizes: Mapping[str, int]) -> str:
    named = (axis for axis in dict.fromkeys(axes) if axis in sizes and axis != "1")
    known = [f"{axis} = {sizes[axis]}" for axis in named]
    names = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
    return names + (" with " + ", ".join(known) if known else "")


def check_shape(argument: str, array: Array, axes: Axes, sizes: dict[str, int]) -> None:
    """Hold an array's axes against the sizes known so far, and learn the new ones."""
    if array.ndim != len(axes):
        raise ValueError(
            f"{argument} has shape {array.shape}, {array.ndim} axes; "
            f"wanted {_describe(axes, sizes)}"
        )
    for axis, size in zip(axes, array.shape, strict=True):
        wanted = sizes.setdefault(axis, size)
        if size != wanted:
            raise ValueError(f"{argument} has shape {array.shape}; wanted {_describe(axes, sizes)}")


def _fits(value: Any, axes: Axes, sizes: dict[str, int]) -> bool:
    """Whether `checked` would return the value as it is; costs little for one that fits."""
    if type(value) is not np.ndarray or value.dtype.kind not in "fiub":
        return False
    shape = value.shape
    if len(shape) != len(axes):
        return False
    for axis, size in zip(axes, shape, strict=False):
        if sizes.setdefault(axis, size) != size:
            return False
    return True


def checked(argument: str, value: Any, axes: Axes, sizes: dict[str, int]) -> Array:
    """A real array with these axes, or an error that names the argument."""
    if not _fits(value, axes, sizes):
        value = as_array(argument, value)
        check_shape(argument, value, axes, sizes)
    array: Array = value
    return array


def weight(parameters: Mapping[str, Any], key: str) -> Any:
    """What is under a key, or an error that names it."""
    try:
        return parameters[key]
    except MemoryError:
        raise
    except Exception as error:  # of a closed file
        raise ValueError(
            f"parameters[{key!r}] cannot be read ({error}); wanted an array of real numbers"
        ) from None


def weights(parameters: Any, keys: Mapping[str, Axes], sizes: dict[str, int]) -> list[Array]:
    """The weights under these keys, their axes held against each other."""
    if type(parameters) is not dict and not isinstance(parameters, Mapping):
        raise TypeError(
            f"parameters is {type(parameters).__name__}; "
            f"wanted a mapping with the keys {', '.join(keys)}"
        )
    missing = [key for key in keys if key not in parameters]
    if missing:
        raise KeyError(
            f"parameters lacks {', '.join(missing)}; it has "
            f"{', '.join(map(str, parameters)) or 'no keys'}; wanted {', '.join(keys)}"
        )
    if "n_a" in sizes and "n_x" in sizes:
        sizes["n_a + n_x"] = sizes["n_a"] + sizes["n_x"]
    found = []
    for key, axes in keys.items():
        value = weight(parameters, key)
        if not _fits(value, axes, sizes):
            value = checked(f"parameters[{key!r}]", value, axes, sizes)
        found.append(value)
    if "n_a + n_x" in sizes and "n_x" not in sizes:
        sizes["n_x"] = sizes["n_a + n_x"] - sizes["n_a"]
        if sizes["n_x"] < 0:
            raise ValueError(
                f"parameters[{next(iter(keys))!r}] has shape {found[0].shape}; "
                f"wanted (n_a, n_a + n_x) with n_a = {sizes['n_a']}"
            )
    return found


class Arguments:
    """What a function takes: arrays with named axes, and weights by key.

    An axis of the same name has the same size everywhere; a name can be the number 1, or a
    sum of two others.

    Parameters
    ----------
    given : mapping
        Axes of the arrays, by the name that a message calls them.
    keys : mapping
        Axes of the weights, by key.
    weights_first : bool
        Which is held against the other, and so which of two that differ a message names.
    """

    def __init__(
        self, given: Mapping[str, Axes], keys: Mapping[str, Axes], weights_first: bool
    ) -> None:
        self._given = given
        self._keys = keys
        self._weights_first = weights_first

    @cached_property
    def _usual(self) -> UsualCase:
        return _usual_case([*self._given.values()], self._keys)

    def ready(self, values: Sequence[Any], parameters: Any) -> tuple[np.dtype[Any], list[Array]]:
        """The type to compute in, and all arrays and weights as kernels take them.

        Raises
        ------
        TypeError, ValueError, KeyError
            The first that does not fit; the message names it.
        """
        usual = self._usual(values, parameters)
        if usual is not None:
            return usual
        sizes = {"1": 1}
        if self._weights_first:
            found = weights(parameters, self._keys, sizes)
        arrays = [
            checked(name, value, axes, sizes)
            for (name, axes), value in zip(self._given.items(), values, strict=True)
        ]
        if not self._weights_first:
            found = weights(parameters, self._keys, sizes)
        dtype = common_dtype([*arrays, *found])
        return dtype, [ready(array, dtype) for array in (*arrays, *found)]


def _usual_case(given: Sequence[Axes], keys: Mapping[str, Axes]) -> UsualCase:
    """Make the function that answers `Arguments.ready` where all arrays fit and are of one type.

    It returns None in every other case.  As it stands before every call of a small kernel, it is
    written out, array by array, and compiled: that costs a quarter of loops over them.
    """
    values = [f"value{i}" for i in range(len(given))]
    weights = [f"weight{i}" for i in range(len(keys))]
    arrays = [*values, *weights]
    known: set[str] = set()
    learn, fit = [], []
    # Axes that are sums come last: then all that is summed is known.
    pairs = zip(arrays, [*given, *keys.values()], strict=True)
    for array, axes in sorted(pairs, key=lambda pair: " + " in "".join(pair[1])):
        new = {axis for axis in axes if axis.isidentifier()} - known
        if new:
            learn.append(
                f"{', '.join(axis if axis in new else '_' for axis in axes)} = {array}.shape"
            )
            known |= new
        if len(new) < len(axes):  # else nothing is known of it but what it has told itself
            fit.append(f"{array}.shape == ({', '.join(axes)})")
    lines = (
        "def usual(values, parameters):",
        "    if type(parameters) is not dict: return None",
        "    try:",
        f"        {', '.join(values)}, = values",
        *(f"        {w} = parameters[{key!r}]" for w, key in zip(weights, keys, strict=True)),
        f"        if not ({' and '.join(f'type({array}) is ndarray' for array in arrays)}):",
        "            return None",
        *(f"        {line}" for line in learn),
        "    except (KeyError, ValueError):",
        "        return None",
        "    dtype = value0.dtype",
        "    if not (",
        "        (dtype is FLOAT64 or dtype is FLOAT32)",
        *(f"        and {array}.dtype is dtype" for array in arrays[1:]),
        *(f"        and {condition}" for condition in fit),
        "    ):",
        "        return None",
        f"    arrays = [{', '.join(arrays)}]",
        f"    if not ({' and '.join(f'{array}.flags.carray' for array in arrays)}):",
        "        arrays = [ready(array, dtype) for array in arrays]",
        "    return dtype, arrays",
    )
    names: dict[str, Any] = {
        "ndarray": np.ndarray, "FLOAT32": FLOAT32, "FLOAT64": FLOAT64, "ready": ready,
    }  # fmt: skip
    exec("\n".join(lines), names)
    usual: UsualCase = names["usual"]
    return usual


def sequence(argument: str, value: Any, length: int, wanted: str) -> tuple[Any, ...]:
    """A tuple (or list) of this length."""
    if type(value) is not tuple and (
        not isinstance(value, Sequence) or isinstance(value, str | bytes)
    ):
        raise TypeError(f"{argument} is {type(value).__name__}; wanted {wanted}")
    if len(value) != length:
        raise ValueError(f"{argument} has {len(value)} items; wanted {wanted}")
    return tuple(value)


def check_steps(argument: str, array: Array, steps: int) -> None:
    """Hold the steps of a gradient, its last axis, against those of the caches."""
    if array.shape[-1] > steps:
        raise ValueError(
            f"{argument} has shape {array.shape}, {array.shape[-1]} steps; "
            f"wanted at most {steps}, as many as caches has"
        )


def common_dtype(arrays: Iterable[Array]) -> np.dtype[Any]:
    """The type a function of these arrays computes in: float32 if they promote to it."""
    dtypes = {array.dtype for array in arrays}
    for dtype in FLOAT32, FLOAT64:
        if dtypes == {dtype}:
            return dtype  # itself: arrays may bear equals of it
    return FLOAT32 if np.result_type(*dtypes) == FLOAT32 else FLOAT64


def is_ready(value: Any, dtype: np.dtype[Any]) -> bool:
    """Whether kernels take this as it is: this type, C-contiguous, aligned, writeable."""
    return type(value) is np.ndarray and value.dtype == dtype and value.flags.carray


def ready(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array as kernels take it, copied if it must be.

    Numba compiles anew for read-only arrays; one that is read-only is copied instead.
    """
    if is_ready(array, dtype):
        return array
    return np.array(array, dtype=dtype, order="C", subok=False)

"""The caches of the sequence functions: per-step tuples that are views, made when asked for."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias, overload

import numpy as np

from .checks import Array, as_array, checked, sequence, weight

Cache: TypeAlias = tuple[Any, ...]


class Steps(Sequence[Cache]):
    """The caches of a run over time, over its time-major buffers.

    ``steps[t]`` is the tuple that the cell function returns as its cache for step `t`; its
    arrays are views.
    """

    __slots__ = ("T", "parameters")

    def __init__(self, T: int, parameters: Any) -> None:
        self.T = T
        self.parameters = parameters

    def step(self, t: int) -> Cache:
        """The cache of step `t`, from 0 to T - 1."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.T

    @overload
    def __getitem__(self, index: int) -> Cache: ...
    @overload
    def __getitem__(self, index: slice) -> list[Cache]: ...
    def __getitem__(self, index: int | slice) -> Cache | list[Cache]:
        if isinstance(index, slice):
            return [self.step(t) for t in range(*index.indices(self.T))]
        return self.step(range(self.T)[index])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.T} steps>"


def split_caches(caches: Any) -> tuple[Sequence[Cache], Any]:
    """The per-step caches and x, from what a sequence function returned."""
    wanted = "a tuple (per-step caches, x), as rnn_forward and lstm_forward return it"
    steps, x = sequence("caches", caches, 2, wanted)
    if not isinstance(steps, Sequence):
        raise TypeError(f"caches[0] is {type(steps).__name__}; wanted a list of per-step caches")
    return steps, x


def split_cache(argument: str, cache: Any, names: Sequence[str]) -> tuple[list[Any], Any]:
    """The arrays of a step's cache, which has these names, and its parameters."""
    if type(cache) is not tuple or len(cache) != len(names):
        cache = sequence(argument, cache, len(names), f"({', '.join(names)})")
    *values, parameters = cache
    return values, parameters


def _are_same(parameters: Any, others: Any, keys: Collection[str]) -> bool:
    """Whether two steps have the same weights, as far as they have any."""
    if parameters is others:
        return True
    if not (isinstance(parameters, Mapping) and isinstance(others, Mapping)):
        return False
    for key in keys:
        if (key in parameters) != (key in others):
            return False
        if key in parameters:
            one, other = weight(parameters, key), weight(others, key)
            name = f"parameters[{key!r}]"
            if one is not other and not np.array_equal(
                as_array(name, one), as_array(name, other), equal_nan=True
            ):
                return False
    return True


def stack_caches(
    caches: Sequence[Any], names: Sequence[str], keys: Collection[str]
) -> tuple[Any, dict[str, Array]]:
    """The parameters, and time-major arrays by name, of plain per-step tuples.

    keys : of the weights, which have to be the same in all steps.
    """
    if len(caches) == 0:
        raise ValueError(f"caches[0] is empty; wanted a tuple ({', '.join(names)}) for each step")
    sizes: dict[str, int] = {}
    steps = []
    _, parameters = split_cache("caches[0][0]", caches[0], names)
    for t, cache in enumerate(caches):
        values, others = split_cache(f"caches[0][{t}]", cache, names)
        if not _are_same(parameters, others, keys):
            raise ValueError(
                f"parameters in caches[0][{t}] are not those in caches[0][0]; wanted one set of "
                "weights for all steps (the cell's backward function takes each step's own)"
            )
        steps.append(
            [
                checked(
                    f"{name} in caches[0][{t}]",
                    value,
                    ("n_x" if name == "xt" else "n_a", "m"),
                    sizes,
                ).T
                for name, value in zip(names, values, strict=False)
            ]
        )
    columns = zip(*steps, strict=True)
    return parameters, dict(zip(names, map(np.stack, columns), strict=False))

"""What a layer computes in: weights, and the buffers of a call."""

import threading
import weakref
from typing import Any, NoReturn

import numpy as np

from .checks import Array
from .threads import Crew


class Weights:
    """A layer's weights, as kernels read them; a call holds on to those that it began with.

    forward, backward : ndarray
        Packed; `backward` is empty in a layer for inference.
    unpacked : list of ndarray, optional
        The weights as they came, if they have yet to be packed.
    alone : bool
        Whether no other object has the packed arrays.
    """

    def __init__(
        self, forward: Array, backward: Array, unpacked: list[Array] | None = None
    ) -> None:
        self.forward = forward
        self.backward = backward
        self.unpacked = unpacked
        self.alone = True


class Single:
    """An object whose locks, threads and memory a copy would share."""

    _instead: str  # of a copy

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"{name} cannot be copied or pickled; wanted {self._instead}")


class Workspace(Single):
    """Preallocated time-major buffers of a layer, for T steps of B examples.

    What a layer returns when it is given a workspace are views into it, good until its
    next use (the last state's and the gradients' are the same objects each time).  A workspace
    serves one call at a time.

    Attributes
    ----------
    T, B : int
        Steps and examples.
    training : bool
        Whether it keeps what `backward` needs.
    nbytes : int
        Size in bytes.
    """

    _instead = "another of its layer's, by workspace(T, B)"
    h: Array  # (T + 1, B, H), slot 0 the first state
    forward: tuple[Any, ...]  # what the forward kernel takes after x and the weights
    short: tuple[Any, ...] = ()  # likewise after unpacked weights, where those are of use
    last: tuple[Array, ...]  # views of the last state
    backward: tuple[Any, ...]  # what the backward kernel takes after dh and the weights
    gradients: dict[str, Array]  # what backward returns: views, whose shape kernels do not read

    def __init__(
        self, layer: Any, T: int, B: int, training: bool, crew: Crew, memory: list[Array]
    ) -> None:
        self.T = T
        self.B = B
        self.training = training
        self.crew = crew
        self.nbytes = sum(array.nbytes for array in memory)
        # Of a call that nobody helps all arguments but the caller's stand together beforehand.
        self.forward += crew.alone
        if self.short:
            self.short += crew.alone
        if training:
            self.backward += crew.alone
            self.gradients = {name: array.view() for name, array in self.gradients.items()}
        self.out = self.h[1:]
        self.state = layer._join_state(self.last)
        self.x: Array | None = None  # the last forward's, until backward has used it up
        self.weights: Weights | None = None  # of that forward
        self._sizes = T, B
        self._layer = weakref.ref(layer)
        self._memory = list({id(array.base): array.base for array in memory}.values())
        self.renew()

    def renew(self) -> None:
        """In use by no call."""
        self.lock = threading.Lock()

    def apart(self, array: Array) -> Array:
        """The array, or a copy if it lies in this workspace, where it would be overwritten."""
        owner = array.base
        if owner is None:
            return array
        for memory in self._memory:
            if owner is memory or (
                not (type(owner) is np.ndarray and owner.base is None)  # memory of unknown origin
                and np.may_share_memory(array, memory)
            ):
                return array.copy()
        return array

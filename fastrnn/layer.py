"""The layer objects but for what sets one cell apart from another.

Arrays are time-major here: ``x (T, B, D)``, ``h (T, B, H)``.  A cell is a subclass of
`Layer` with a subclass of `Workspace`: its weights, its buffers, its kernels.
"""

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
from numpy import ndarray

from .checks import Array, Axes, checked, common_dtype, is_ready, ready, sequence, weights
from .forks import await_before_forks, renew_after_forks
from .kernels._jit import fixed, made
from .kernels.team import FEW_ROWS
from .packing import aligned, backward_size, forward_size, padded
from .threads import Crew, Threads, cpu_count, shared_threads
from .workspace import Single, Weights, Workspace

# What makes another thread worth its cost: bytes of weights, as often as they are multiplied,
WOKEN_WORK = 200_000_000  # in a call, if it has to be woken,
AWAKE_WORK = 4_000_000  # if it is awake,
STEP_WORK = 800_000  # and in each step.
PACKING = 8  # steps in the time of packing
IN_USE = "workspace is in use by another call"

Count: TypeAlias = int | np.integer[Any]
Flag: TypeAlias = bool | np.bool_


class Kernels(NamedTuple):
    """The kernels of a cell; their arguments stand at the calls in `Layer`."""

    pack: Callable[..., Any]
    forward: Callable[..., Any]
    step: Callable[..., Any]
    backward: Callable[..., Any]
    short_forward: Callable[..., Any]
    short_backward: Callable[..., Any]


class Layer(Single, ABC):
    """A recurrent layer over time-major arrays, with weights packed once.

    A layer may be used by several threads at once, each with its own workspace and state.
    `update` disturbs no call that has begun, nor the `backward` of such a `forward`: these go
    on with the weights from before (which are the caller's to keep, if they were not copied).
    """

    _instead = "the parameters, to make another layer of"
    _keys: Mapping[str, Axes]  # in the order of the packing kernels
    _matrices: int  # the first of them; biases follow
    _gates: int
    _kernels: Kernels
    _state: tuple[str, ...]  # the arrays of a state; a single one goes without a tuple

    def __init__(self, parameters: Any, threads: Count = 1, *, training: Flag = True) -> None:
        self._count = _count("threads", threads, 1)
        self._most = min(self._count, cpu_count())
        self._training = _flag("training", training)
        sizes = {"1": 1}
        found = weights(parameters, self._keys, sizes)
        self._dtype = common_dtype(found)
        self._D = sizes["n_x"]
        self._H = sizes["n_a"]
        self._packers = self._crew(PACKING, 1)
        self._shapes = {key: w.shape for key, w in zip(self._keys, found, strict=True)}
        self._threads: Threads | None = None
        self.lock = threading.RLock()  # a signal's handler may come in the middle of `update`
        self._kernels = Kernels(*map(made, self._kernels))  # each call would go through `Late`
        self._step: Any = None  # its kernel, fixed to the layer's type by the first step
        self._state_count = len(self._state)  # one or two
        self._single = self._state_count == 1
        self._nothing = (np.empty((0, 0), self._dtype),) * self._state_count
        self._buffers = threading.local()
        room = self._room()
        self._pack([ready(w, self._dtype) for w in found], room)
        # The layer's weights are one or the other, and neither while `update` packs.
        self._packed: Weights | None = room
        self._waiting: Weights | None = None  # to be packed
        await_before_forks(self)

    # --- what is fixed: kernels check no bounds, and buffers are made for these ------

    @property
    def D(self) -> int:  # noqa: N802
        """Inputs."""
        return self._D

    @property
    def H(self) -> int:  # noqa: N802
        """Hidden units."""
        return self._H

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 if all weights promote to it, else float64; every call computes in it."""
        return self._dtype

    @property
    def threads(self) -> int:
        """Threads that calls are spread over where that pays."""
        return self._count

    @property
    def training(self) -> bool:
        """Whether the weights are packed for `backward` too."""
        return self._training

    # --- the cell's own -------------------------------------------------------------

    @abstractmethod
    def _workspace(self, T: int, B: int, training: bool) -> Workspace:
        """The cell's buffers."""

    # --- the same for all -----------------------------------------------------------

    def update(self, parameters: Any, *, copy: Flag = True) -> None:
        """Take new weights of the same shapes.

        Parameters
        ----------
        parameters : mapping
            As for the constructor; computed in the layer's type whatever theirs is.
        copy : bool
            If False, the arrays themselves may be read: by calls from now on until the next
            `update` returns, and by those begun before that and their `backward`.  Change them
            only when no such call is left, and let no call come before the `update`; they may
            not lie in a workspace.  The results are the same.  Training by few steps of few
            examples, which hardly pay for packing, is mostly faster (`fastrnn.packing.is_short`).

        Raises
        ------
        TypeError, ValueError, KeyError
            A weight does not fit this layer; the message names it.
        RuntimeError
            A signal's handler called this in the middle of an `update`.
        """
        copy = _flag("copy", copy)
        found = self._usual_weights(parameters)
        if found is None:
            sizes = {"1": 1, "n_a": self._H, "n_x": self._D}
            found = [ready(w, self._dtype) for w in weights(parameters, self._keys, sizes)]
        with self.lock:
            before = self._waiting or self._await_packed()
            in_use = weakref.ref(before)
            alone = before.alone
            # If a signal comes in between.
            after = Weights(before.forward, before.backward, before.unpacked)
            after.alone = False
            try:
                self._packed = self._waiting = None
                del before
                # What a call reads, or a workspace on its way back, stays as it is.
                room = after if alone and in_use() is None else self._room()
                if copy:
                    self._pack(found, room)
                    room.unpacked = None
                else:
                    # Views, whose flags and shape nobody changes.
                    room.unpacked = [w.view() for w in found]
                room.alone = True
                after = room
            finally:  # with no call in it, where a signal could come
                waits = after.unpacked is not None
                self._packed, self._waiting = (None, after) if waits else (after, None)

    def _room(self) -> Weights:
        """Memory for packed weights."""
        there = forward_size(self._D, self._H, self._gates, self._dtype)
        back = backward_size(self._D, self._H, self._gates, self._dtype) if self._training else 0
        forward, backward = aligned(self._dtype, (there,), (back,))
        return Weights(forward, backward)

    def _await_packed(self) -> Weights:
        """The packed weights, when another thread's `update` has ended; packed now if they wait."""
        with self.lock:
            waiting, packed = self._waiting, self._packed  # a signal's handler may pack, too
            if packed is not None:
                return packed
            if waiting is None:
                raise RuntimeError("layer is being updated by the call that a signal interrupted")
            unpacked = waiting.unpacked
            if unpacked is not None:
                self._pack(unpacked, waiting)
                waiting.unpacked = None
            if self._waiting is waiting:  # and no handler's `update` has come
                self._packed, self._waiting = waiting, None
            return waiting

    def _usual_weights(self, parameters: Any) -> list[Array] | None:
        """The weights if kernels take all of them as they are, at a small cost; else None."""
        if type(parameters) is not dict:
            return None
        dtype = self._dtype
        found = []
        for key, shape in self._shapes.items():
            w = parameters.get(key)
            if not (
                type(w) is ndarray and w.dtype is dtype and w.flags.carray and w.shape == shape
            ):
                return None
            found.append(w)
        return found

    def workspace(self, T: Count, B: Count, training: Flag | None = None) -> Workspace:
        """Preallocate the buffers for calls with T steps of B examples.

        Parameters
        ----------
        T, B : int
            Steps and examples.
        training : bool, optional
            Whether `backward` will follow; by default as the layer.  Without it, nothing
            but the states is kept.

        Returns
        -------
        Workspace
            Its ``nbytes`` is its size in bytes.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit; the message names it.
        MemoryError
            The buffers do not fit into memory.
        """
        training = self._training if training is None else _flag("training", training)
        if training and not self._training:
            raise ValueError("training is True; wanted False, as the layer was made for inference")
        T, B = _count("T", T, 0), _count("B", B, 0)
        try:
            ws = self._workspace(T, B, training)
        except MemoryError:
            raise MemoryError(f"T is {T} and B {B}; memory does not hold that") from None
        renew_after_forks(ws)
        return ws

    def forward(
        self, x: Any, state: Any = None, workspace: Workspace | None = None
    ) -> tuple[Array, Any]:
        """Run over all steps.

        Parameters
        ----------
        x : array_like, shape (T, B, D)
            Input.  With a training workspace it must stay as it is until `backward`.
        state : optional
            First state: of an `RNN` h, of an `LSTM` the tuple (h, c), each array_like of
            shape (B, H).  Zeros by default.
        workspace : Workspace, optional
            Buffers to use.  The results are then views into it; without one they are new.
            Those of a training workspace must stay as they are until `backward`, too.

        Returns
        -------
        h : ndarray, shape (T, B, H)
            State after each step.
        state
            Last state, in the form of the first.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit; the message names it.
        RuntimeError
            The workspace is in use by another call, or a signal's handler called this in the
            middle of an `update`.
        """
        usual = self._is_usual(x, self._D)
        if not usual:
            x = checked("x", x, ("T", "B", "D"), {"D": self._D})
        T, B, _ = x.shape
        first = self._nothing if state is None else self._check_states("state", state, B)
        if workspace is None:
            ws = self._workspace(T, B, training=False)
        else:
            ws = self._check_workspace(workspace, "x", T, B)
        x = ws.apart(x if usual else ready(x, self._dtype))
        found = self._packed or (ws.short and self._waiting) or self._await_packed()
        if ws.lock.locked():
            raise RuntimeError(IN_USE)
        with ws.lock:
            ws.x = None
            unpacked = found.unpacked
            if unpacked is None:
                arguments = (*first, x, found.forward, *ws.forward)
                self._run(ws.crew, self._kernels.forward, arguments)
            else:
                arguments = (*first, x, *unpacked, *ws.short)
                self._run(ws.crew, self._kernels.short_forward, arguments)
            if ws.training:
                ws.x, ws.weights = x.view(), found  # whose shape nobody changes
        if workspace is None:
            return ws.out, self._join_state([array.copy() for array in ws.last])
        return ws.out.view(), ws.state

    @overload
    def backward(self, dh: Any, dstate: Any, workspace: Workspace) -> dict[str, Array]: ...
    @overload
    def backward(
        self, dh: Any, dstate: Any = None, *, workspace: Workspace
    ) -> dict[str, Array]: ...
    def backward(
        self, dh: Any, dstate: Any = None, workspace: Workspace | None = None
    ) -> dict[str, Array]:
        """Back-propagate through the last `forward` with this workspace, which it uses up.

        Parameters
        ----------
        dh : array_like, shape (T, B, H)
            Gradient of the loss with respect to the state after each step.
        dstate : optional
            Further gradient of the last state, in the state's form; None, or None in the
            tuple, for zero.
        workspace : Workspace
            The one that `forward` was given.

        Returns
        -------
        dict
            ``dx (T, B, D)``, ``da0 (B, H)``, an LSTM's ``dc0 (B, H)``, and the weights'
            gradients under the notebooks' keys and in their shapes: views into the workspace.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit, or the workspace holds no forward pass.
        RuntimeError
            The workspace is in use by another call.
        """
        usual = self._is_usual(dh, self._H)
        if not usual:
            dh = checked("dh", dh, ("T", "B", "H"), {"H": self._H})
        T, B, _ = dh.shape
        last = self._nothing if dstate is None else self._check_states("dstate", dstate, B)
        ws = self._check_workspace(workspace, "dh", T, B)
        if dstate is not None:
            last = [ws.apart(array) for array in last]
        dh = ws.apart(dh if usual else ready(dh, self._dtype))
        if ws.lock.locked():
            raise RuntimeError(IN_USE)
        with ws.lock:
            x, found = ws.x, ws.weights
            if x is None or found is None:
                raise ValueError(
                    "workspace holds no forward pass; wanted a training workspace after forward, "
                    "whose saved values backward uses up"
                )
            ws.x = ws.weights = None
            unpacked = found.unpacked
            if unpacked is None:
                arguments = (*last, x, ws.h, dh, found.backward, *ws.backward)
                self._run(ws.crew, self._kernels.backward, arguments)
            else:
                arguments = (*last, x, ws.h, dh, *unpacked[: self._matrices], *ws.backward)
                self._run(ws.crew, self._kernels.short_backward, arguments)
        return dict(ws.gradients)

    def step(self, x_t: Any, state: Any) -> Array:
        """One step, in place: for loops in real time.

        Parameters
        ----------
        x_t : array_like, shape (B, D)
            Input of the step.
        state : ndarray or tuple of ndarray
            The state before the step as `forward` or `zero_state` returned it, of shape
            (B, H) and the layer's type; overwritten.  A copy, if `backward` will follow that
            `forward`, which reads it.

        Returns
        -------
        ndarray, shape (B, H)
            The state h after the step: the array that came in `state`.

        Raises
        ------
        TypeError, ValueError
            An argument does not fit; the message names it.
        RuntimeError
            A signal's handler called this in the middle of an `update`.
        """
        # Checks are the greater part of a small layer's step: those of shapes are the kernel's.
        dtype = self._dtype
        if not (type(x_t) is ndarray and x_t.dtype is dtype and x_t.flags.carray):
            x_t = ready(checked("x_t", x_t, ("B", "D"), {"D": self._D}), dtype)
        states = (state,) if self._single else state
        if type(states) is tuple:
            for array in states:
                # Numba would not always see that an array is swapped or not aligned.
                if not (type(array) is ndarray and array.dtype is dtype and array.flags.carray):
                    break
            else:
                packed = self._packed or self._await_packed()
                try:
                    buffer = self._buffers.step
                    if self._step(self._D, self._H, x_t, packed.forward, buffer, *states):
                        h: Array = states[0]
                        return h
                except (AttributeError, TypeError):
                    pass  # the first step, or another number of axes or arrays
        return self._checked_step(x_t, state)

    def _checked_step(self, x_t: Array, state: Any) -> Array:
        """A step that is not yet known to be right."""
        checked("x_t", x_t, ("B", "D"), {"D": self._D})
        B = len(x_t)
        states = self._check_overwritable(state, (B, self._H))
        # Room for the pre-activations of as many as have come at once, each thread its own.
        buffer = getattr(self._buffers, "step", None)
        if buffer is None or len(buffer) < B:
            (buffer,) = aligned(self._dtype, (B, self._gates, padded(self._H, self._dtype)))
            self._buffers.step = buffer
        packed = self._packed or self._await_packed()
        arguments = self._D, self._H, x_t, packed.forward, buffer, *states
        if self._step is None:
            self._step = fixed(self._kernels.step, arguments)
        if not self._step(*arguments):
            raise ValueError("state[0] and state[1] share memory; wanted two arrays to overwrite")
        return states[0]

    def zero_state(self, B: Count) -> Any:
        """A state of zeros for B examples, for `step` to begin with.

        Parameters
        ----------
        B : int
            Examples.

        Returns
        -------
        ndarray or tuple of ndarray, shape (B, H)
            Of an `RNN` h, of an `LSTM` the tuple (h, c).

        Raises
        ------
        TypeError, ValueError
            `B` is no int, or negative.
        MemoryError
            The state does not fit into memory.
        """
        B = _count("B", B, 0)
        try:
            arrays = aligned(self._dtype, *[(B, self._H)] * self._state_count)
        except MemoryError:
            raise MemoryError(f"B is {B}; memory does not hold that") from None
        for array in arrays:
            array[...] = 0.0
        return self._join_state(arrays)

    # --- arguments ------------------------------------------------------------------

    def _is_usual(self, value: Any, last: int) -> bool:
        """Whether kernels take this as it is: three axes, the last of this length."""
        return (
            type(value) is ndarray
            and value.dtype is self._dtype
            and value.flags.carray
            and value.ndim == 3
            and value.shape[2] == last
        )

    def _split_state(self, argument: str, value: Any) -> list[tuple[str, Any]]:
        """The arrays of a state, each with a name for messages."""
        if self._single:
            return [(argument, value)]
        wanted = f"a tuple ({', '.join(self._state)})"
        arrays = sequence(argument, value, self._state_count, wanted)
        return [(f"{argument}[{i}]", array) for i, array in enumerate(arrays)]

    def _join_state(self, arrays: Sequence[Array]) -> Any:
        return tuple(arrays) if len(arrays) > 1 else arrays[0]

    def _check_states(self, argument: str, value: Any, B: int) -> Sequence[Array]:
        """The arrays of a state as kernels take them; an empty one, for None, stands for zeros."""
        states = self._usual_state(value, B)
        if states is not None:
            return states
        sizes = {"B": B, "H": self._H}
        return [
            nothing
            if array is None
            else ready(checked(name, array, ("B", "H"), sizes), self._dtype)
            for nothing, (name, array) in zip(
                self._nothing, self._split_state(argument, value), strict=True
            )
        ]

    def _usual_state(self, value: Any, B: int) -> Sequence[Array] | None:
        """The arrays of a state if kernels take them as they are, at a small cost; else None."""
        states = (value,) if self._single else value
        if type(states) is not tuple or len(states) != self._state_count:
            return None
        dtype = self._dtype
        shape = B, self._H
        for array in states:
            if not (
                type(array) is ndarray
                and array.dtype is dtype
                and array.flags.carray
                and array.shape == shape
            ):
                return None
        return states

    def _check_overwritable(self, state: Any, shape: tuple[int, int]) -> Sequence[Array]:
        """The arrays of a state that `step` can overwrite, or what keeps it from that."""
        if not self._single and not isinstance(state, tuple):
            wanted = f"a tuple ({', '.join(self._state)}) of arrays to overwrite"
            raise TypeError(f"state is {type(state).__name__}; wanted {wanted}")
        sizes = dict(zip(("B", "H"), shape, strict=True))
        split = self._split_state("state", state)
        for name, value in split:
            array = checked(name, value, ("B", "H"), sizes)
            if type(value) is not ndarray:
                raise TypeError(f"{name} is {type(value).__name__}; wanted an ndarray to overwrite")
            if not is_ready(array, self._dtype):
                raise ValueError(
                    f"{name} is {array.dtype}, C-contiguous {array.flags.c_contiguous}, aligned "
                    f"{array.flags.aligned}, writeable {array.flags.writeable}; wanted "
                    f"{self._dtype}, C-contiguous, aligned, writeable, to overwrite"
                )
        return [array for _, array in split]

    def _check_workspace(self, workspace: Any, argument: str, T: int, B: int) -> Workspace:
        if not isinstance(workspace, Workspace):
            raise TypeError(
                f"workspace is {type(workspace).__name__}; wanted what workspace(T, B) returned"
            )
        if workspace._layer() is not self:
            raise ValueError("workspace belongs to another layer; wanted one of this layer's")
        if (T, B) != workspace._sizes:
            raise ValueError(
                f"{argument} has {T} steps of {B} examples; "
                f"wanted the workspace's {workspace.T} steps of {workspace.B}"
            )
        return workspace

    # --- buffers and threads --------------------------------------------------------

    def _pack(self, found: list[Array], room: Weights) -> None:
        """Pack weights for the forward and, when training, the backward products."""
        arguments = (*found, room.forward, room.backward, *self._packers.alone)
        self._run(self._packers, self._kernels.pack, arguments)

    def _run(self, crew: Crew, kernel: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Call a kernel in so many threads, if they can be had; see `Crew.alone`."""
        if crew.members == 1:
            kernel(*arguments)
        else:
            self._threads = threads = shared_threads()  # which somebody has to keep
            threads.lead(kernel, arguments, crew)

    def _crew(self, T: int, B: int) -> Crew:
        """How many threads a pass is worth."""
        rows = max(B, FEW_ROWS)  # fewer wait for their weights
        step = rows * self._gates * self._H * (self._H + self._D) * self._dtype.itemsize
        most = min(self._most, 1 + step // STEP_WORK)
        return Crew(*(min(most, 1 + T * step // least) for least in (AWAKE_WORK, WOKEN_WORK)))


def _flag(argument: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{argument} is {type(value).__name__}; wanted a bool")
    return bool(value)


def _count(argument: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{argument} is {type(value).__name__}; wanted an int")
    if value < least:
        raise ValueError(f"{argument} is {value}; wanted {least} or more")
    return int(value)

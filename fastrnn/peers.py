"""What fastrnn is measured against, each behind the same two methods.

`forward` and `training` of a `Peer` take a `Problem` and return a `Task`.  Whatever can be
made ready beforehand is ready then: weights in the peer's own form, compiled code, buffers.
`Task.run` is the part to time.  In training that is a forward and a backward pass from
weights that have just changed, to the gradients of the input, the first state and all weights.

No peer is a dependency: a library is imported when its class is instantiated.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import LSTM, RNN, reference
from .checks import Array

Results = dict[str, Array]

CELLS = ("rnn", "lstm")
GATES = {"rnn": 1, "lstm": 4}


class Problem(NamedTuple):
    """A layer's weights and arrays, time-major; an LSTM starts from a cell of zeros."""

    cell: str  # one of CELLS
    parameters: dict[str, Array]  # as for fastrnn.RNN or fastrnn.LSTM, and a softmax head
    x: Array  # (T, B, D)
    h0: Array  # (B, H)
    dh: Array  # (T, B, H), the gradient of the loss with respect to each state

    def astype(self, dtype: DTypeLike) -> "Problem":
        return Problem(
            self.cell,
            {key: w.astype(dtype) for key, w in self.parameters.items()},
            *(array.astype(dtype) for array in self[2:]),
        )

    def first_states(self) -> list[Array]:
        """An RNN's h, an LSTM's h and c."""
        return [self.h0] if self.cell == "rnn" else [self.h0, np.zeros_like(self.h0)]


class Task(NamedTuple):
    run: Callable[[], Any]
    read: Callable[[Any], Results]  # what `run` returned, as NumPy arrays under fastrnn's names


class UnsupportedError(Exception):
    """The peer cannot do this; the message says why."""


def random_problem(
    cell: str, D: int, H: int, B: int, T: int, dtype: DTypeLike, classes: int = 1
) -> Problem:
    """Weights of variance 1/H, so that rounding errors do not grow; all else of variance 1."""
    rng = np.random.default_rng(0)

    def draw(*shape: int, scale: float = 1.0) -> Array:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    if cell == "rnn":
        shapes = {"Wax": (H, D), "Waa": (H, H), "ba": (H, 1), "Wya": (classes, H)}
    else:
        shapes = {"Wy": (classes, H)}
        for gate in "fico":
            shapes |= {f"W{gate}": (H, H + D), f"b{gate}": (H, 1)}
    shapes["by"] = (classes, 1)
    parameters = {key: draw(*shape, scale=H**-0.5) for key, shape in shapes.items()}
    return Problem(cell, parameters, draw(T, B, D), draw(B, H), draw(T, B, H))


def stacked(problem: Problem, gates: str) -> tuple[Array, Array, Array]:
    """``W_ih (G H, D)``, ``W_hh (G H, H)`` and ``b (G H)``, an LSTM's gates in this order."""
    p = problem.parameters
    if problem.cell == "rnn":
        return p["Wax"], p["Waa"], p["ba"][:, 0]
    H = problem.h0.shape[1]
    w = np.concatenate([p[f"W{gate}"] for gate in gates])
    b = np.concatenate([p[f"b{gate}"][:, 0] for gate in gates])
    return np.ascontiguousarray(w[:, H:]), np.ascontiguousarray(w[:, :H]), b


def unstacked(problem: Problem, gates: str, dw_ih: Array, dw_hh: Array, db: Array) -> Results:
    """Gradients of what `stacked` returned, under fastrnn's names."""
    if problem.cell == "rnn":
        return {"dWax": dw_ih, "dWaa": dw_hh, "dba": db[:, None]}
    dw = np.split(np.concatenate([dw_hh, dw_ih], axis=1), 4)
    return {f"dW{gate}": dw[k] for k, gate in enumerate(gates)} | {
        f"db{gate}": b[:, None] for gate, b in zip(gates, np.split(db, 4), strict=True)
    }


def states(arrays: Any) -> Results:
    """What a forward pass returns: the states of all steps, and the last of each kind."""
    return dict(zip(("h", "h_last", "c_last"), arrays, strict=False))


class Peer(ABC):
    """An implementation of both cells; `threads` is how many it may use."""

    name: str
    needs: tuple[str, ...]  # packages, the first with the version

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.version: str = getattr(import_module(self.needs[0]), "__version__", "")

    @abstractmethod
    def forward(self, problem: Problem) -> Task:
        """Inference, from weights made ready beforehand."""

    @abstractmethod
    def training(self, problem: Problem) -> Task:
        """Forward and backward."""


def last_cell_gradient(da: Array, steps: Any) -> Array:
    """The gradient of the first cell state, which `reference.lstm_backward` keeps to itself."""
    da_prev = dc = np.zeros(da.shape[:2], da.dtype)
    for t in reversed(range(da.shape[2])):
        step = reference.lstm_cell_backward(da[:, :, t] + da_prev, dc, steps[t])
        da_prev, dc = step["da_prev"], step["dc_prev"]
    return dc


class Reference(Peer):
    """`fastrnn.reference`, the plain NumPy equations; its head of one class runs along."""

    name = "NumPy"
    needs = ("numpy",)

    def _prepare(self, problem: Problem) -> tuple[Any, tuple[Array, ...]]:
        """The notebooks' layout, (features, batch, time)."""
        arrays = (problem.x, problem.dh)
        x, dh = (np.ascontiguousarray(array.transpose(2, 1, 0)) for array in arrays)
        return getattr(reference, f"{problem.cell}_forward"), (x, problem.h0.T.copy(), dh)

    def forward(self, problem: Problem) -> Task:
        forward, (x, h0, _) = self._prepare(problem)

        def read(out: Any) -> Results:
            h = out[0].transpose(2, 1, 0)
            return states((h, h[-1], out[2][:, :, -1].T) if problem.cell == "lstm" else (h, h[-1]))

        return Task(lambda: forward(x, h0, problem.parameters), read)

    def training(self, problem: Problem) -> Task:
        forward, (x, h0, dh) = self._prepare(problem)
        backward = getattr(reference, f"{problem.cell}_backward")

        def run() -> tuple[Any, Results]:
            caches = forward(x, h0, problem.parameters)[-1]
            return caches, backward(dh, caches)

        def read(out: tuple[Any, Results]) -> Results:
            caches, gradients = out
            results = {**gradients, "dx": gradients["dx"].transpose(2, 1, 0)}
            results["da0"] = gradients["da0"].T
            if problem.cell == "lstm":  # the sequence function does not return dc0
                results["dc0"] = last_cell_gradient(dh, caches[0]).T
            return results

        return Task(run, read)


class Fastrnn(Peer):
    """The layer object with a workspace; training takes the weights anew."""

    name = "fastrnn"
    needs = ("fastrnn",)

    def _prepare(self, problem: Problem, training: bool) -> tuple[Any, Any, Any]:
        layer: Any = (RNN if problem.cell == "rnn" else LSTM)(
            problem.parameters, self.threads, training=training
        )
        first = problem.first_states()
        state = tuple(first) if len(first) > 1 else first[0]
        return layer, layer.workspace(*problem.x.shape[:2]), state

    def forward(self, problem: Problem) -> Task:
        layer, workspace, state = self._prepare(problem, training=False)

        def read(out: Any) -> Results:
            h, last = out
            return states((h, *last) if problem.cell == "lstm" else (h, last))

        return Task(lambda: layer.forward(problem.x, state, workspace), read)

    def training(self, problem: Problem) -> Task:
        layer, workspace, state = self._prepare(problem, training=True)
        copy = not workspace.short

        def run() -> Results:
            layer.update(problem.parameters, copy=copy)
            layer.forward(problem.x, state, workspace)
            gradients: Results = layer.backward(problem.dh, workspace=workspace)
            return gradients

        return Task(run, dict)


class Torch(Peer):
    """``torch.nn.RNN`` and ``torch.nn.LSTM``."""

    name = "PyTorch"
    needs = ("torch",)
    _gates = "ifco"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._torch: Any = import_module("torch")
        self._torch.set_num_threads(threads)

    def _prepare(self, problem: Problem) -> tuple[Any, list[Any]]:
        torch = self._torch
        D, H = problem.x.shape[2], problem.h0.shape[1]
        module = (torch.nn.RNN if problem.cell == "rnn" else torch.nn.LSTM)(D, H)
        w_ih, w_hh, b = stacked(problem, self._gates)
        # Of the module's two biases the second stays zero.
        for target, source in zip(module.parameters(), (w_ih, w_hh, b, 0 * b), strict=True):
            target.data = torch.from_numpy(source.copy())
        return module, [torch.from_numpy(state.copy())[None] for state in problem.first_states()]

    def forward(self, problem: Problem) -> Task:
        torch = self._torch
        module, first = self._prepare(problem)
        x = torch.from_numpy(problem.x)
        state = tuple(first) if len(first) > 1 else first[0]

        def read(out: Any) -> Results:
            h, last = out
            lasts = last if isinstance(last, tuple) else (last,)
            return states([h.numpy(), *(array[0].numpy() for array in lasts)])

        return Task(torch.inference_mode()(lambda: module(x, state)), read)

    def training(self, problem: Problem) -> Task:
        torch = self._torch
        module, first = self._prepare(problem)
        x, dh = (torch.from_numpy(array.copy()) for array in (problem.x, problem.dh))
        state = tuple(first) if len(first) > 1 else first[0]
        leaves = [x, *first, *module.parameters()]
        for leaf in leaves:
            leaf.requires_grad_()

        def run() -> None:
            for leaf in leaves:
                leaf.grad = None
            module(x, state)[0].backward(dh)

        def read(_: None) -> Results:
            dx, *rest = (leaf.grad.numpy() for leaf in leaves)
            dfirst = [rest.pop(0)[0] for _ in first]
            results = unstacked(problem, self._gates, *rest[:3])
            return results | {"dx": dx} | dict(zip(("da0", "dc0"), dfirst, strict=False))

        return Task(run, read)


class OnnxRuntime(Peer):
    """The ONNX operators RNN and LSTM, inputs and outputs bound to fixed buffers."""

    name = "ONNX Runtime"
    needs = ("onnxruntime", "onnx")
    _gates = "iofc"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._onnx: Any = import_module("onnx")
        self._runtime: Any = import_module("onnxruntime")

    def forward(self, problem: Problem) -> Task:
        if problem.x.dtype != np.float32:
            raise UnsupportedError("ONNX Runtime has no RNN or LSTM in float64")
        onnx, runtime = self._onnx, self._runtime
        T, B, _ = problem.x.shape
        H = problem.h0.shape[1]
        w_ih, w_hh, b = stacked(problem, self._gates)
        weights = {"W": w_ih[None], "R": w_hh[None], "B": np.concatenate([b, 0 * b])[None]}
        inputs = {"X": problem.x}
        outputs: dict[str, tuple[int, ...]] = {"Y": (T, 1, B, H)}
        for letter, state in zip("hc", problem.first_states(), strict=False):
            inputs[f"initial_{letter}"] = state[None]
            outputs[f"Y_{letter}"] = (1, B, H)

        helper = onnx.helper
        float32 = onnx.TensorProto.FLOAT
        x, *first = inputs
        node = helper.make_node(
            problem.cell.upper(), [x, *weights, "", *first], list(outputs), hidden_size=H
        )
        graph = helper.make_graph(
            [node],
            problem.cell,
            [helper.make_tensor_value_info(key, float32, a.shape) for key, a in inputs.items()],
            [helper.make_tensor_value_info(key, float32, s) for key, s in outputs.items()],
            [onnx.numpy_helper.from_array(array, key) for key, array in weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

        binding = session.io_binding()
        kept = []  # a binding does not keep its inputs alive
        for key, array in inputs.items():
            kept.append(runtime.OrtValue.ortvalue_from_numpy(array))
            binding.bind_ortvalue_input(key, kept[-1])
        for key, shape in outputs.items():
            kept.append(runtime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32))
            binding.bind_ortvalue_output(key, kept[-1])

        def read(_: None) -> Results:
            return states(value.numpy()[..., 0, :, :] for value in kept[len(inputs) :])

        return Task(lambda: session.run_with_iobinding(binding), read)

    def training(self, problem: Problem) -> Task:
        raise UnsupportedError("ONNX Runtime's CPU package has no training")


class Jax(Peer):
    """``jax.jit`` around ``lax.scan``; all products that need not be in the scan are outside."""

    name = "JAX"
    needs = ("jax",)
    _gates = "ifco"

    def __init__(self, threads: int) -> None:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        before = os.environ.get("XLA_FLAGS", "")
        if threads == 1 and flags not in before:
            os.environ["XLA_FLAGS"] = f"{before} {flags}".strip()
        super().__init__(threads)
        self._jax: Any = import_module("jax")
        config = self._jax.config
        config.update("jax_platforms", "cpu")
        config.update("jax_enable_x64", True)
        config.update("jax_cpu_enable_async_dispatch", False)  # a third off the smallest calls

    def _scan(self, cell: str) -> Callable[..., Any]:
        """From the input's products ``z (T, B, G H)`` and the first state to all states."""
        jax, numpy = self._jax, self._jax.numpy

        def rnn(z: Any, w_hh: Any, h: Any) -> Any:
            def step(h: Any, z_t: Any) -> Any:
                h = numpy.tanh(z_t + h @ w_hh)
                return h, h

            last, all_h = jax.lax.scan(step, h, z)
            return all_h, last

        def lstm(z: Any, w_hh: Any, *first: Any) -> Any:
            def step(state: Any, z_t: Any) -> Any:
                h, c = state
                H = h.shape[1]
                z_t = z_t + h @ w_hh
                # One sigmoid over all four gates is faster than three over their own.
                i, f, _, o = numpy.split(jax.nn.sigmoid(z_t), 4, axis=1)
                c = f * c + i * numpy.tanh(z_t[:, 2 * H : 3 * H])
                h = o * numpy.tanh(c)
                return (h, c), h

            last, all_h = jax.lax.scan(step, first, z)
            return all_h, *last

        return rnn if cell == "rnn" else lstm

    def _prepare(self, problem: Problem) -> tuple[list[Any], list[Any]]:
        put = self._jax.numpy.asarray
        w_ih, w_hh, b = stacked(problem, self._gates)
        weights = [put(np.ascontiguousarray(w_ih.T)), put(np.ascontiguousarray(w_hh.T)), put(b)]
        return weights, [put(state) for state in problem.first_states()]

    def forward(self, problem: Problem) -> Task:
        jax = self._jax
        weights, first = self._prepare(problem)
        x = jax.numpy.asarray(problem.x)
        scan = self._scan(problem.cell)

        @jax.jit  # type: ignore[untyped-decorator]
        def forward(x: Any, w_ih: Any, w_hh: Any, b: Any, *first: Any) -> Any:
            return scan(x @ w_ih + b, w_hh, *first)

        return Task(
            lambda: jax.block_until_ready(forward(x, *weights, *first)),
            lambda out: states(np.asarray(array) for array in out),
        )

    def training(self, problem: Problem) -> Task:
        jax, numpy = self._jax, self._jax.numpy
        weights, first = self._prepare(problem)
        x, dh = numpy.asarray(problem.x), numpy.asarray(problem.dh)
        scan = self._scan(problem.cell)

        @jax.jit  # type: ignore[untyped-decorator]
        def training(x: Any, dh: Any, w_ih: Any, w_hh: Any, b: Any, *first: Any) -> Any:
            # The weights' gradients as products over all steps; left to JAX, each step of
            # the backward scan would add its own.
            (h, *last), vjp = jax.vjp(lambda z, *s: scan(z, w_hh, *s), x @ w_ih + b, *first)
            dz, *dfirst = vjp((dh, *(numpy.zeros_like(array) for array in last)))
            rows = dz.reshape(-1, dz.shape[2])
            h_prev = numpy.concatenate([first[0][None], h[:-1]]).reshape(len(rows), -1)
            dw_ih = rows.T @ x.reshape(len(rows), -1)
            return dz @ w_ih.T, dw_ih, rows.T @ h_prev, rows.sum(0), *dfirst

        def read(out: Any) -> Results:
            dx, dw_ih, dw_hh, db, *dfirst = (np.asarray(array) for array in out)
            results = unstacked(problem, self._gates, dw_ih, dw_hh, db)
            return results | {"dx": dx} | dict(zip(("da0", "dc0"), dfirst, strict=False))

        return Task(lambda: jax.block_until_ready(training(x, dh, *weights, *first)), read)


LIBRARIES: tuple[type[Peer], ...] = (Torch, OnnxRuntime, Jax)


def installed(threads: int) -> tuple[list[Peer], dict[str, str]]:
    """The libraries that can be imported, and why the others cannot, by name."""
    found: list[Peer] = []
    missing = {}
    for library in LIBRARIES:
        try:
            found.append(library(threads))
        except ImportError as error:
            missing[library.name] = str(error)
    return found, missing


def limits(problem: Problem, expected: Mapping[str, Array]) -> dict[str, float]:
    """How far each result may be off: an error of one eps in each term of its sums.

    Terms are of the size of the largest result.  A state has ``D + H + 1`` terms, and those
    of the steps before act on it through one more sum each; a gradient of weights has one for each
    step and example, any other one for each gate.
    """
    T, B, D = problem.x.shape
    H = problem.h0.shape[1]
    eps = float(np.finfo(problem.x.dtype).eps)
    bounds = {}
    for key, array in expected.items():
        terms = D + H + 1 + T
        if key.startswith("d"):
            terms += T * B if key[1] in "Wb" else GATES[problem.cell] * H
        bounds[key] = eps * terms * max(1.0, float(np.abs(array).max(initial=0.0)))
    return bounds


def differences(
    problem: Problem, results: Mapping[str, Array], expected: Mapping[str, Array]
) -> list[str]:
    """What is wrong with some results, in words; nothing if all are within `limits`."""
    wrong = []
    for key, limit in limits(problem, expected).items():
        if key not in results or results[key].shape != expected[key].shape:
            wrong.append(f"{key} is missing or of another shape")
            continue
        error = float(np.abs(results[key] - expected[key]).max(initial=0.0))
        if not error <= limit:  # NaN is wrong too
            wrong.append(f"{key} is off by {error:.1e}, more than {limit:.1e}")
    return wrong

"""``fastrnn demo``: a character-level LSTM learns real text, as an example of the layer object.

Read `CharacterModel` for how a layer is used: one-hot characters go through a `fastrnn.LSTM`
and a softmax head, the loss is the cross-entropy of the next character, and the gradients
come back the same way.  `train` is truncated back-propagation through time with carried
state.  The letters are those of the layers: `T` steps, `B` streams, `H` hidden units, and
`V` different characters.
"""

import argparse
import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from . import reference, weights
from .checks import Array
from .lstm import LSTM
from .timing import least_times

HELD_OUT = 20  # one part in so many is kept from training, at most HELD_OUT_MOST characters
HELD_OUT_MOST = 20_000
PROMPT = 200  # characters that the model reads before it writes
SECONDS = 0.6  # of a comparison of times


class DemoError(Exception):
    """What the user gave cannot be used; the message is one line."""


# --- the model ----------------------------------------------------------------------


class CharacterModel:
    """One-hot characters, an LSTM layer and a softmax head.

    Parameters
    ----------
    parameters : dict
        As for `fastrnn.lstm_forward`; changed by whoever trains, see `update`.
    T, B : int
        Steps and streams of a batch.
    threads : int
        Threads of the layer.
    """

    def __init__(self, parameters: dict[str, Array], T: int, B: int, threads: int = 1) -> None:
        self.parameters = parameters
        self.layer = LSTM(parameters, threads)
        self.workspace = self.layer.workspace(T, B)
        self.one_hot = np.eye(self.layer.D, dtype=self.layer.dtype)

    def update(self) -> None:
        """Take notice that the parameters have changed."""
        self.layer.update(self.parameters)

    def forward(self, codes: Array, state: Any = None) -> tuple[Array, Array, Any]:
        """States ``h (T, B, H)``, log-probabilities of the next character, and last state."""
        h, state = self.layer.forward(self.one_hot[codes], state, self.workspace)
        return h, self.head(h), state

    def head(self, h: Array) -> Array:
        """Log-probabilities ``(T, B, V)`` of the next character."""
        logits = h.reshape(-1, self.layer.H) @ self.parameters["Wy"].T + self.parameters["by"].T
        return log_softmax(logits).reshape(*h.shape[:2], -1)

    def backward(self, h: Array, log_y: Array, targets: Array) -> dict[str, Array]:
        """Gradients of the batch's `cross_entropy`, after `forward`."""
        rows = targets.size
        dz = np.exp(log_y.reshape(rows, -1))
        dz[np.arange(rows), targets.reshape(-1)] -= 1.0
        dz /= rows
        dh = (dz @ self.parameters["Wy"]).reshape(h.shape)
        gradients = self.layer.backward(dh, workspace=self.workspace)
        gradients["dWy"] = dz.T @ h.reshape(rows, -1)
        gradients["dby"] = dz.sum(axis=0)[:, None]
        return gradients

    def sample(
        self, prompt: Array, count: int, temperature: float, rng: np.random.Generator
    ) -> list[int]:
        """Read a prompt, then draw characters one by one, each from what those before it tell."""
        h_all, state = self.layer.forward(self.one_hot[prompt[:, None]])
        h = h_all[-1]
        drawn: list[int] = []
        for _ in range(count):
            z = self.head(h[None])[0, 0].astype(float) / temperature
            y = np.exp(log_softmax(z))
            drawn.append(int(rng.choice(len(y), p=y / y.sum())))
            h = self.layer.step(self.one_hot[drawn[-1:]], state)
        return drawn


def log_softmax(z: Array) -> Array:
    """``log(softmax(z))`` along the last axis."""
    z = z - z.max(axis=-1, keepdims=True)
    z -= np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return z


def cross_entropy(log_y: Array, targets: Array) -> float:
    """Mean over all characters, in nats."""
    picked = np.take_along_axis(log_y, targets[..., None], axis=-1)
    return -float(picked.mean(dtype=float))


def new_parameters(V: int, H: int, dtype: str, rng: np.random.Generator) -> dict[str, Array]:
    """Uniform weights within 1/sqrt(H); the forget gates begin open."""
    shapes = {f"W{gate}": (H, H + V) for gate in "fico"} | {"Wy": (V, H)}
    parameters = {
        key: rng.uniform(-(H**-0.5), H**-0.5, shape).astype(dtype) for key, shape in shapes.items()
    }
    parameters |= {f"b{gate}": np.zeros((H, 1), dtype) for gate in "fico"}
    parameters["bf"] += 1.0
    parameters["by"] = np.zeros((V, 1), dtype)
    return parameters


# --- training -----------------------------------------------------------------------


def clip(gradients: dict[str, Array], limit: float) -> None:
    """Scale all gradients down, in place, to a common norm of at most `limit`.

    Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural
    networks".
    """
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in gradients.values()))
    if norm > limit:
        for gradient in gradients.values():
            gradient *= limit / norm


class Adam:
    """Kingma & Ba (2015), "Adam: a method for stochastic optimization"."""

    def __init__(self, parameters: dict[str, Array]) -> None:
        self.parameters = parameters
        self.mean = {key: np.zeros_like(w) for key, w in parameters.items()}
        self.square = {key: np.zeros_like(w) for key, w in parameters.items()}
        self.steps = 0

    def step(self, gradients: dict[str, Array], rate: float) -> None:
        """Change the parameters in place."""
        self.steps += 1
        rate *= math.sqrt(1.0 - 0.999**self.steps) / (1.0 - 0.9**self.steps)
        for key, w in self.parameters.items():
            g, mean, square = gradients["d" + key], self.mean[key], self.square[key]
            mean += 0.1 * (g - mean)
            square += 0.001 * (g * g - square)
            w -= rate * mean / (np.sqrt(square) + 1e-8)


def batches(codes: Array, T: int, B: int) -> Iterator[tuple[Array, Array, bool]]:
    """Endlessly: characters ``(T, B)``, the ones after them, and whether the streams begin anew.

    The text is cut into `B` streams that are read side by side, so that a batch begins
    where the one before ended.
    """
    length = len(codes) // B
    streams = codes[: B * length].reshape(B, length).T
    while True:
        for t in range(0, length - T, T):
            yield streams[t : t + T], streams[t + 1 : t + T + 1], t == 0


def train(
    model: CharacterModel,
    codes: Array,
    steps: int,
    rate: float,
    report: Callable[[int, float], None],
    stopped: Callable[[], bool],
) -> list[float]:
    """Truncated back-propagation through time; the loss of every step."""
    T, B = model.workspace.T, model.workspace.B
    adam = Adam(model.parameters)
    losses: list[float] = []
    state = None
    for step, (x, targets, anew) in zip(range(steps), batches(codes, T, B), strict=False):
        h, log_y, state = model.forward(x, None if anew else state)
        state = tuple(array.copy() for array in state)  # the workspace is used again
        losses.append(cross_entropy(log_y, targets))
        gradients = model.backward(h, log_y, targets)
        del gradients["dx"], gradients["da0"], gradients["dc0"]
        clip(gradients, 1.0)
        adam.step(gradients, rate * (1.0 - step / steps))
        model.update()
        report(step + 1, losses[-1])
        if stopped():
            break
    return losses


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that a step is finished; the second interrupts."""
    interrupted = threading.Event()

    def first(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield interrupted
        return
    signal.signal(signal.SIGINT, first)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Progress:
    """The loss as it falls: a bar on a terminal with tqdm, else a line now and then."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.loss = math.nan
        self.bar: Any = None
        if steps and sys.stderr is not None and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                layout = "{percentage:3.0f}% {bar} step {n_fmt}/{total_fmt} [{remaining}]{postfix}"
                self.bar = tqdm(total=steps, bar_format=layout, ncols=79, leave=False)

    def __call__(self, step: int, loss: float) -> None:
        """One more step is done."""
        self.loss = loss if step == 1 else self.loss + 0.1 * (loss - self.loss)
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {self.loss:.3f}", refresh=False)
            self.bar.update()
        elif step == 1 or step * 10 // self.steps > (step - 1) * 10 // self.steps:
            print(
                f"  step {step:{len(str(self.steps))}} of {self.steps}   "
                f"loss {self.loss:.3f} nats per character",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


# --- the same batch in NumPy --------------------------------------------------------


def compare(model: CharacterModel, codes: Array, targets: Array) -> str:
    """A table: the same batch through the model and through `fastrnn.reference`."""
    x = np.ascontiguousarray(model.one_hot[codes].transpose(2, 1, 0))  # (V, B, T), as the notebooks
    a0 = np.zeros((model.layer.H, x.shape[1]), x.dtype)
    one_hot_targets = model.one_hot[targets].transpose(2, 1, 0)

    def reference_forward() -> tuple[Array, Array, Any]:
        a, y, _, caches = reference.lstm_forward(x, a0, model.parameters)
        return a, y, caches

    def reference_both() -> dict[str, Array]:
        _, y, caches = reference_forward()
        gradients = reference.output_backward((y - one_hot_targets) / targets.size, caches)
        return reference.lstm_backward(gradients.pop("da"), caches) | gradients

    def both() -> dict[str, Array]:
        h, log_y, _ = model.forward(codes)
        return model.backward(h, log_y, targets)

    a, y, _ = reference_forward()
    h, log_y, _ = model.forward(codes)
    forward_error = max(
        float(abs(h.transpose(2, 1, 0) - a).max()),
        float(abs(np.exp(log_y).transpose(2, 1, 0) - y).max()),
    )
    wanted, found = reference_both(), both()
    found["dx"] = found["dx"].transpose(2, 1, 0)
    found["da0"] = found["da0"].T
    backward_error = max(
        float(abs(found[key] - gradient).max() / max(abs(gradient).max(), 1e-30))
        for key, gradient in wanted.items()
    )

    lines = [f"  {'':18}  largest difference     fastrnn       NumPy   ratio"]
    for name, error, ours, theirs in (
        ("forward", forward_error, lambda: model.forward(codes), reference_forward),
        ("forward + backward", backward_error, both, reference_both),
    ):
        # As for several threads: NumPy's own products, on both sides, may have some.
        fast, slow = least_times({"ours": ours, "theirs": theirs}, SECONDS, 2).values()
        lines.append(
            f"  {name:18}  {error:18.1e}  {fast * 1e3:7.2f} ms  {slow * 1e3:7.2f} ms"
            f"  {slow / fast:5.1f}x"
        )
    return "\n".join(lines)


# --- text ---------------------------------------------------------------------------


def read_text(path: Path | None) -> str:
    """The text of a file, or the Python language reference that CPython carries."""
    if path is None:
        try:
            from pydoc_data.topics import topics
        except ImportError:
            raise DemoError(
                "this Python comes without pydoc_data.topics; give a text with --text FILE"
            ) from None
        return "\n".join(topics[name] for name in sorted(topics))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DemoError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DemoError(
            f"{path} is not a text in UTF-8: byte {error.start} is {content[error.start]:#04x}"
        ) from None
    if "\0" in text:
        raise DemoError(f"{path} is binary: byte {content.index(0)} is NUL; wanted a text in UTF-8")
    if not text.strip():
        raise DemoError(f"{path} is empty; wanted a text in UTF-8")
    return text.replace("\r\n", "\n")


def encode(text: str, characters: str) -> Array:
    """Each character's place in the sorted `characters`."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    known = np.array([ord(character) for character in characters], np.uint32)
    codes = np.minimum(np.searchsorted(known, points), len(known) - 1)
    unknown = points[known[codes] != points]
    if len(unknown):
        raise DemoError(
            f"the text has characters that the loaded model does not know, as {chr(unknown[0])!r}"
        )
    return codes


def split(codes: Array, T: int, B: int) -> tuple[Array, Array]:
    """The text to learn from, and its end, held out."""
    held = min(len(codes) // HELD_OUT, HELD_OUT_MOST)
    if held < 2 or (len(codes) - held) // B <= T:
        learned = B * (T + 1)
        least = learned + min((learned - 1) // (HELD_OUT - 1), HELD_OUT_MOST)
        least = max(least, 2 * HELD_OUT)
        raise DemoError(
            f"the text has {len(codes):,} characters, too few; wanted {least:,} or more "
            f"for {B} streams of {T}"
        )
    return codes[:-held], codes[-held:]


def printable(text: str) -> str:
    """Lines that neither leave the screen nor command it."""
    lines = []
    for line in text.expandtabs(4).split("\n"):
        clean = "".join(c if c.isprintable() else "?" for c in line).rstrip()
        lines += [clean[at : at + 76] for at in range(0, len(clean), 76)] or [""]
    return "\n".join(f"  | {line}".rstrip() for line in lines)


# --- the command --------------------------------------------------------------------


def number(least: float, most: float, kind: type[int] | type[float] = int) -> Callable[[str], Any]:
    """An argparse type: a number from `least` to `most`."""

    def parse(value: str) -> float:
        try:
            found = kind(value)
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{value!r}; wanted {what} from {least} to {most:,}")
        return found

    return parse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``fastrnn demo``."""
    parser.description = (
        "Train a character-level LSTM on real text, let it write, and put the same batch "
        "through plain NumPy to compare results and times."
    )
    parser.epilog = """\
Ctrl-C ends the training after the step at hand: the summary is printed and
--save honoured, the exit code is 130. Exit code 2: a text or an option that
cannot be used. A progress bar needs tqdm (pip install 'fastrnn[demo]').

examples:
  fastrnn demo
  fastrnn demo --text novel.txt --steps 5000 --hidden 256 --save novel.npz
  fastrnn demo --text novel.txt --load novel.npz --steps 0 --temperature 0.5
"""
    add = parser.add_argument
    add("--text", type=Path, metavar="FILE", help="text in UTF-8 (default: Python's reference)")
    add("--steps", type=number(0, 10**9), default=1000, help="training steps (1000)")
    add("--hidden", type=number(1, 10**5), metavar="H", help="hidden units (128)")
    add("--length", type=number(1, 10**6), default=32, metavar="T", help="steps in a batch (32)")
    add("--batch", type=number(1, 10**6), default=16, metavar="B", help="parallel streams (16)")
    add("--rate", type=number(0, 100, float), default=0.02, help="learning rate at first (0.02)")
    add("--dtype", choices=("float32", "float64"), help="numbers to compute with (float32)")
    add("--threads", type=number(1, 1024), default=1, metavar="N", help="threads (1)")
    add("--seed", type=number(0, 2**63), default=0, metavar="N", help="of all random draws (0)")
    add("--sample", type=number(0, 10**6), default=400, metavar="N", help="characters (400)")
    add(
        "--temperature", type=number(0.01, 100, float), default=0.7,
        help="of the sample; lower is more timid (0.7)",
    )  # fmt: skip
    add("--save", type=Path, metavar="FILE.npz", help="write the trained weights")
    add("--load", type=Path, metavar="FILE.npz", help="begin with weights that were saved")


def begin(args: argparse.Namespace, text: str, rng: np.random.Generator) -> tuple[Any, str]:
    """The first parameters and their characters: new ones, or those of ``--load``."""
    if args.load is None:
        characters = "".join(sorted(set(text)))
        H = args.hidden or 128
        return new_parameters(len(characters), H, args.dtype or "float32", rng), characters
    parameters, characters = weights.load(args.load)
    H, dtype = len(parameters["Wf"]), parameters["Wf"].dtype.name
    for option, wanted, loaded in ("hidden", args.hidden, H), ("dtype", args.dtype, dtype):
        if wanted not in (None, loaded):
            raise DemoError(f"--{option} is {wanted}, but {args.load} has {loaded}")
    return parameters, characters


def run(args: argparse.Namespace) -> int:
    """The command ``fastrnn demo``; its exit code."""
    try:
        return demo(args)
    except (DemoError, weights.WeightsError) as error:
        print(f"fastrnn demo: error: {error}", file=sys.stderr)
    except MemoryError:
        print("fastrnn demo: error: not enough memory for these sizes", file=sys.stderr)
    return 2


def demo(args: argparse.Namespace) -> int:
    """`run`, with errors as exceptions."""
    T, B = args.length, args.batch
    if args.save is not None:
        weights.check_writable(args.save)
    text = read_text(args.text)
    rng = np.random.default_rng(args.seed)
    parameters, characters = begin(args, text, rng)
    codes, held_out = split(encode(text, characters), T, B)
    x, targets, _ = next(batches(codes, T, B))
    H, dtype = len(parameters["Wf"]), parameters["Wf"].dtype

    name = "Python's own reference, pydoc_data.topics" if args.text is None else args.text.name
    size = sum(w.size for w in parameters.values())
    print("A character-level LSTM, trained by truncated back-propagation through time.")
    print(f"text      {name}")
    print(f"          {len(text):,} characters, {len(characters)} different")
    print(f"model     {H} hidden units, {size:,} weights, {dtype}, threads: {args.threads}")
    print("kernels   ", end="", flush=True)
    start = time.perf_counter()
    model = CharacterModel(parameters, T, B, args.threads)
    h, log_y, _ = model.forward(x)
    model.backward(h, log_y, targets)
    model.sample(x[:1, 0], 1, 1.0, np.random.default_rng(0))
    print(f"compiled or loaded in {time.perf_counter() - start:.1f} s")
    print(f"training  {args.steps} steps of {B} x {T} characters", flush=True)

    start = time.perf_counter()
    progress = Progress(args.steps)
    with interruptible() as interrupted:
        try:
            losses = train(model, codes, args.steps, args.rate, progress, interrupted.is_set)
        finally:
            progress.close()
    seconds = time.perf_counter() - start
    if losses:
        speed = len(losses) * T * B / seconds
        stopped = "stopped after" if interrupted.is_set() else "took"
        print(f"          {stopped} {len(losses)} steps, {seconds:.1f} s", end="")
        print(f" ({speed:,.0f} characters a second)")
        print(f"loss      {losses[0]:.2f} -> {progress.loss:.2f} nats per character", end="")
        print(f"   (ln {len(characters)} = {math.log(len(characters)):.2f})")
    if args.save is not None:
        weights.save(args.save, parameters, characters)
        print(f"saved     {args.save}")
    if interrupted.is_set():
        print("interrupted: no sample, no comparison", flush=True)
        return 130

    h, _ = model.layer.forward(model.one_hot[held_out[:-1, None]])
    loss = cross_entropy(model.head(h), held_out[1:, None])
    print(f"held out  {loss:.2f} nats per character on the last {len(held_out):,}")
    if args.sample:
        print("sample    going on from the first held-out lines", end="")
        print(f", at temperature {args.temperature:g}", flush=True)
        sample = model.sample(held_out[:PROMPT], args.sample, args.temperature, rng)
        print(printable("".join(characters[code] for code in sample)))
    print(f"check     the same batch, {B} x {T} characters, here and in plain NumPy", flush=True)
    print(compare(model, x, targets))
    return 0

"""The one place that chooses Numba's options, and where compiled kernels are kept.

`kernel` is for what Python calls: it releases the GIL and is kept between processes.  Of the
functions that kernels are made of, `inline` puts the statements where they are called; those of
a `leaf` or a `part` have types and LLVM code of their own, made once, which LLVM optimises in
each kernel that calls them (`PartLibrary`).

Numba's own cache looks at the file of the function alone, and lets two processes that
compile at the same moment mix up each other's files.  `KernelCache` therefore names each
file after everything that its content follows from: the sources of all kernels, the
signature, the CPU and the Numba version.  A stale file can then never be found.
"""

import contextlib
import functools
import hashlib
import pickle
import signal
import threading
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import numba
from numba import njit, types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock

if numba.config.DISABLE_JIT:
    raise ImportError(
        "NUMBA_DISABLE_JIT is set; fastrnn has nothing to run without Numba's compiler"
    )


def digest_sources(folder):
    """A digest of every source file in a folder, be it in an archive; None if there is none."""
    digest = hashlib.sha256()
    try:
        sources = {file.name: file for file in folder.iterdir() if file.name.endswith(".py")}
        for name in sorted(sources):
            digest.update(name.encode() + b"\0" + sources[name].read_bytes() + b"\0")
    except OSError:  # a frozen application has no folders
        return None
    return digest.hexdigest() if sources else None


SOURCES = digest_sources(files(__package__))
compiler_lock = global_compiler_lock  # held by the thread that compiles


class CacheWarning(UserWarning):
    """Compiled kernels cannot be kept on disk."""


def _warn_uncached(reason):
    message = (
        "fastrnn cannot keep its compiled kernels on disk and will compile them again in every "
        f"process: {reason}"
    )
    if not _warn_uncached.done:
        _warn_uncached.done = True
        warnings.warn(message, CacheWarning, stacklevel=2)


_warn_uncached.done = False


def _warn_unwritten(error):
    _warn_uncached(f"{error}. Set NUMBA_CACHE_DIR to a folder that can be written.")


class KernelFiles(IndexDataCacheFile):
    """One file for each compiled signature, named after all that it follows from."""

    def _path(self, key):
        follows_from = repr((numba.__version__, self._source_stamp, key))
        name = hashlib.sha256(follows_from.encode()).hexdigest()[:32]
        return self._data_path(f"{self._index_name.removesuffix('.nbi')}-{name}.nbc")

    def flush(self):
        """Nothing to forget: a changed source has other file names."""

    def load(self, key):
        try:
            content = Path(self._path(key)).read_bytes()
        except OSError:
            return None
        checksum, data = content[:32], content[32:]
        # A damaged file is compiled anew and overwritten.
        return pickle.loads(data) if hashlib.sha256(data).digest() == checksum else None

    def save(self, key, data):
        data = self._dump(data)
        with self._open_for_write(self._path(key)) as file:
            file.write(hashlib.sha256(data).digest() + data)


@contextlib.contextmanager
def uninterrupted():
    """Let Ctrl-C wait for the end of the block."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came = []
    signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        handler(*came[0])


class KernelCache(FunctionCache):
    """Numba's function cache, over `KernelFiles`."""

    def __init__(self, py_func):
        super().__init__(py_func)
        self._cache_file = KernelFiles(self._cache_path, self._impl.filename_base, SOURCES)

    def load_overload(self, sig, target_context):
        # The first time this loads Numba's registries, which serve no more if cut short.
        with uninterrupted():
            target_context.refresh()
        return super().load_overload(sig, target_context)

    def save_overload(self, sig, data):
        # What a part prints or raises needs its environment in the kernel's machine code, as
        # Numba gives it to what comes from a file.
        for env in data._find_referenced_environments():
            data.library.codegen.set_env(env.env_name, env)
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn_unwritten(error)


class Late:
    """In the place of a compiled function until Python calls it or a kernel calls it.

    What Numba asks of it is answered by the compiled function, which is made at the first question
    and then takes this object's place in its module.  A process that finds its kernels on disk
    never makes what they were made of.
    """

    _compiled = None

    def __init__(self, function, make):
        self._make = make
        functools.update_wrapper(self, function)

    @property
    def compiled(self):
        """What it stands for."""
        if self._compiled is None:
            with compiler_lock:  # two threads may ask at once
                if self._compiled is None:
                    self._compiled = self._make(self.__wrapped__)
                    module = self.__wrapped__.__globals__
                    if module.get(self.__name__) is self:
                        module[self.__name__] = self._compiled
        return self._compiled

    def __call__(self, *arguments):
        return self.compiled(*arguments)

    def __getattr__(self, name):
        if name.startswith("__"):  # of Python's own protocols
            raise AttributeError(name)
        return getattr(self.compiled, name)


def made(function):
    """A function that a module has, itself, be it late or not."""
    return function.compiled if isinstance(function, Late) else function


def late(make):
    """Have a decorator give its functions to Numba when they are first needed."""
    return functools.wraps(make)(lambda function: Late(function, make))


@late
def inline(function):
    """Put a function's statements where it is called, before types are inferred."""
    return njit(function, inline="always", error_model="numpy", boundscheck=False)


class PartLibrary(JITCodeLibrary):
    """LLVM's code of a function that only kernels call: it waits for theirs.

    Numba's own library would have it optimised and made machine code with all that it calls:
    what is called once more for each level of calls above it.
    """

    def _optimize_final_module(self):
        """Not yet."""

    def _finalize_final_module(self):
        self._finalized = True

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        return 0  # in Python there is nothing to call

    @property
    def codegen(self):
        return self

    def set_env(self, name, env):
        """There is no machine code yet; see `KernelCache.save_overload`."""


class PartCompiler(Compiler):
    """Numba's compiler, for a `PartLibrary`."""

    def __init__(self, typingctx, targetctx, library, *arguments):
        library = PartLibrary(targetctx.codegen(), "part")
        super().__init__(typingctx, targetctx, library, *arguments)


def _called(function, **options):
    """Compile a function for other compiled functions alone, once for each type."""
    compiled = njit(
        function,
        pipeline_class=PartCompiler,
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
        error_model="numpy",
        boundscheck=False,
        **options,
    )
    template = compiled.get_call_template

    def template_of_types(args, kws):
        # To Numba each number that stands in a call is a type of its own.
        return template([types.unliteral(kind) for kind in args], kws)

    compiled.get_call_template = template_of_types
    return compiled


@late
def leaf(function):
    """Make LLVM code of a function, for LLVM to put where it is called."""
    return _called(function, forceinline=True)


@late
def part(function):
    """Make LLVM code of a function, for kernels to call."""
    return _called(function)


@late
def kernel(function):
    """Compile a function that Python calls, once for each dtype, and keep the result."""
    compiled = njit(function, nogil=True, error_model="numpy", boundscheck=False)
    if SOURCES is None:
        _warn_uncached("there are no source files to name them after.")
        return compiled
    try:
        compiled._cache = KernelCache(function)
    except (RuntimeError, OSError) as error:
        _warn_unwritten(error)
    return compiled


@functools.cache
def _fixed(function, kinds):
    function.compile(kinds)
    # Another object: the kernel itself must go on to be compiled for other types.
    only = njit(function.py_func)
    only.add_overload(function.overloads[kinds])
    only.disable_compile()
    return only


def fixed(function: Any, arguments: tuple[Any, ...]) -> Any:
    """A kernel that takes arguments of the types of these alone.

    With others, where the kernel would be compiled once more, it raises a TypeError.  That holds
    for arrays of another number of axes; what their dtype and flags say Numba may overlook, and
    arrays of a subclass pass for such of ndarray.
    """
    return _fixed(made(function), tuple(map(numba.typeof, arguments)))

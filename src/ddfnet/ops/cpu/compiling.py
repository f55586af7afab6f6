"""Compile CPU kernels: functions of one address, that of a record of int64 numbers, kept in numba's cache on disk."""

import contextlib
import hashlib
import pickle
import sys
import threading
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba as _numba
import numpy as np
from numba.core import caching as _caching
from numba.core import ccallback as _ccallback
from numba.core import types as _types
from numba.np.numpy_support import from_dtype

numba: Any = _numba  # not typed
types: Any = _types
caching: Any = _caching
ccallback: Any = _ccallback
carray = numba.carray
_OPTIONS = {"error_model": "numpy"}  # no check of divisors: none is ever 0
inlined = numba.njit(inline="always", **_OPTIONS)  # a piece of a kernel

_SECONDS = 1.0  # of compiling, after which a line says why the call takes so long
_CHECKSUM = 4  # bytes


def called(function: Callable[..., Any]) -> Any:
    """Decorate a function that kernels call.

    It is quicker to compile than an inlined one where it is long, or where several kernels share it.
    """
    return numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)(_with_unique_symbol(function))


def _with_unique_symbol(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give `function` a name that no function in any process has.

    numba numbers functions within a process. Kernels that several processes compiled would bring the same symbols for
    different code, and the linker of a process that loads them all would take the first of each.
    """
    function.__qualname__ += f"_{uuid.uuid4().hex}"
    return function


def compile_kernel(
    make: Callable[..., Callable[..., None]],
    options: tuple[int, ...],
    call: type[tuple[Any, ...]],
    version: int,
) -> Any:
    """Compile the kernel `make(*options)`, or load it from numba's cache on disk.

    numba keeps its cache beside the source or in the user's cache folder. What cannot be read there is compiled again
    and overwritten; where nothing can be written, compiling is repeated in every process.

    Args:
        call: the named tuple of int64 numbers whose address the kernel gets.
        version: of the code that the kernel is made of, see `source_version`.
    """
    record = from_dtype(np.dtype([(name, np.int64) for name in call._fields]))  # type: ignore[attr-defined, arg-type]
    kernel = _Function(make(*options), ((types.CPointer(record),), types.void), {}, _OPTIONS)
    kernel.keep_as(options, version)
    kernel.compile()
    return kernel


class _Function(ccallback.CFunc):  # type: ignore[misc]
    """A compiled function that is kept on disk and reports a long compilation."""

    def keep_as(self, options: tuple[int, ...], version: int) -> None:
        with contextlib.suppress(RuntimeError, OSError):  # no folder to write to
            self._cache = _Cache(self._pyfunc, options, version)
        _with_unique_symbol(self._pyfunc)

    def _compile_uncached(self) -> Any:
        with _explained(f"{self._pyfunc.__module__}.{self.__name__}"):
            return super()._compile_uncached()


@contextlib.contextmanager
def _explained(kernel: str) -> Iterator[None]:
    """Print one line on stderr if the body takes long."""
    text = f"ddfnet: compiling the CPU kernel {kernel} (once for such calls; it is kept on disk)"
    timer = threading.Timer(_SECONDS, lambda: print(text, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    """numba's cache under a key of ours: numba's key would hold the addresses of inlined functions."""

    def __init__(self, function: Callable[..., None], options: tuple[int, ...], version: int) -> None:
        super().__init__(function)
        self._options = options
        self._cache_file = _Files(Path(self._cache_path), self._impl.filename_base, f"{numba.__version__} {version}")

    def _index_key(self, sig: Any, codegen: Any) -> str:
        return f"{self._options} {codegen.magic_tuple()}"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever a damaged file leads to
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk: the kernel is there
            super().save_overload(sig, data)


class _Files:
    """Keep each kernel in a file of its own, so that many processes can write at once.

    numba's files are numbered by an index: of two processes that save at once, one gives its code the other's number. Ours
    are named for their key. They hold the key, the version, and a checksum, since damaged machine code does not raise
    an error but crashes. The file of another version is overwritten.
    """

    def __init__(self, folder: Path, name: str, version: str) -> None:
        self._folder, self._name, self._version = folder, name, version

    def _path(self, key: str) -> Path:
        return self._folder / f"{self._name}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.nbc"

    def load(self, key: str) -> Any:
        path = self._path(key)
        if not path.exists():
            return None
        content = path.read_bytes()
        if content[:_CHECKSUM] != _checksum(content[_CHECKSUM:]):
            return None
        of, data = pickle.loads(content[_CHECKSUM:])
        return data if of == (key, self._version) else None

    def save(self, key: str, data: Any) -> None:
        content = caching.dumps(((key, self._version), data))
        path = self._path(key)
        partial = path.with_suffix(f".{uuid.uuid4().hex[:16]}")
        try:
            partial.write_bytes(_checksum(content) + content)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM, "little")

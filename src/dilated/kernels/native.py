"""The compiled kernels: built on first use by the system's C++ compiler, kept in a cache, and never needed.

Without a compiler, or with DILATED_NATIVE=0 in the environment, `load_native()` is None and callers use plain PyTorch.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torch

from dilated.files import atomic_path, cache_folder
from dilated.kernels.winograd import Matrix, cook_toom

TRANSFORM_PAIRS = (
    *(((m, 3), (m, 3)) for m in (2, 4, 6)),
    *(((m, 5), (m, 5)) for m in (2, 4)),
    *(((2, 7), (2, 7)), ((4, 7), (4, 7)), ((4, 7), (6, 7)), ((6, 7), (6, 7))),
)
"""((tile, kernel) of the rows, of the columns) that are compiled in."""
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno")
_SOURCE = Path(__file__).with_name("kernels.cpp")
_LARGE_MAP_BYTES = 8 * 2**20
"""The least memory of a map for which large pages are asked."""
_HEADERS = tuple(
    Path(__file__).with_name(name) for name in ("depthwise_gradient.h", "inverted_residual.h", "upsample.h")
)


_TRITON_FAULTS: list[str] = []
"""Why Triton cannot run here, once that has shown."""


def has_triton() -> bool:
    """Whether Triton, which compiles kernels for GPUs, is installed with what they need, and has not failed here."""
    return _is_triton_installed() and not _TRITON_FAULTS


@lru_cache(maxsize=1)
def _is_triton_installed() -> bool:
    if importlib.util.find_spec("triton") is None:
        return False
    return importlib.util.find_spec("triton.tools.tensor_descriptor") is not None  # which the first versions lack


def try_triton(run: Callable[[], torch.Tensor]) -> torch.Tensor | None:
    """Compute by Triton; None where it is missing or, as a warning says once, cannot run.

    It needs a C compiler and Python's headers, which many machines with a GPU lack, and a GPU that is not too old.
    """
    if not has_triton():
        return None
    try:
        return run()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of Triton's compiler, the C compiler or the driver, each with types of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        _TRITON_FAULTS.append(reason)
        warnings.warn(f"Triton cannot run here ({reason}): PyTorch's own kernels compute instead", stacklevel=3)
        return None


class Layer(ctypes.Structure):
    """The arguments of one convolution, as kernels.cpp has them."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "y", "u", "bias", "scratch")),
        *(
            (name, ctypes.c_int64)
            for name in (
                *("batch", "height", "width", "out_height", "out_width", "groups", "c_in", "c_out"),
                *("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "padding_h", "padding_w"),
                *("chunk", "block", "shared", "threads"),
            )
        ),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    )


class Block(ctypes.Structure):
    """The arguments of an inverted residual block, as inverted_residual.h has them."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "y", "expand", "expand_bias", "depthwise", "depthwise_bias")),
        *((name, ctypes.c_void_p) for name in ("project", "project_bias", "scratch")),
        *(
            (name, ctypes.c_int64)
            for name in (
                *("batch", "height", "width", "out_height", "out_width", "c_in", "hidden", "c_out"),
                *("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "padding_h", "padding_w"),
                *("skip", "threads"),
            )
        ),
        ("low", ctypes.c_float * 3),
        ("high", ctypes.c_float * 3),
    )


class Labels(ctypes.Structure):
    """The arguments of up-sampling and argmax, as kernels.cpp has them."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("logits", "labels", "rows", "columns", "row_weights", "column_weights")),
        *(
            (name, ctypes.c_int64)
            for name in ("batch", "classes", "height", "width", "out_height", "out_width", "threads")
        ),
    )


class Upsample(ctypes.Structure):
    """The arguments of bilinear up-sampling, as upsample.h has them."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "y", "rows", "columns", "row_weights", "column_weights")),
        *(
            (name, ctypes.c_int64)
            for name in ("batch", "channels", "height", "width", "out_height", "out_width", "threads")
        ),
    )


class Mask(ctypes.Structure):
    """The arguments of the gradient of a clamp, as depthwise_gradient.h has them."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("gradient", "y", "masked", "sums")),
        *((name, ctypes.c_int64) for name in ("pixels", "channels", "threads")),
        ("low", ctypes.c_float),
        ("high", ctypes.c_float),
    )


@lru_cache(maxsize=1)
def load_native() -> ctypes.CDLL | None:
    """The compiled kernels, built if need be; None where that is impossible (a warning says why) or not wanted."""
    if os.environ.get("DILATED_NATIVE") == "0":
        return None
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        return None
    try:
        return _declare(ctypes.CDLL(str(_build(compiler))))
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "stderr", None) or str(error)
        warnings.warn(f"kernels: {compiler} cannot build them, plain PyTorch is used ({reason[-300:]})", stacklevel=2)
        return None


def empty_map(shape: Sequence[int], memory_format: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    """An uninitialized float32 tensor, of large memory pages where the system grants them."""
    memory, native = torch.empty(tuple(shape), memory_format=memory_format), load_native()
    if native is not None and memory.nbytes >= _LARGE_MAP_BYTES:
        native.dilated_use_large_pages(memory.data_ptr(), memory.nbytes)
    return memory


def make_cache_folder() -> Path:
    """Where compiled kernels and measured times are kept; made where it is missing."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def native_version() -> str:
    """What the times of kernels depend on besides the machine: the compiled code, or `plain` without it."""
    if load_native() is None:
        return "plain"
    return hashlib.sha256((_transforms_header() + _source_text()).encode()).hexdigest()[:16]


def _source_text() -> str:
    """All that is compiled but the transforms."""
    return "".join(path.read_text() for path in (_SOURCE, *_HEADERS))


def _transforms_header() -> str:
    """The transforms as straight-line C++; pairs of points +p and -p share their even and odd halves."""
    sizes = sorted({size for pair in TRANSFORM_PAIRS for size in pair})
    structs = []
    for tile, kernel in sizes:
        transform = cook_toom(tile, kernel)
        structs.append(
            f"struct T{tile}_{kernel} {{\n  static constexpr int m = {tile}, r = {kernel}, n = {transform.size};\n"
            f"  INLINE void input(const vec* x, vec* y) {{\n{_input_code(transform.input)}  }}\n"
            f"  INLINE void output(const vec* x, vec* y) {{\n{_output_code(transform.output)}  }}\n}};\n"
        )
    pairs = " ".join(f"X(T{h[0]}_{h[1]}, T{w[0]}_{w[1]})" for h, w in TRANSFORM_PAIRS)
    return "".join(structs) + f"#define TRANSFORM_PAIRS(X) {pairs}\n"


def _input_code(matrix: Matrix) -> str:
    """y = matrix x; two rows that differ by the sign of their odd entries cost one."""
    lines = []
    remaining = list(range(len(matrix)))
    while remaining:
        i = remaining.pop(0)
        row = matrix[i]
        even, odd = _sum_code(row[::2], 0), _sum_code(row[1::2], 1)
        for j in remaining:
            for sign in (1, -1):
                if all(matrix[j][k] == sign * (-1) ** k * v for k, v in enumerate(row)) and even and odd:
                    difference = "e - o" if sign == 1 else "o - e"
                    lines.append(f"    {{ vec e = {even}, o = {odd}; y[{i}] = e + o; y[{j}] = {difference}; }}\n")
                    break
            else:
                continue
            remaining.remove(j)
            break
        else:
            lines.append(f"    y[{i}] = {' + '.join(filter(None, (even, odd)))};\n")
    return "".join(lines)


def _output_code(matrix: Matrix) -> str:
    """y = matrix x; columns that differ by the sign of their odd entries are added and subtracted first."""
    columns = list(zip(*matrix, strict=True))
    names: list[list[tuple[str, Fraction]]] = [[] for _ in matrix]  # per row: (variable, coefficient)
    lines, remaining = [], list(range(len(columns)))
    while remaining:
        i = remaining.pop(0)
        partner = next(
            (j for j in remaining if all(columns[j][k] == (-1) ** k * v for k, v in enumerate(columns[i]))), None
        )
        if partner is None or len(matrix) == 1:
            for k, value in enumerate(columns[i]):
                names[k].append((f"x[{i}]", value))
            continue
        remaining.remove(partner)
        lines.append(f"    vec s{i} = x[{i}] + x[{partner}], d{i} = x[{i}] - x[{partner}];\n")
        for k, value in enumerate(columns[i]):
            names[k].append((f"{'d' if k % 2 else 's'}{i}", value))
    for k, terms in enumerate(names):
        lines.append(f"    y[{k}] = {_terms_code(terms)};\n")
    return "".join(lines)


def _sum_code(values: Sequence[Fraction], offset: int) -> str:
    return _terms_code([(f"x[{2 * k + offset}]", value) for k, value in enumerate(values)])


def _terms_code(terms: Sequence[tuple[str, Fraction]]) -> str:
    """Code for the sum of coefficient * variable; empty where all coefficients are zero."""
    parts = []
    for name, value in terms:
        if value == 1:
            parts.append(name)
        elif value == -1:
            parts.append(f"-{name}")
        elif value:
            parts.append(f"{float(value).hex()}f * {name}")
    return " + ".join(parts)


def _build(compiler: str) -> Path:
    """Compile, unless this machine has done so; the shared library."""
    header, source = _transforms_header(), _source_text()
    openmp = _openmp_flags()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    key = "\0".join((header, source, version, *_FLAGS, *openmp, describe_processor(), sys.platform))
    library = make_cache_folder() / f"kernels-{hashlib.sha256(key.encode()).hexdigest()[:20]}.so"
    if library.exists():
        return library
    with atomic_path(library) as temporary:
        folder = temporary.with_name(temporary.name + ".build")
        folder.mkdir()
        try:
            (folder / "transforms.h").write_text(header)
            command = [compiler, *_FLAGS, f"-I{folder}", str(_SOURCE), "-o", str(temporary), *openmp]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return library


def _openmp_flags() -> list[str]:
    """OpenMP from the library that torch has loaded: two pools of threads would compete for the cores."""
    library = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    return ["-fopenmp", str(library)] if sys.platform == "linux" and library.exists() else []


def describe_processor() -> str:
    """What `-march=native` depends on: the processor's name and its features."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
        return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
    except OSError:
        return platform.processor() or platform.machine()


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, sizes in (("dilated_winograd", 3), ("dilated_direct", 1), ("dilated_depthwise", 1)):
        function = getattr(library, name)
        function.restype, function.argtypes = ctypes.c_int64, [ctypes.POINTER(Layer), *[ctypes.c_int64] * sizes]
    residual = library.dilated_inverted_residual
    residual.restype, residual.argtypes = ctypes.c_int64, [ctypes.POINTER(Block), ctypes.c_int64]
    library.dilated_labels.restype, library.dilated_labels.argtypes = None, [ctypes.POINTER(Labels)]
    pages = library.dilated_use_large_pages
    pages.restype, pages.argtypes = None, [ctypes.c_void_p, ctypes.c_int64]
    library.dilated_upsample.restype, library.dilated_upsample.argtypes = None, [ctypes.POINTER(Upsample)]
    for name in ("dilated_depthwise_input", "dilated_depthwise_weight"):
        getattr(library, name).restype, getattr(library, name).argtypes = None, [ctypes.POINTER(Layer)]
    library.dilated_mask.restype, library.dilated_mask.argtypes = None, [ctypes.POINTER(Mask)]
    for name in ("dilated_panel", "dilated_rows"):
        getattr(library, name).restype = ctypes.c_int64
    return library

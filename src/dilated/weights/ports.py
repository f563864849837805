"""The released networks' weights as others have stored them: Keras, TensorFlow, PyTorch. Read without running a file.

    layers, note = read_port("camvid.h5", expected)          # DavideA's dilation-keras: four networks
    layers, note = read_port("cityscapes.pickle", expected)  # ndrplz's dilation-tensorflow: a dict of arrays
    layers, note = read_port("can.pth", expected)            # a state dict, by names or by the order of its layers

All store the authors' weights in another order: Keras's (with Theano) kernels are turned by 180 degrees, TensorFlow's
are (rows, columns, in, out).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.weights.torch_files import load_torch_file

Layers = dict[str, list[NDArray[np.float32]]]
_Shapes = Mapping[str, Sequence[tuple[int, ...]]]
UPSAMPLING_LAYER = "ctx_upsample"
"""Cityscapes' deconvolution, which was never trained: its weights are the bilinear kernel."""
_NO_UPSAMPLING = "; its ctx_upsample is left out, since the released network's deconvolution takes its place"


def read_port(path: Path, expected: _Shapes) -> tuple[Layers, str]:
    """Read the weights of a released network from another library's file.

    Args:
        path: a `.h5`, `.pickle`, `.pkl`, `.pth` or `.pt` file.
        expected: layer name -> the shapes of its weight and its bias, in the order in which the layers run.

    Returns:
        Layer name -> weight (out, in, rows, columns) and bias; and one line on how the file was read.

    Raises:
        InputError: a file of another kind, or one whose arrays cannot be told apart.
    """
    readers: dict[str, Callable[[Path, _Shapes], tuple[Layers, str]]] = {
        ".h5": _read_keras,
        ".pickle": _read_pickle,
        ".pkl": _read_pickle,
        ".pth": _read_state_dict,
        ".pt": _read_state_dict,
    }
    if path.suffix not in readers:
        raise InputError(f"{path}: not a file of weights", hint=f"give a .caffemodel or a {', '.join(readers)} file")
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint="give the path of a file of weights")
    layers, note = readers[path.suffix](path, expected)
    if layers.pop(UPSAMPLING_LAYER, None):
        note += _NO_UPSAMPLING
    return layers, note


def _read_keras(path: Path, expected: _Shapes) -> tuple[Layers, str]:
    """A file of `save_weights` or `save`: a group per layer, whose attribute `weight_names` gives their order."""
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            f"{path}: Keras's files need the package h5py", hint="run: pip install 'dilated[keras]'"
        ) from error
    layers: Layers = {}
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            backend = root.attrs.get("backend", file.attrs.get("backend", ""))
            for name, group in root.items():
                names = [_decode(n) for n in group.attrs.get("weight_names", [])]
                if names:
                    layers[name] = [np.asarray(group[n], dtype=np.float32) for n in names]
    except Exception as error:  # h5py can raise anything on foreign bytes
        require_memory(error, f"{path}: reading the weights")
        raise InputError(
            f"{path}: not a file of Keras weights ({error})", hint="write it by save_weights of Keras"
        ) from error
    is_theano_order = _has_shapes(layers, expected)
    if not is_theano_order:
        layers = _from_channels_last(layers)
    # Theano's convolution turns the kernel; files from before Keras said its backend have this order with Theano alone.
    is_turned = _decode(backend) == "theano" if backend else is_theano_order
    if is_turned:
        layers = {
            name: [x[..., ::-1, ::-1].copy() if x.ndim == 4 else x for x in arrays] for name, arrays in layers.items()
        }
    return layers, f"Keras, kernels {'turned by 180 degrees, as for Theano' if is_turned else 'as for TensorFlow'}"


def _decode(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _has_shapes(layers: Layers, expected: _Shapes) -> bool:
    """Whether every kernel is (out, in, rows, columns)."""
    return all(layers[name][0].shape == shapes[0] for name, shapes in expected.items() if layers.get(name))


def _from_channels_last(layers: Layers) -> Layers:
    return {name: [x.transpose(3, 2, 0, 1) if x.ndim == 4 else x for x in arrays] for name, arrays in layers.items()}


def _read_pickle(path: Path, expected: _Shapes) -> tuple[Layers, str]:
    """A dict of arrays named `conv1_1/kernel:0` and `conv1_1/bias:0`, as Python 2 or 3 pickles it."""
    try:
        with path.open("rb") as file:
            arrays = _ArrayUnpickler(file, encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path}: {error.message}", hint=error.hint) from None
    except Exception as error:  # unpickling foreign bytes can raise anything
        require_memory(error, f"{path}: reading the weights")
        raise InputError(f"{path}: not a complete pickle ({error})", hint="copy or download it again") from error
    if not isinstance(arrays, dict):
        raise InputError(f"{path}: holds a {type(arrays).__name__}, not arrays by name", hint="give a dict of arrays")
    layers: Layers = {}
    for kind in ("kernel", "bias"):
        for name, array in arrays.items():
            layer, slash, variable = str(name).partition("/")
            if not slash or not isinstance(array, np.ndarray) or array.dtype.kind != "f":
                raise InputError(
                    f"{path}: {str(name)[:60]!r} is not an array of floats named LAYER/kernel:0 or LAYER/bias:0",
                    hint="give the pickle of dilation-tensorflow",
                )
            if variable.partition(":")[0] == kind:
                layers.setdefault(layer, []).append(np.asarray(array, dtype=np.float32))
    return _from_channels_last(layers), "TensorFlow, a pickle of arrays"


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dicts, texts, numbers and arrays of numbers; whatever else a pickle would call is refused."""

    def find_class(self, module: str, name: str) -> Any:
        package = module.replace("numpy._core", "numpy.core")
        allowed: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): _new_array,
            ("numpy", "ndarray"): "numpy.ndarray",  # named by the pickle, never called
            ("numpy", "dtype"): _number_type,
            ("_codecs", "encode"): _encode_latin1,
        }
        if (package, name) not in allowed:
            raise InputError(
                f"the pickle calls {module}.{name}, which is no array; it was not run",
                hint="give a file of arrays and names only",
            )
        return allowed[package, name]

    def persistent_load(self, pid: Any) -> Any:
        raise InputError("the pickle refers to data outside itself", hint="give a file of arrays and names only")


def _new_array(subtype: Any, shape: Any, kind: Any) -> NDArray[Any]:
    """An empty array, which the pickle's next step fills; of no other shape or type, whatever the file says."""
    return np.empty((0,), np.int8)


def _number_type(kind: Any, *flags: Any) -> np.dtype[Any]:
    if str(kind) not in {"f2", "f4", "f8", "i4", "i8"}:
        raise InputError(f"the pickle has an array of type {str(kind)[:20]!r}", hint="give arrays of floats")
    return np.dtype(str(kind), False, True)  # a copy, whose byte order the next step sets


def _encode_latin1(text: Any, encoding: Any = "latin1") -> bytes:
    return str(text).encode("latin1")


def _read_state_dict(path: Path, expected: _Shapes) -> tuple[Layers, str]:
    """A state dict under the layers' own names, or, as a `Sequential` numbers them, in the order in which they run."""
    loaded = load_torch_file(path)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(k, str) and _is_dense(value) for k, value in state.items()):
        raise InputError(
            f"{path}: holds something other than dense tensors by name", hint="save a state_dict of tensors on the CPU"
        )
    layers: Layers = {}
    for kind in ("weight", "bias"):
        for name, tensor in state.items():
            layer, _, last = name.rpartition(".")
            if last == kind:
                layers.setdefault(layer, []).append(tensor.detach().float().numpy())
    ends = {layer: layer.rpartition(".")[2] for layer in layers}
    if set(expected) <= set(ends.values()):
        return {ends[layer]: arrays for layer, arrays in layers.items()}, "PyTorch, layers by name"
    if len(layers) == len(expected) + 1 and len(list(layers.values())[-1]) == 1:  # an up-sampling without bias
        layers = {**dict(list(layers.items())[:-1]), UPSAMPLING_LAYER: list(layers.values())[-1]}
    names = [*expected, UPSAMPLING_LAYER][: len(layers)]
    if len(layers) > len(names) or len(layers) < len(expected):
        raise InputError(
            f"{path}: {len(layers)} layers with weights, where the network has {len(expected)}",
            hint="give the weights of this network alone",
        )
    return dict(zip(names, layers.values(), strict=True)), "PyTorch, layers in their order, since they have no names"


def _is_dense(value: object) -> bool:
    """Whether a value is a tensor whose numbers lie in memory one by one."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_quantized or value.is_meta)

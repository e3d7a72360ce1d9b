"""The array libraries that the reference is tried on, each in its strictest form; ways in and out of their arrays."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FULL = ("float64", "float32")
HALF = ("float16", "bfloat16")


def eager(function: Callable[..., Any], arrays: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    return function(**arrays, **options)


@dataclass(frozen=True)
class Library:
    """One library on one device, called in one way."""

    name: str
    array: Callable[[np.ndarray, str], Any]  # numbers, dtype name → array
    numpy: Callable[[Any], np.ndarray]  # array → the same numbers; real ones as float64
    dtypes: tuple[str, ...] = FULL
    run: Callable[[Callable[..., Any], Mapping[str, Any], Mapping[str, Any]], Any] = eager


@contextlib.contextmanager
def numpy_readonly() -> Iterator[Library]:
    """NumPy, its arrays read-only: whoever writes into an argument raises."""
    ml_dtypes = pytest.importorskip("ml_dtypes")

    def array(x: np.ndarray, dtype: str) -> np.ndarray:
        result = np.array(x, dtype=ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        result.flags.writeable = False
        return result

    yield Library("numpy", array, lambda x: np.asarray(x, np.float64), FULL + HALF)


@contextlib.contextmanager
def torch_on(device: str) -> Iterator[Library]:
    """PyTorch; its meta device has shapes and dtypes but no numbers, so nothing can be read from an array."""
    torch = pytest.importorskip("torch")

    def array(x: np.ndarray, dtype: str) -> Any:
        return torch.tensor(x, dtype=getattr(torch, dtype), device=device)

    yield Library(f"torch-{device}", array, lambda x: x.detach().to(torch.float64).numpy(), FULL + HALF)


@contextlib.contextmanager
def jax_called(run: Callable[..., Any] | None) -> Iterator[Library]:
    """JAX, eager or compiled: under jit no array has a value at all while the reference runs."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)

    def jitted(function: Callable[..., Any], arrays: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        return jax.jit(partial(function, **options))(**arrays)

    def array(x: np.ndarray, dtype: str) -> Any:
        return jax.numpy.asarray(x, dtype=dtype)

    name, call = ("jax", eager) if run is eager else ("jax-jit", jitted)
    yield Library(name, array, lambda x: np.asarray(x).astype(np.float64), FULL + HALF, call)


@contextlib.contextmanager
def strict_on(device: str) -> Iterator[Library]:
    """array-api-strict: the 2024.12 standard and nothing else; of its devices only CPU_DEVICE is a default."""
    strict = pytest.importorskip("array_api_strict")
    where = strict.Device(device)

    def array(x: np.ndarray, dtype: str) -> Any:
        return strict.asarray(x, dtype=getattr(strict, dtype), device=where)

    def back(x: Any) -> np.ndarray:
        assert x.device == where, f"an array left {where} for {x.device}"
        return np.asarray(x.to_device(strict.Device("CPU_DEVICE")), dtype=np.float64)

    flags = {"boolean_indexing": False, "data_dependent_shapes": False, "enabled_extensions": ()}
    with strict.ArrayAPIStrictFlags(api_version="2024.12", **flags):
        yield Library(f"strict-{device}", array, back)


@contextlib.contextmanager
def cupy_on(number: int) -> Iterator[Library]:
    """CuPy, where there is such a device. Its arrays lie there; the current device is the first."""
    cupy = pytest.importorskip("cupy")
    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"CuPy without a device: {error}")
    if found <= number:
        pytest.skip(f"CuPy has {found} devices")

    def array(x: np.ndarray, dtype: str) -> Any:
        with cupy.cuda.Device(number):
            return cupy.asarray(x, dtype=dtype)

    def back(x: Any) -> np.ndarray:
        assert x.device.id == number, f"an array left device {number} for {x.device}"
        return cupy.asnumpy(x).astype(np.float64)

    with cupy.cuda.Device(0):
        yield Library(f"cupy-{number}", array, back, (*FULL, "float16"))


LIBRARIES: Mapping[str, Callable[[], contextlib.AbstractContextManager[Library]]] = {
    "numpy": numpy_readonly,
    "torch": partial(torch_on, "cpu"),
    "jax": partial(jax_called, eager),
    "jax-jit": partial(jax_called, None),
    "strict": partial(strict_on, "CPU_DEVICE"),
    "strict-device1": partial(strict_on, "device1"),
    "cupy": partial(cupy_on, 0),
}


# --- libraries on which the reference runs as it happens: nothing is done for them -----------------------------------


@contextlib.contextmanager
def dask_chunked() -> Iterator[Library]:
    """Dask, its arrays in chunks of two rows: nothing is computed until the result is asked for."""
    dask = pytest.importorskip("dask.array")

    def array(x: np.ndarray, dtype: str) -> Any:
        return dask.from_array(np.asarray(x, dtype=dtype), chunks=(2, *(-1,) * (np.ndim(x) - 1)) if np.ndim(x) else ())

    yield Library("dask", array, lambda x: np.asarray(x, dtype=np.float64))


@contextlib.contextmanager
def mlx_on_the_processor() -> Iterator[Library]:
    """MLX; its float64 exists on the processor alone, with an exponential that is float32's."""
    mlx = pytest.importorskip("mlx.core")

    def array(x: np.ndarray, dtype: str) -> Any:
        return mlx.array(x, dtype=mlx.bool_ if dtype == "bool" else getattr(mlx, dtype))

    with mlx.stream(mlx.cpu):
        yield Library("mlx", array, lambda x: np.asarray(x.astype(mlx.float64), np.float64), ("float32", *HALF))


@contextlib.contextmanager
def ndonnx_eager() -> Iterator[Library]:
    """ndonnx, computed at once by its own constant propagation; its arrays can as well be nodes of an ONNX graph."""
    ndonnx = pytest.importorskip("ndonnx")

    def array(x: np.ndarray, dtype: str) -> Any:
        return ndonnx.asarray(np.asarray(x, dtype=dtype))

    yield Library("ndonnx", array, lambda x: np.asarray(x.unwrap_numpy(), dtype=np.float64), (*FULL, "float16"))


@contextlib.contextmanager
def dpnp_on_the_processor() -> Iterator[Library]:
    """dpnp on Intel's OpenCL runtime for processors, which pip puts where the OpenCL loader doesn't look for it."""
    for runtime in Path(sys.prefix, "lib").glob("libintelocl.so*[0-9]"):
        os.environ.setdefault("OCL_ICD_FILENAMES", str(runtime))
    dpnp = pytest.importorskip("dpnp")

    def array(x: np.ndarray, dtype: str) -> Any:
        return dpnp.asarray(x, dtype=dtype)

    yield Library("dpnp", array, lambda x: dpnp.asnumpy(x).astype(np.float64))


OTHERS: Mapping[str, Callable[[], contextlib.AbstractContextManager[Library]]] = {
    "dask": dask_chunked,
    "mlx": mlx_on_the_processor,
    "ndonnx": ndonnx_eager,
    "dpnp": dpnp_on_the_processor,
}

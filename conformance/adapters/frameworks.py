"""Array libraries as the suite uses them: make arrays bit for bit, read results bit for bit, get gradients.

Each library is imported only when a target asks for it. A class here is one library; what they share is `Framework`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from infonce_ref.conformance.adapters.resolve import NotApplicable, Unusable, role_of
from infonce_ref.conformance.adapters.wire import pack, pack_numpy
from infonce_ref.conformance.problem import FORMATS

Call = Callable[[Mapping[str, Any]], Any]  # values by role → what the target returned


def split(returned: Any, names: Mapping[str, str]) -> tuple[Any, dict[str, Any] | None]:
    """Loss and gradients of what a target returned: a loss, or (loss, gradients), these a dict or a named tuple.

    `names` says which of our arguments a parameter of the target is, so that gradients may go by either name.
    """
    if not isinstance(returned, tuple) or hasattr(returned, "_fields"):
        return returned, None
    if len(returned) == 2:
        loss, gradients = returned
        if hasattr(gradients, "_asdict"):
            gradients = gradients._asdict()
        if isinstance(gradients, Mapping):
            ours = {names.get(name) or role_of(name) or name: g for name, g in gradients.items() if g is not None}
            return loss, ours
    raise TypeError(f"a target returns its loss, or (loss, {{'query': gradient, …}}); got a tuple of {len(returned)}")


class Framework:
    """NumPy-like behaviour: no autodiff, gradients are what the target returns."""

    name = "numpy"
    package = "numpy"
    autodiff = False

    def __init__(self) -> None:
        try:
            self.module: Any = importlib.import_module(self.package)
        except ImportError as error:
            raise Unusable(f"framework {self.name} isn't installed: {error}") from error

    @property
    def versions(self) -> dict[str, str]:
        """Versions that a report should name."""
        top = self.package.partition(".")[0]
        return {top: str(getattr(self.module, "__version__", "?"))}

    def session(self) -> contextlib.AbstractContextManager[Any]:
        """Settings that hold while the target runs."""
        return np.errstate(all="ignore")

    def array(self, values: np.ndarray, dtype: str) -> Any:
        """A writable array of `dtype` (a format's name, "bool" or "int64") that holds `values` exactly."""
        return self.from_numpy(np.array(values, dtype=self.numpy_dtype(dtype)))

    def numpy_dtype(self, dtype: str) -> np.dtype[Any]:
        """NumPy's dtype of that name; bfloat16 comes from ml_dtypes."""
        if dtype != "bfloat16":
            return np.dtype(dtype)
        try:
            found: np.dtype[Any] = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
        except ImportError:
            raise NotApplicable("NumPy has no bfloat16 without ml_dtypes") from None
        return found

    def from_numpy(self, array: np.ndarray) -> Any:
        return array

    def to_wire(self, value: Any) -> dict[str, Any]:
        """A result, bit for bit."""
        return pack_numpy(np.asarray(value))

    def shares(self, one: Any, other: Any) -> bool:
        """Whether two arrays lie in the same memory, as far as this library tells."""
        return isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.may_share_memory(one, other)

    def logarithm(self, value: Any) -> Any:
        return self.module.log(value)

    def temperature(self, tau: Any, role: str) -> Any:
        """`tau` (a Python float, or an array) as the target wants it: τ, 1/τ or log(1/τ)."""
        if role == "temperature":
            return tau
        if isinstance(tau, float):
            if tau == 0.0 or (role == "log_scale" and tau < 0.0):
                raise NotApplicable(f"the target takes 1/temperature, and temperature is {tau}")
            return 1.0 / tau if role == "scale" else -math.log(tau)
        return 1.0 / tau if role == "scale" else -self.logarithm(tau)

    def differentiate(
        self, call: Call, values: dict[str, Any], wrt: tuple[str, ...], names: Mapping[str, str]
    ) -> tuple[Any, dict[str, Any]]:
        """The loss, and its gradients by role; for a loss per row the gradients of the sum."""
        loss, gradients = split(call(values), names)
        return loss, gradients or {}


class Cupy(Framework):
    """CuPy: NumPy's ways on the current device."""

    name = package = "cupy"

    def from_numpy(self, array: np.ndarray) -> Any:
        if array.dtype.name == "bfloat16":
            raise NotApplicable("CuPy has no bfloat16")
        return self.module.asarray(array)

    def to_wire(self, value: Any) -> dict[str, Any]:
        return pack_numpy(np.asarray(self.module.asnumpy(value)))


class ArrayApi(Framework):
    """Any namespace of the Array API standard, by its module's name."""

    def __init__(self, package: str) -> None:
        self.name, self.package = f"array-api:{package}", package
        super().__init__()

    def from_numpy(self, array: np.ndarray) -> Any:
        if not hasattr(self.module, array.dtype.name):
            raise NotApplicable(f"{self.package} has no {array.dtype.name}")
        return self.module.asarray(array, dtype=getattr(self.module, array.dtype.name), copy=True)

    def to_wire(self, value: Any) -> dict[str, Any]:
        try:
            return pack_numpy(np.from_dlpack(value))
        except (AttributeError, TypeError, BufferError, RuntimeError):
            return pack_numpy(np.asarray(value))


class Torch(Framework):
    """PyTorch on the CPU, gradients from autograd unless the target returns them."""

    name = package = "torch"
    autodiff = True

    def array(self, values: np.ndarray, dtype: str) -> Any:
        return self.module.tensor(values).to(getattr(self.module, dtype))

    def to_wire(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, self.module.Tensor):
            return super().to_wire(value)
        value = value.detach().cpu().contiguous()
        if value.dtype is self.module.bfloat16:
            words = value.view(self.module.int16).numpy().view(np.uint16).reshape(-1)
            return pack(words, "bfloat16", tuple(value.shape))
        return pack_numpy(value.numpy())

    def shares(self, one: Any, other: Any) -> bool:
        if not isinstance(other, self.module.Tensor) or not other.numel():
            return False
        return bool(one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr())

    def differentiate(
        self, call: Call, values: dict[str, Any], wrt: tuple[str, ...], names: Mapping[str, str]
    ) -> tuple[Any, dict[str, Any]]:
        for name in wrt:
            values[name].requires_grad_()
        loss, gradients = split(call(values), names)
        if gradients is not None or not wrt:
            return loss, gradients or {}
        if not isinstance(loss, self.module.Tensor) or not loss.requires_grad:
            raise TypeError("the loss carries no gradient: it was detached, or isn't a tensor")
        found = self.module.autograd.grad(
            loss.sum(), [values[name] for name in wrt], allow_unused=True, materialize_grads=True
        )
        return loss, dict(zip(wrt, found, strict=True))


class Jax(Framework):
    """JAX with 64-bit numbers enabled, under jit, gradients from its reverse mode unless the target returns them.

    Compiling a call as a whole takes a quarter of the time and memory of compiling its operations one by one.
    Arrays are traced, Python numbers aren't; a target that can't be traced runs operation by operation.
    """

    name = package = "jax"
    autodiff = True

    def session(self) -> contextlib.AbstractContextManager[Any]:
        enable = getattr(self.module, "enable_x64", None)
        if enable is None:
            enable = importlib.import_module("jax.experimental").enable_x64
        context: contextlib.AbstractContextManager[Any] = enable(True)
        return context

    def from_numpy(self, array: np.ndarray) -> Any:
        return self.module.numpy.array(array)

    def logarithm(self, value: Any) -> Any:
        return self.module.numpy.log(value)

    def differentiate(
        self, call: Call, values: dict[str, Any], wrt: tuple[str, ...], names: Mapping[str, str]
    ) -> tuple[Any, dict[str, Any]]:
        arrays = {name: value for name, value in values.items() if isinstance(value, self.module.Array)}

        def of(inputs: Mapping[str, Any], constants: Mapping[str, Any]) -> tuple[Any, tuple[Any, Any]]:
            loss, gradients = split(call({**values, **constants, **inputs}), names)
            return self.module.numpy.sum(self.module.numpy.asarray(loss)), (loss, gradients)

        def both(given: Mapping[str, Any]) -> tuple[Any, Any]:
            inputs = {name: given[name] for name in wrt}
            constants = {name: value for name, value in given.items() if name not in wrt}
            if not wrt:
                return of(inputs, constants)[1]
            (_, (loss, gradients)), found = self.module.value_and_grad(of, has_aux=True)(inputs, constants)
            return loss, found if gradients is None else gradients

        try:
            loss, gradients = self.module.jit(both)(arrays)
        except self.module.errors.JAXTypeError:
            loss, gradients = both(arrays)
        return loss, gradients or {}


FRAMEWORKS: Mapping[str, type[Framework]] = {"numpy": Framework, "torch": Torch, "jax": Jax, "cupy": Cupy}


def framework(name: str) -> Framework:
    """The framework called `name`: numpy, torch, jax, cupy or array-api:<module>."""
    kind, colon, module = name.partition(":")
    if kind == "array-api" and module:
        return ArrayApi(module)
    if colon or kind not in FRAMEWORKS:
        known = ", ".join(FRAMEWORKS)
        raise Unusable(f"framework must be one of {known} or array-api:<module>, got {name!r}")
    return FRAMEWORKS[kind]()


def flushes_subnormals(library: Framework, dtype: str) -> bool:
    """Whether the device that `library` computes on takes subnormal numbers of `dtype` for zero."""
    tiny = FORMATS[dtype].tiny * 2**4
    with library.session():
        half = library.array(np.asarray([tiny, tiny]), dtype) / 2
        return all(set(bits) == {"0"} for bits in library.to_wire(half)["bits"])

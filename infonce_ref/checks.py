"""Checks: every bad argument that shapes, dtypes, devices and Python scalars can tell is refused here, and only here.

Nothing is read from an array, so nothing waits for a device and everything holds under tracing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

from array_api_compat import array_namespace

from infonce_ref.arrays import (
    HALF_DTYPES,
    STORAGE_DTYPES,
    Array,
    Namespace,
    compute_dtype,
    dtype_name,
    namespace,
    where_it_is,
)
from infonce_ref.reduction import REDUCTIONS

SCALARS = ("temperature", "margin", "bias")  # arguments that may be numbers or arrays of shape ()


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: x for name, x in arguments.items() if x is not None}


def shape_of(x: Array) -> tuple[int, ...]:
    return tuple(x.shape)


def one_of(name: str, value: object, allowed: Collection[str], clause: str) -> None:
    if not (isinstance(value, str) and value in allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r} [{clause}]")


def arrays_of_one_library(arrays: Mapping[str, Array]) -> Namespace:
    """The namespace that all the given arrays share; they must share their device too."""
    for name, x in arrays.items():
        try:
            array_namespace(x)
        except TypeError:
            raise TypeError(f"{name} must be an array, got {type(x).__name__} [input.array]") from None
    try:
        xp = namespace(*arrays.values())
    except TypeError:
        kinds = ", ".join(f"{name}: {type(x).__module__}.{type(x).__name__}" for name, x in arrays.items())
        raise TypeError(f"all arrays must be of one library, got {kinds} [input.array]") from None
    devices = {name: where_it_is(x).get("device") for name, x in arrays.items()}
    for name, where in devices.items():
        if where != devices[next(iter(devices))]:
            found = ", ".join(f"{n}: {d}" for n, d in devices.items())
            raise ValueError(f"{name} must be on the device of the other arrays, got {found} [input.array]")
    return xp


def has_shape(name: str, x: Array, shape: tuple[int | None, ...], means: str, clause: str = "input.shape") -> None:
    """The array has the given shape (None: any length ≥ 1); there is no broadcasting."""
    got = shape_of(x)
    if len(got) != len(shape) or any(n < 1 if want is None else n != want for n, want in zip(got, shape, strict=True)):
        wanted = ", ".join("≥ 1" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must have shape ({wanted}) = {means}, got {got} [{clause}]")


def has_dtype(name: str, x: Array, allowed: Collection[str], clause: str = "dtype.domain") -> None:
    if dtype_name(x) not in allowed:
        raise TypeError(f"{name} must have dtype {' or '.join(allowed)}, got {dtype_name(x)} [{clause}]")


def is_integer(name: str, xp: Namespace, x: Array, clause: str) -> None:
    if not xp.isdtype(x.dtype, "integral"):
        raise TypeError(f"{name} must have an integer dtype, got {dtype_name(x)} [{clause}]")


def arguments(embeddings: Mapping[str, Array], **others: Any) -> tuple[Namespace, tuple[str, ...]]:
    """The library of all arrays given, and the dtypes that may stand beside the embeddings'.

    Of the other arguments None isn't given, and a Python number is no array.
    """
    numbers = {name: array_scalar(x) if name in SCALARS else x for name, x in others.items()}
    xp = arrays_of_one_library({**embeddings, **given(**numbers)})
    return xp, embedding_dtypes(xp, embeddings)


def keywords(similarity: str | None, reduction: str, block: int | None, similarities: Collection[str]) -> None:
    """The keywords that every loss has."""
    if similarities:
        one_of("similarity", similarity, similarities, "similarity.domain")
    one_of("reduction", reduction, REDUCTIONS, "reduction.domain")
    block_size(block)


def candidate_mask(x: Array | None, shape: tuple[int, ...], means: str) -> None:
    if x is not None:
        has_shape("candidate_mask", x, shape, means, "candidates.mask.domain")
        has_dtype("candidate_mask", x, ("bool",), "candidates.mask.domain")


def sample_weight(x: Array | None, rows: int, allowed: Collection[str]) -> None:
    if x is not None:
        has_shape("sample_weight", x, (rows,), "(N,), a weight for every row of the loss", "reduction.weight.domain")
        has_dtype("sample_weight", x, allowed, "reduction.weight.domain")


def index(name: str, xp: Namespace, x: Array, rows: int, clause: str) -> None:
    """An integer for each of some rows."""
    has_shape(name, x, (rows,), "(N,), an integer for every row", clause)
    is_integer(name, xp, x, clause)


def embedding_dtypes(xp: Namespace, arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """The embedding arrays share one real floating dtype; that, and the compute dtype, are allowed beside them."""
    first, *rest = arrays
    has_dtype(first, arrays[first], STORAGE_DTYPES)
    stored = dtype_name(arrays[first])
    for name in rest:
        has_dtype(name, arrays[name], (stored,))
    return (stored, "float32") if stored in HALF_DTYPES else (stored,)


def bilinear_weight(weight: Array | None, similarity: str, d: int, allowed: Collection[str]) -> None:
    """W comes with the bilinear similarity, and only with it."""
    if (weight is not None) != (similarity == "bilinear"):
        state = "missing" if weight is None else "given"
        raise ValueError(f"bilinear_weight must be given with similarity='bilinear' only, got {similarity!r} with it "
                         f"{state} [similarity.domain]")  # fmt: skip
    if weight is not None:
        has_shape("bilinear_weight", weight, (d, None), "(D, E)")
        has_dtype("bilinear_weight", weight, allowed)


def boolean(name: str, value: object, clause: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {value!r} [{clause}]")


def negative_keys(negatives: Array | None, in_batch: bool, n: int, e: int, name: str = "negative_keys") -> int:
    """(M, E) or (N, M, E), any M; M. They must be there where the batch gives no negatives."""
    boolean("in_batch_negatives", in_batch, "candidates.domain")
    if negatives is None:
        if not in_batch:
            raise ValueError("negative_keys must be given with in_batch_negatives=False, got None [candidates.domain]")
        return 0
    got = shape_of(negatives)
    if got[:-2] not in ((), (n,)) or len(got) < 2 or got[-1] != e:
        raise ValueError(f"{name} must have shape (M, {e}) or ({n}, M, {e}), got {got} [input.shape]")
    return got[-2]


def array_scalar(value: Any) -> Array | None:
    """The value if it is an array, which must be of the other arrays' library; None for a number, NumPy's included."""
    return value if hasattr(value, "dtype") and not isinstance(value, Real) else None  # dtype.temperature


def scalar(name: str, value: Any, clause: str) -> float | None:
    """A Python real as a float, None for a 0-d real floating array; anything else is refused."""
    if not isinstance(value, bool) and isinstance(value, Real):
        return float(value)
    if not hasattr(value, "dtype"):
        raise TypeError(f"{name} must be a real number or a 0-d real floating array, got {value!r} [{clause}]")
    has_shape(name, value, (), "a single number", clause)
    has_dtype(name, value, STORAGE_DTYPES, clause)
    return None


def temperature(xp: Namespace, value: Any, like: Array) -> None:
    """τ > 0 and finite, still after rounding to the compute dtype; a 0-d array's value is not looked at."""
    number = scalar("temperature", value, "scale.temperature.domain")
    if number is None:
        return
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"temperature must be > 0 and finite, got {number!r} [scale.temperature.domain]")
    limits = xp.finfo(compute_dtype(xp, like))
    if not (float(limits.smallest_normal) <= number <= float(limits.max)):
        raise ValueError(
            f"temperature must be a normal number of {limits.dtype}, got {number!r} [scale.temperature.domain]"
        )


def margin(value: Any) -> None:
    finite("margin", value, "scale.margin.domain")


def finite(name: str, value: Any, clause: str) -> None:
    """A finite Python real, or a 0-d array, whose value is not looked at."""
    number = scalar(name, value, clause)
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number!r} [{clause}]")


def constant_between(name: str, value: Any, low: float, high: float, clause: str) -> None:
    """A Python real, low ≤ value < high: a constant of the loss, not an array."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a Python number, got {value!r} [{clause}]")
    if not low <= float(value) < high:
        raise ValueError(f"{name} must be ≥ {low:g} and < {high:g}, got {value!r} [{clause}]")


def block_size(value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"block_size must be None or an integer, got {value!r} [stream.domain]")
    if value < 1:
        raise ValueError(f"block_size must be ≥ 1, got {value!r} [stream.domain]")


def at_least_one(name: str, value: object, clause: str) -> None:
    """A Python integer ≥ 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r} [{clause}]")
    if value < 1:
        raise ValueError(f"{name} must be ≥ 1, got {value!r} [{clause}]")


def real_number(name: str, value: object, clause: str, *, above: float = -math.inf) -> float:
    """A finite Python real number above a limit, as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {value!r} [{clause}]")
    if not above < float(value) < math.inf:
        allowed = "finite" if above == -math.inf else f"> {above:g} and finite"
        raise ValueError(f"{name} must be {allowed}, got {value!r} [{clause}]")
    return float(value)

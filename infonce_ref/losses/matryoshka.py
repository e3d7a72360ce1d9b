"""matryoshka: a loss on the first coordinates of its embeddings, for several numbers of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

from infonce_ref import checks
from infonce_ref.arrays import Array, Namespace
from infonce_ref.loss import Loss, Plan, RowGrads
from infonce_ref.queue import KeyQueue

P = ParamSpec("P")
G = TypeVar("G")

# A plan, weights of its rows or None → their losses and the gradients by name, or None where it can't.
Visit: TypeAlias = Callable[[Plan[Any], Array | None], tuple[Array, dict[str, Array]] | None]
EMBEDDINGS = (
    "query", "positive_key", "negative_keys", "image", "text", "negative_texts", "negative_images", "view_a", "view_b",
    "features", "keys", "queue", "document", "positive_bags",
)  # fmt: skip


class Matryoshka(Loss[P, G]):
    """The weighted sum of a loss over nested embeddings; see `matryoshka`."""

    def __init__(self, loss: Loss[P, G], dims: tuple[int, ...], weights: tuple[float, ...]) -> None:
        vars(self).update(parts=(loss, dims, weights))
        super().__init__(functools.update_wrapper(functools.partial(nested_plan, loss, dims, weights), loss))

    def __reduce__(self) -> Any:
        return matryoshka, vars(self)["parts"]


def matryoshka(loss: Loss[P, G], dims: Sequence[int], weights: Sequence[float] | None = None) -> Loss[P, G]:
    r"""The loss that sums another over nested embeddings: their first d coordinates, for each d of `dims`.

    .. math:: L = \sum_m w_m \, \text{loss}(x_{:d_1}, \ldots)

    With the cosine similarity each part is normalised again. Clause: matryoshka.sum.

    Parameters
    ----------
    loss : Loss
        Any loss of this package that compares embeddings, such as `info_nce`.
    dims : sequence of int, ≥ 1
        How many coordinates; none more than the embeddings have.
    weights : sequence of float, optional
        w, one for each of `dims`; 1 each by default. A weighted sum, not a mean.

    Returns
    -------
    loss : Loss
        Takes the arguments that `loss` takes and returns what it returns; it has `value_and_grad` and `vjp` too.

    Raises
    ------
    TypeError, ValueError
        For `dims` or `weights` as they must not be, here or when the loss is called. The message ends with the clause.

    References
    ----------
    Kusupati et al. 2022, Matryoshka Representation Learning, arXiv:2205.13147, eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> from infonce_ref import info_nce, matryoshka
    >>> query = np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]])
    >>> nested = matryoshka(info_nce, dims=(2, 3), weights=(1.0, 0.5))
    >>> whole = info_nce(query[:, :2], query[:, :2]) + 0.5 * info_nce(query, query)
    >>> print(f"{nested(query, query) - whole:.6f}")
    0.000000
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"loss must be a loss of this package, got {loss!r} [matryoshka.domain]")
    arguments = inspect.signature(loss).parameters
    if not {*EMBEDDINGS} & {*arguments}:
        raise ValueError(f"loss must be one of embeddings, got {loss!r} [matryoshka.domain]")
    for d in dims:
        if isinstance(d, bool) or not isinstance(d, int) or d < 1:
            raise ValueError(f"dims must be integers ≥ 1, got {d!r} [matryoshka.domain]")
    factors = tuple(1.0 for _ in dims) if weights is None else tuple(weights)
    if not dims or len(factors) != len(dims):
        raise ValueError(
            f"dims and weights must be as many, at least one, got {dims} and {weights} [matryoshka.domain]"
        )
    for w in factors:
        checks.constant_between("weights", w, 0.0, float("inf"), "matryoshka.domain")
    return Matryoshka(loss, tuple(dims), tuple(float(w) for w in factors))


def nested_plan(
    loss: Loss[P, G], dims: tuple[int, ...], weights: tuple[float, ...], *args: P.args, **kwargs: P.kwargs
) -> Plan[G]:
    """The plans for all dims as one: names of gradients begin with the number of the part they belong to."""
    given = inspect.signature(loss).bind(*args, **kwargs).arguments
    if given.get("bilinear_weight") is not None:
        raise ValueError("bilinear_weight must not be given to a matryoshka loss [matryoshka.domain]")
    embeddings = {name: keys_of(x) for name, x in given.items() if name in EMBEDDINGS and x is not None}
    for name, x in embeddings.items():
        if x.shape[-1] < max(dims):
            raise ValueError(f"dims must be ≤ {x.shape[-1]}, the length of {name}, got {max(dims)} [matryoshka.domain]")
    loss.plan(*args, **kwargs)  # whatever is wrong with the arguments is said of the arguments as they are
    plan_of: Any = loss.plan
    plans: list[Plan[G]] = [plan_of(**{**given, **{name: x[..., :d] for name, x in embeddings.items()}}) for d in dims]
    first = plans[0]
    step = min(plan.block_size for plan in plans)

    def to_arguments(g: Mapping[str, Array]) -> G:
        grads = []
        for i, plan in enumerate(plans):
            own = {name.partition("/")[2]: x for name, x in g.items() if name.startswith(f"{i}/")}
            grads.append(padded(first.xp, plan.to_arguments(own), embeddings))
        total: G = type(grads[0])(*(None if parts[0] is None else sum(parts) for parts in zip(*grads, strict=True)))
        return total

    return Plan(first.xp, first.queries, Nested(plans, weights), first.reduction, to_arguments, step)


class Nested:
    """The weighted sum of the rows of several plans."""

    def __init__(self, plans: Sequence[Plan[Any]], weights: Sequence[float]) -> None:
        self.plans, self.weights = plans, weights

    def __call__(self, lo: int, hi: int) -> tuple[Array, Callable[[Array], RowGrads]]:
        parts = [plan.rows(lo, hi) for plan in self.plans]

        def pullback(cotangent: Array) -> RowGrads:
            grads = [pull(w * cotangent) for (_, pull), w in zip(parts, self.weights, strict=True)]
            return RowGrads(*(prefixed([getattr(g, kind) for g in grads]) for kind in RowGrads._fields))

        return self.total([losses for losses, _ in parts]), pullback

    def total(self, losses: Sequence[Array]) -> Array:
        return sum(w * part for w, part in zip(self.weights, losses, strict=True))  # matryoshka.sum

    def carried_out(self, visit: Visit, weights: Array | None) -> tuple[Array, dict[str, Array]] | None:
        """All rows' losses and, with row weights, gradients, where `visit` carries out every part; None elsewhere."""
        found = []
        for plan, w in zip(self.plans, self.weights, strict=True):
            part = visit(plan, None if weights is None else w * weights)
            if part is None:
                return None
            found.append(part)
        return self.total([losses for losses, _ in found]), prefixed([grads for _, grads in found])


def keys_of(x: Any) -> Array:
    return x.keys if isinstance(x, KeyQueue) else x


def prefixed(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {f"{i}/{name}": x for i, part in enumerate(parts) for name, x in part.items()}


def padded(xp: Namespace, grads: Any, embeddings: Mapping[str, Array]) -> Any:
    """The gradients with 0 for the coordinates that a part doesn't see."""
    whole = {}
    for name, x in embeddings.items():
        g = getattr(grads, name)
        rest = xp.zeros_like(x[..., g.shape[-1] :])
        whole[name] = xp.concat([g, rest], axis=-1)
    return grads._replace(**whole)

"""The losses on JAX arrays: the reference's own stages, scanned over tiles, with gradients found along with the loss.

A loss takes the arguments of the reference's loss of that name and refuses what that refuses. It can be compiled,
batched and differentiated any number of times, forwards and backwards:

>>> import jax
>>> from infonce_ref.backends import jax as fast
>>> x = jax.numpy.eye(2)
>>> print(f"{fast.info_nce(x, x, temperature=0.5):.6f}")  # log(1 + e^{-1/0.5})
0.126928
>>> jax.jit(jax.grad(fast.info_nce))(x, x).shape
(2, 2)

The derivative of a mean or a sum is the analytic gradient of one pass over the tiles; that of reduction="none", and
every second one, is JAX's of the reference's code, which visits the tiles again instead of holding them. A call is
compiled for the shapes of its arrays and for its other arguments: a temperature that changes is better an array.
Products are asked for in full precision, which isn't every device's default. Losses of another form (all but clip, gte,
info_nce, moco, n_pair and nt_xent) and logits with a bias are the reference, compiled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper
from typing import Any, NamedTuple

import jax
from array_api_compat import is_jax_array, is_jax_namespace
from jax.custom_derivatives import SymbolicZero

import infonce_ref
from infonce_ref import loss as reference
from infonce_ref.backends._plans import Direction, OfReference, directions, reference_of
from infonce_ref.contrast import row_grads
from infonce_ref.link import softplus_link
from infonce_ref.loss import G, Loss, P, Plan, RowGrads
from infonce_ref.losses.matryoshka import Nested
from infonce_ref.queue import KeyQueue
from infonce_ref.scores import Block, Pair, Rows, differences

Array = Any
Arrays = Mapping[str, Array]

TILE = 2**22  # scores held at a time, as far as tiles of 128 rows or more allow
FEWEST = 128
CHOSEN = "positives chosen by an index"  # no argument's name: these gradients are scattered once all are there


# --- tiles -----------------------------------------------------------------------------------------------------------


class RowsOfBlock(NamedTuple):
    """What of a block is cut into tiles."""

    anchors: Array
    own_keys: Array | None
    keep: Array | None
    never: tuple[Array, ...]


class RowsOfTile(NamedTuple):
    """What of a direction is cut into tiles."""

    anchors: Array
    positives: Array
    blocks: list[RowsOfBlock]
    weights: Array | None


def cut(direction: Direction, n: int, weights: Array | None) -> RowsOfTile:
    """All rows of the direction, before they are cut."""
    pair, blocks, _ = direction.rows.layout(0, n)
    parts = [
        RowsOfBlock(b.anchors.values, b.keys.values if b.keys.values.ndim == 3 else None, b.keep, b.never)
        for b in blocks
    ]
    return RowsOfTile(pair.anchors.values, pair.keys.values, parts, weights)


class Tiles:
    """The rows of one direction, a tile at a time."""

    def __init__(self, plan: Plan[Any], direction: Direction, weights: Array | None) -> None:
        self.xp, self.n, self.rows, self.share = plan.xp, plan.queries, direction.rows, direction.share
        self.pair, self.blocks, _ = self.rows.layout(0, self.n)
        columns = sum(block.keys.values.shape[-2] for block in self.blocks)
        self.height = max(1, min(self.n, plan.block_size, max(FEWEST, TILE // max(columns, 1))))
        self.number = -(-self.n // self.height)
        self.whole = cut(direction, self.n, weights)

    def stacked(self) -> RowsOfTile:
        """(tiles, height, …) of everything, the last tile filled up with zeros."""

        def stack(x: Array) -> Array:
            missing = self.number * self.height - self.n
            filled = self.xp.concat([x, self.xp.zeros((missing, *x.shape[1:]), dtype=x.dtype)]) if missing else x
            return self.xp.reshape(filled, (self.number, self.height, *x.shape[1:]))

        return jax.tree.map(stack, self.whole)  # type: ignore[no-any-return]

    def unstacked(self, x: Array) -> Array:
        return self.xp.reshape(x, (self.number * self.height, *x.shape[2:]))[: self.n]

    def run(self, tile: RowsOfTile) -> tuple[Array, RowGrads | None]:
        """The losses of a tile and, where there are weights, its gradients: the reference's stages."""
        name = self.pair.keys.name if self.pair.keys.by_row else CHOSEN
        pair = Pair(Rows(self.pair.anchors.name, tile.anchors, by_row=True), Rows(name, tile.positives, by_row=True))
        blocks = [
            Block(
                Rows(block.anchors.name, part.anchors, by_row=True),
                block.keys if part.own_keys is None else Rows(block.keys.name, part.own_keys, by_row=True),
                part.keep,
                never=part.never,
            )
            for block, part in zip(self.blocks, tile.blocks, strict=True)
        ]
        d, pull_scores = differences(self.xp, pair, blocks, self.rows.tau, self.rows.margin)
        losses, pull_link = softplus_link(self.xp, d)
        if tile.weights is None:
            return self.share * losses, None
        return self.share * losses, row_grads(pull_scores(pull_link(self.share * tile.weights)))

    def losses(self) -> Array:
        """(N,). Differentiated, every tile is computed again instead of held."""
        if self.number == 1:
            return self.run(self.whole)[0]
        again = jax.checkpoint(lambda tile: self.run(tile)[0])
        return self.unstacked(jax.lax.map(again, self.stacked()))

    def losses_and_gradients(self) -> tuple[Array, dict[str, Array]]:
        if self.number == 1:
            losses, grads = self.run(self.whole)
            assert grads is not None
            return losses, self.scattered(RowGrads(dict(grads.by_row), dict(grads.shared)))

        def step(shared: dict[str, Array], tile: RowsOfTile) -> tuple[dict[str, Array], tuple[Array, Arrays]]:
            losses, grads = self.run(tile)
            assert grads is not None
            return jax.tree.map(lambda a, b: a + b, shared, grads.shared), (losses, grads.by_row)

        tiles = self.stacked()
        first = jax.tree.map(lambda x: x[0], tiles)
        _, shapes = jax.eval_shape(self.run, first)
        assert shapes is not None
        zeros = jax.tree.map(lambda x: self.xp.zeros(x.shape, dtype=x.dtype), shapes.shared)
        shared, (losses, by_row) = jax.lax.scan(step, zeros, tiles)
        whole = {name: self.unstacked(g) for name, g in by_row.items()}
        return self.unstacked(losses), self.scattered(RowGrads(whole, shared))

    def scattered(self, grads: RowGrads) -> dict[str, Array]:
        """The gradients by name, those of chosen positives brought to their keys."""
        total = RowGrads({}, dict(grads.shared))
        for name, g in grads.by_row.items():
            if name != CHOSEN:
                total.add(name, g, by_row=False)
                continue
            for lo in range(0, self.n, self.height):
                hi = min(lo + self.height, self.n)
                positives = self.rows.layout(lo, hi).pair.keys
                total.add(positives.name, g[lo:hi] if positives.scatter is None else positives.scatter(g[lo:hi]), False)
        return total.shared


# --- a plan carried out ----------------------------------------------------------------------------------------------


def checked(plan: Plan[Any]) -> Plan[Any]:
    if not is_jax_namespace(plan.xp):
        raise TypeError(f"infonce_ref.backends.jax takes JAX's arrays, got {plan.xp.__name__}'s [input.array]")
    return plan


def in_tiles(rows: Any) -> bool:
    return all(in_tiles(p.rows) for p in rows.plans) if isinstance(rows, Nested) else directions(rows) is not None


def contrast(plan: Plan[Any], weights: Array | None) -> tuple[Array, dict[str, Array]] | None:
    """The losses of all rows and, where there are weights, the gradients; None where the reference must do it."""
    if isinstance(plan.rows, Nested):
        return plan.rows.carried_out(contrast, weights)
    found = directions(plan.rows)
    if found is None:
        return None
    total: dict[str, Array] = {}
    losses: Any = 0
    for direction in found:
        tiles = Tiles(plan, direction, weights)
        of_rows, gradients = (tiles.losses(), {}) if weights is None else tiles.losses_and_gradients()
        losses = losses + of_rows
        total = {n: total.get(n, 0) + gradients.get(n, 0) for n in {**total, **gradients}}
    return losses, total


def value(plan: Plan[Any]) -> Array:
    found = contrast(checked(plan), None)
    return reference.value(plan, reference.device_of(())) if found is None else plan.reduction.apply(found[0])


def value_and_grad(plan: Plan[Any], cotangent: Array | float = 1.0) -> tuple[Array, Any]:
    found = contrast(checked(plan), plan.reduction.transpose(cotangent))
    if found is None:
        loss, pullback = reference.vjp(plan, reference.device_of(()))
        return loss, pullback(cotangent)
    losses, total = found
    return plan.reduction.apply(losses), plan.to_arguments(total)


# --- calls and their derivatives -------------------------------------------------------------------------------------


class Call(NamedTuple):
    """A call of a loss, less its arrays."""

    plan: Callable[..., Plan[Any]]
    others: tuple[tuple[str, Any], ...]

    def planned(self, arrays: Arrays) -> Plan[Any]:
        return self.plan(**arrays, **dict(self.others))

    @property
    def reduced(self) -> bool:
        return bool(dict(self.others).get("reduction", "mean") != "none")

    def plain(self, arrays: Arrays) -> Array:
        """The loss; its derivatives are those of the code."""
        return value(self.planned(arrays))

    def value(self, arrays: Arrays) -> Array:
        if not (self.reduced and in_tiles(checked(self.planned(arrays)).rows)):
            return self.plain(arrays)
        moving = {name: x for name, x in arrays.items() if jax.numpy.issubdtype(x.dtype, jax.numpy.floating)}
        fixed = {name: x for name, x in arrays.items() if name not in moving}
        return differentiable(self)(moving, fixed)

    def value_and_grad(self, arrays: Arrays) -> tuple[Array, Any]:
        return value_and_grad(self.planned(arrays))

    def pulled(self, arrays: Arrays, cotangent: Array) -> Any:
        return value_and_grad(self.planned(arrays), cotangent)[1]


def differentiable(call: Call) -> Callable[[Arrays, Arrays], Array]:
    """The loss of a call: its derivative is the analytic gradient, whose derivative is that of the plain loss's."""

    @jax.custom_jvp
    def gradients(moving: Arrays, fixed: Arrays) -> tuple[Array, Arrays]:
        loss, grad = call.value_and_grad({**moving, **fixed})
        named = grad._asdict()
        return loss, {name: named[name] if name in named else jax.numpy.zeros_like(x) for name, x in moving.items()}

    @gradients.defjvp
    def gradients_jvp(primals: Any, tangents: Any) -> Any:
        plain = jax.value_and_grad(lambda moving: call.plain({**moving, **primals[1]}))
        return gradients(*primals), jax.jvp(plain, primals[:1], tangents[:1])[1]

    @jax.custom_jvp
    def loss(moving: Arrays, fixed: Arrays) -> Array:
        return call.plain({**moving, **fixed})

    @partial(loss.defjvp, symbolic_zeros=True)
    def loss_jvp(primals: Any, tangents: Any) -> Any:
        out, grads = gradients(*primals)
        along = jax.numpy.zeros_like(out)
        for name, tangent in tangents[0].items():
            if not isinstance(tangent, SymbolicZero):
                along = along + jax.numpy.sum(grads[name].astype(out.dtype) * tangent.astype(out.dtype))
        return out, along

    return loss


def carried_out(how: Callable[..., Any], call: Call, *arguments: Any) -> Any:
    """`how`, compiled for this call; at once where the call can't be told from others."""
    with jax.default_matmul_precision("highest"):
        try:
            hash(call)
        except TypeError:
            return how(call, *arguments)
        return compiled(how, call, *arguments)


compiled = partial(jax.jit, static_argnums=(0, 1))(lambda how, call, *arguments: how(call, *arguments))


class JAXLoss(OfReference, Loss[Any, Any]):
    """A loss of the reference, compiled and scanned over tiles."""

    def __init__(self, loss: Loss[Any, Any]) -> None:
        super().__init__(loss.plan)
        signature = inspect.signature(loss.plan)

        def split(*args: Any, **kwargs: Any) -> tuple[Call, Arrays]:
            try:
                named = signature.bind(*args, **kwargs).arguments
            except TypeError:
                loss.plan(*args, **kwargs)  # says it in its own words
                raise
            named = {name: x.keys if isinstance(x, KeyQueue) else x for name, x in named.items()}
            arrays = {name: x for name, x in named.items() if is_jax_array(x)}
            return Call(loss.plan, tuple((name, x) for name, x in named.items() if name not in arrays)), arrays

        def value(*args: Any, **kwargs: Any) -> Array:
            return carried_out(Call.value, *split(*args, **kwargs))

        def value_and_grad(*args: Any, **kwargs: Any) -> tuple[Array, Any]:
            return carried_out(Call.value_and_grad, *split(*args, **kwargs))  # type: ignore[no-any-return]

        def vjp(*args: Any, **kwargs: Any) -> tuple[Array, Callable[[Array | float], Any]]:
            call, arrays = split(*args, **kwargs)
            return carried_out(Call.value, call, arrays), lambda c: carried_out(Call.pulled, call, arrays, c)

        for form in (value, value_and_grad, vjp):
            doc = getattr(reference, form.__name__).__doc__
            update_wrapper(form, loss.plan)
            form.__doc__ = doc
        vars(self).update(value=value, value_and_grad=value_and_grad, vjp=vjp, reference=loss, __module__=__name__)


clip = JAXLoss(infonce_ref.clip)
dcl = JAXLoss(infonce_ref.dcl)
debiased = JAXLoss(infonce_ref.debiased)
gte = JAXLoss(infonce_ref.gte)
hard_negative = JAXLoss(infonce_ref.hard_negative)
info_nce = JAXLoss(infonce_ref.info_nce)
info_nce_from_logits = JAXLoss(infonce_ref.info_nce_from_logits)
mil_nce = JAXLoss(infonce_ref.mil_nce)
moco = JAXLoss(infonce_ref.moco)
n_pair = JAXLoss(infonce_ref.n_pair)
nt_xent = JAXLoss(infonce_ref.nt_xent)
siglip = JAXLoss(infonce_ref.siglip)
soft_nce = JAXLoss(infonce_ref.soft_nce)
sup_con = JAXLoss(infonce_ref.sup_con)
triplet = JAXLoss(infonce_ref.triplet)


def matryoshka(loss: Loss[P, G], dims: Sequence[int], weights: Sequence[float] | None = None) -> Loss[P, G]:
    """`infonce_ref.matryoshka` of a loss of this module: in tiles where that is, compiled anew for each made."""
    return JAXLoss(infonce_ref.matryoshka(reference_of(loss), dims, weights))

"""Losses of the reference as PyTorch has them: values and gradients by tiles, derivatives of any order by autograd.

`backward` of a mean or a sum multiplies gradients that the forward pass has already found, for the inputs that need
one; that of reduction="none" visits the tiles again. A second derivative is that of the reference's code, as is
everything under torch.compile, on tensor subclasses, and of plans that the tiles don't run.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Generic

import torch
from array_api_compat import is_torch_namespace
from torch import Tensor

from infonce_ref.backends._plans import OfReference, Quick
from infonce_ref.backends._torch_tiles import runs, visit
from infonce_ref.loss import G, Loss, P, Plan, RowGrads
from infonce_ref.losses.matryoshka import Nested
from infonce_ref.queue import KeyQueue

HALF = (torch.float16, torch.bfloat16)
SCALAR = ("mean", "sum")  # the reductions whose row weights are known before the cotangent is

# What the gradients of an argument are made of, where that isn't the rows of its name alone.
ROWS = {
    "bilinear_weight": ("query",),
    "queue": ("negative_keys",),
    "view_a": ("views", "partners"),
    "view_b": ("views", "partners"),
}


class Call:
    """A call of a loss, less its tensors. No tuple, which torch.func would take for a tree of arguments."""

    def __init__(
        self, loss: TorchLoss[Any, Any], names: tuple[str, ...], others: dict[str, Any], wanted: tuple[str, ...]
    ) -> None:
        """`names` of the tensors, and the names of those whose gradients are asked for."""
        self.loss, self.names, self.others, self.wanted = loss, names, others, wanted
        self.rows = [row for name in wanted for row in ROWS.get(name, (name,))]

    def arguments(self, tensors: Sequence[Tensor]) -> dict[str, Any]:
        return {**dict(zip(self.names, tensors, strict=True)), **self.others}

    @property
    def foreseen(self) -> bool:
        """The gradients, but for a factor, can be found along with the loss."""
        return bool(self.wanted) and self.others.get("reduction", "mean") in SCALAR

    def choose(self, gradients: Any) -> tuple[Tensor, ...]:
        return tuple(getattr(gradients, name) for name in self.wanted)

    def value(self, tensors: Sequence[Tensor]) -> Tensor:
        plan = self.loss.plan(self.arguments(tensors))
        return plan.reduction.apply(passed(plan, None, ())[0])  # type: ignore[no-any-return]

    def value_and_gradients(self, tensors: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        plan = self.loss.plan(self.arguments(tensors))
        losses, total = passed(plan, plan.reduction.transpose(1.0), self.rows)
        return plan.reduction.apply(losses), self.choose(plan.to_arguments(total))

    def gradients(self, cotangent: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The gradients once more, for any cotangent of the value."""
        plan = self.loss.plan(self.arguments(tensors))
        _, total = passed(plan, plan.reduction.transpose(cotangent), self.rows)
        return self.choose(plan.to_arguments(total))

    def differentiable_gradients(self, cotangent: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The gradients by the reference's code, which can be differentiated itself."""
        _, pullback = self.loss.reference.vjp(**self.arguments(tensors))
        return self.choose(pullback(cotangent))


def passed(plan: Plan[Any], weights: Tensor | None, wanted: Container[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses of a plan's rows and the gradients of what they see: by tiles, or block by block by its own code."""
    if isinstance(plan.rows, Nested):
        found = plan.rows.carried_out(lambda part, of_part: passed(part, of_part, wanted), weights)
        assert found is not None
        return found
    if runs(plan.rows, plan.queries):
        return visit(plan, weights, wanted)
    visits = [plan.rows(lo, hi) for lo, hi in plan.spans] if weights is None else []
    if weights is None:
        return plan.join([losses for losses, _ in visits]), {}
    return by_blocks(plan, weights)


def by_blocks(plan: Plan[Any], weights: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The losses and gradients of a plan, by its own code."""
    losses: list[Tensor] = []
    total: dict[str, Tensor] = {}

    def pulled(lo: int, hi: int) -> RowGrads:
        block, pullback = plan.rows(lo, hi)
        losses.append(block)
        return pullback(weights[lo:hi])

    plan._replace(to_arguments=total.update).total(pulled(lo, hi) for lo, hi in plan.spans)
    return plan.join(losses), total


class Value(torch.autograd.Function):
    """The loss. Where nothing but a factor of its gradients is unknown, its backward multiplies them by it."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> Tensor:
        ctx.call = call
        loss, gradients = call.value_and_gradients(tensors) if call.foreseen else (call.value(tensors), ())
        ctx.save_for_backward(*tensors, *gradients)
        return loss

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        if cotangent is None:
            return (None,) * (1 + len(call.names))
        saved = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = dict(zip(call.wanted, applied(Gradient, call, cotangent, *saved), strict=True))
        else:
            found = dict(zip(call.wanted, Gradient.forward(call, cotangent, *saved), strict=True))
        return None, *(found.get(name) for name in call.names)


class Traced(torch.autograd.Function):
    """The same for torch.func, which wants what is saved for `backward` to be an output."""

    @staticmethod
    def forward(call: Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        if call.foreseen:
            loss, gradients = call.value_and_gradients(tensors)
            return loss, *gradients
        return (call.value(tensors),)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.call, *tensors = inputs
        _, *gradients = output
        ctx.mark_non_differentiable(*gradients)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *gradients)

    backward = Value.backward

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        return one_by_one(Traced, info.batch_size, in_dims, inputs)


class Gradient(torch.autograd.Function):
    """What `Value` pulls back, itself differentiable."""

    @staticmethod
    def forward(call: Call, cotangent: Tensor, *saved: Tensor) -> tuple[Tensor, ...]:
        tensors, gradients = saved[: len(call.names)], saved[len(call.names) :]
        if gradients:
            return tuple(g * cotangent for g in gradients)
        with full_precision(cotangent):
            return call.gradients(cotangent, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.call, cotangent, *saved = inputs
        ctx.save_for_backward(cotangent, *saved[: len(ctx.call.names)])
        ctx.others = len(saved) - len(ctx.call.names)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        cotangent, *tensors = ctx.saved_tensors
        places = [call.names.index(name) for name in call.wanted]

        def gradients(cotangent: Tensor, *differentiable: Tensor) -> tuple[Tensor, ...]:
            everything = list(tensors)
            for place, x in zip(places, differentiable, strict=True):
                everything[place] = x
            return call.differentiable_gradients(cotangent, everything)

        with full_precision(cotangent):
            pullback: Any = torch.func.vjp(gradients, cotangent, *(tensors[place] for place in places))[1]
            of_cotangent, *found = pullback(cotangents)
        by_name = dict(zip(call.wanted, found, strict=True))
        return None, of_cotangent, *(by_name.get(name) for name in call.names), *(None,) * ctx.others

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Any, Any]:
        return one_by_one(Gradient, info.batch_size, in_dims, inputs)


def applied(function: Any, *inputs: Any) -> Any:
    """`function.apply`, which PyTorch leaves without types."""
    return function.apply(*inputs)


def one_by_one(
    function: type[torch.autograd.Function], batch: int, in_dims: tuple[int | None, ...], inputs: tuple[Any, ...]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """The function of each member of a batch: a problem by itself."""
    members = [
        applied(function, *(x if dim is None else x.select(dim, i) for x, dim in zip(inputs, in_dims, strict=True)))
        for i in range(batch)
    ]
    results = tuple(torch.stack(of_all) for of_all in zip(*members, strict=True))
    return results, (0,) * len(results)


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """No autocast: the dtypes are the reference's."""
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return contextlib.nullcontext()
    return torch.autocast(kind, enabled=False)


class TorchLoss(OfReference, Generic[P, G]):
    """A loss of the reference for PyTorch: the same arguments, the same errors, gradients by autograd as well."""

    name: str

    def __init__(self, reference: Loss[P, G], quick: Quick | None = None) -> None:
        self.reference, self.quick, self.name = reference, quick, reference.name
        self.__name__ = self.__qualname__ = reference.name
        self.__module__ = "infonce_ref.backends._torch"
        self.__signature__ = inspect.signature(reference)
        self.__doc__ = (
            f"`infonce_ref.{self.name}` on PyTorch tensors. Arguments, result and errors are described there."
        )
        parameters = self.__signature__.parameters
        self.parameters = frozenset(parameters)
        self.positional = tuple(p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD)

    def __repr__(self) -> str:
        return f"<torch loss {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        """The loss; differentiable."""
        if torch.compiler.is_compiling():
            return self.reference(*args, **kwargs)  # type: ignore[no-any-return]
        given = self.named(args, kwargs)
        tensors = {name: x for name, x in given.items() if isinstance(x, Tensor)}
        if not all(type(x) in PLAIN for x in tensors.values()):
            return self.reference(**given)  # type: ignore[no-any-return]
        for x in tensors.values():
            if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
                with torch.autocast(x.device.type, enabled=False):
                    return self.differentiable(given, widened(tensors))
            break
        if any(x.dtype in HALF for x in tensors.values()):
            self.checked(given, tensors)
            return self.differentiable(given, widened(tensors))
        return self.differentiable(given, tensors)

    def value_and_grad(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Tensor, G]:
        """The loss and a named tuple of its gradients; for reduction="none" those of the sum of the entries."""
        if traced():
            return self.reference.value_and_grad(*args, **kwargs)
        with torch.no_grad():
            plan = self.plan(self.named(args, kwargs))
            losses, total = passed(plan, plan.reduction.transpose(1.0), everything)
            return plan.reduction.apply(losses), plan.to_arguments(total)

    def vjp(self, *args: P.args, **kwargs: P.kwargs) -> tuple[Tensor, Callable[[Tensor | float], G]]:
        """The loss and its pullback: a cotangent shaped as the loss → the named tuple of gradients.

        For a mean or a sum the pullback multiplies gradients that are already there; for reduction="none" it visits
        the tiles again.
        """
        if traced():
            return self.reference.vjp(*args, **kwargs)
        given = self.named(args, kwargs)
        with torch.no_grad():
            plan = self.plan(given)
            scalar = given.get("reduction", "mean") in SCALAR
            losses, total = passed(plan, plan.reduction.transpose(1.0) if scalar else None, everything)

        def pullback(cotangent: Tensor | float) -> G:
            with torch.no_grad():
                if scalar:
                    return plan.to_arguments({name: g * cotangent for name, g in total.items()})
                _, found = passed(plan, plan.reduction.transpose(cotangent), everything)
                return plan.to_arguments(found)

        return plan.reduction.apply(losses), pullback

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name; what no signature allows, the reference refuses."""
        given = dict(zip(self.positional, args, strict=False))
        if len(args) > len(self.positional) or not kwargs.keys() <= self.parameters - given.keys():
            self.reference.plan(*args, **kwargs)
        given.update(kwargs)
        if isinstance(given.get("queue"), KeyQueue):
            given["queue"] = given["queue"].keys
        return given

    def plan(self, given: Mapping[str, Any]) -> Plan[G]:
        quick = self.quick(given) if self.quick is not None else None
        if quick is not None:
            return quick
        plan = self.reference.plan(**given)
        if not is_torch_namespace(plan.xp):
            name = plan.xp.__name__
            raise TypeError(f"infonce_ref.backends.torch takes PyTorch's tensors, got {name}'s [input.array]")
        return plan

    def checked(self, given: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Refuses what the reference refuses, at the cost of shapes only."""
        if len({x.device for x in tensors.values()}) > 1:
            self.reference.plan(**given)
        shapes = {name: torch.empty_like(x, device="meta") for name, x in tensors.items()}
        self.reference.plan(**{**given, **shapes})

    def differentiable(self, given: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
        others = {name: x for name, x in given.items() if name not in tensors}
        traced = torch._C._are_functorch_transforms_active()  # under which a tensor may not know what it needs
        wanted: tuple[str, ...] = ()
        if torch.is_grad_enabled():
            wanted = tuple(name for name, x in tensors.items() if self.needs_gradient(name, x, traced))
        call = Call(self, tuple(tensors), others, wanted)
        if traced:
            return applied(Traced, call, *tensors.values())[0]  # type: ignore[no-any-return]
        if wanted:
            return applied(Value, call, *tensors.values())  # type: ignore[no-any-return]
        with torch.no_grad():
            return call.value(tuple(tensors.values()))

    def needs_gradient(self, name: str, x: Tensor, traced: bool) -> bool:
        return (x.requires_grad or (traced and x.is_floating_point())) and name not in CONSTANTS


PLAIN = (Tensor, torch.nn.Parameter)
CONSTANTS = ("sample_weight", "targets")  # floating, and without a gradient


def traced() -> bool:
    """Under torch.compile or torch.func, where a tensor may have no numbers to read."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


class Everything(Container[str]):
    def __contains__(self, name: object) -> bool:
        return True


everything = Everything()


def widened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Half precision is storage: in float32, with a gradient that comes back as it was stored."""
    return {name: x.float() if x.dtype in HALF else x for name, x in tensors.items()}

"""From `pkg.mod:attr` to a call: which of our arguments goes into which of theirs.

Nothing here knows an array library: values pass through as they are.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodWrapperType
from typing import Any

from infonce_ref.conformance.adapters.declare import READINGS, Declaration, declaration_of
from infonce_ref.conformance.family import IN_BATCH_OR_NOT, LOSSES, SCALARS
from infonce_ref.conformance.problem import Problem
from infonce_ref.losses.info_nce import info_nce

# The two sides of a contrast, whatever a loss calls them.
LEFT = (
    "query", "q", "queries", "anchor", "anchors", "z1", "z_1", "z_i", "zi", "z_a", "za", "z0", "h1", "x1",
    "view_a", "view1", "out_1", "emb_i", "emb_a", "image", "images", "image_features", "image_embeds",
    "query_embeddings", "a", "reps_a",
)  # fmt: skip
RIGHT = (
    "positive_key", "positive_keys", "positive", "positives", "k", "key", "keys", "pos", "z2", "z_2", "z_j",
    "zj", "z_b", "zb", "h2", "x2", "view_b", "view2", "out_2", "emb_j", "emb_b", "text", "texts",
    "text_features", "text_embeds", "document", "documents", "passage", "passages", "b", "reps_b",
)  # fmt: skip

# Our argument → the names that public code has for it. `scale` is 1/τ, `log_scale` its logarithm.
ALIASES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("query", "image", "view_a"), LEFT),
    **dict.fromkeys(("positive_key", "text", "view_b", "document"), RIGHT),
    "negative_keys": ("negative_keys", "negative_key", "negatives", "negative", "neg", "negs", "n", "queue"),
    "negative_texts": ("negative_texts", "negative_text", "hard_negative_texts"),
    "negative_images": ("negative_images", "negative_image", "hard_negative_images"),
    "queue": ("queue", "memory_bank", "bank", "negatives", "negative_keys"),
    "positive_bags": ("positive_bags", "bags", "positives", "positive_keys", "video_embeds"),
    "features": ("features", "embeddings", "feats", "z", "x", "query"),
    "labels": ("labels", "label", "y", "target", "targets", "query_labels"),
    "keys": ("keys", "key", "k", "candidates", "documents", "ref_emb"),
    "key_labels": ("key_labels", "ref_labels"),
    "targets": ("targets", "target", "soft_targets", "probabilities"),
    "logits": ("logits", "scores", "similarities"),
    "temperature": ("temperature", "tau", "temp", "t"),
    "scale": ("scale", "logit_scale", "inv_temperature", "inverse_temperature"),
    "log_scale": ("log_scale", "log_logit_scale", "log_inv_temperature"),
    "bias": ("bias", "logit_bias"),
    "similarity": ("similarity",),
    "bilinear_weight": ("bilinear_weight",),
    "in_batch_negatives": ("in_batch_negatives",),
    "positive_index": ("positive_index",),
    "candidate_mask": ("candidate_mask",),
    "logit_bias": ("logit_bias",),
    "margin": ("margin",),
    "prior": ("prior", "tau_plus", "class_prior"),
    "beta": ("beta", "concentration"),
    "sigma": ("sigma",),
    "variant": ("variant",),
    "symmetric": ("symmetric",),
    "dims": ("dims", "dimensions", "matryoshka_dims", "nesting_list", "nested_dims"),
    "weights": ("weights", "matryoshka_weights", "relative_importance"),
    "sample_weight": ("sample_weight", "sample_weights"),
    "reduction": ("reduction",),
}
TEMPERATURES = ("temperature", "scale", "log_scale")  # one quantity in three clothes
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Unusable(Exception):
    """The target can't be found, or can't be told how to be called."""


class NotApplicable(Exception):
    """The target declares, by its signature or in words, that it doesn't have what is asked.

    `undeclared` names what it may have after all: a dtype, a reading.
    """

    def __init__(self, reason: str, undeclared: str = "") -> None:
        super().__init__(reason)
        self.undeclared = undeclared

    def reply(self) -> dict[str, Any]:
        """The reason on the wire."""
        return {"na": str(self), **({"undeclared": self.undeclared} if self.undeclared else {})}


def find(spec: str) -> Any:
    """The object that `pkg.mod:attr` names, looked for in the current folder too; `attr` may be dotted."""
    module_name, colon, attribute = spec.partition(":")
    if not colon or not module_name or not attribute:
        raise Unusable(f"target must be written pkg.mod:attr, got {spec!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise Unusable(f"can't import {module_name}: {type(error).__name__}: {error}") from error
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise Unusable(f"{module_name} has no {attribute}") from error
    if not callable(found):
        raise Unusable(f"{spec} is a {type(found).__name__}, which can't be called")
    return found


def roles_of(loss: str) -> tuple[str, ...]:
    """The arguments that a target of `loss` may have."""
    known = LOSSES[loss]
    scalars = [role for name in known.scalars for role in (TEMPERATURES if name == "temperature" else (name,))]
    in_batch = ("in_batch_negatives",) if loss in IN_BATCH_OR_NOT else ()
    keywords = (*in_batch, *known.required, *known.options, "similarity", "reduction")
    return (*known.arrays, *known.optional, *scalars, *keywords)


def role_of(name: str, roles: Iterable[str] = tuple(ALIASES)) -> str | None:
    """Which of our arguments a parameter called `name` is: the one of that name, or one that also goes by it."""
    roles = tuple(roles)
    return name if name in roles else next((role for role in roles if name.lower() in ALIASES[role]), None)


@dataclass(frozen=True)
class Slots:
    """The parameters of one signature: which role fills which, and the constants."""

    signature: inspect.Signature
    roles: Mapping[str, str]  # role → parameter
    constants: Mapping[str, Any]  # parameter → value

    def bind(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments that hand over `values` (by role) and the constants."""
        named = {self.roles[role]: value for role, value in values.items() if role in self.roles}
        named.update(self.constants)
        positional = []
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                positional.append(named.pop(name, parameter.default))
        return positional, named

    def required(self, role: str) -> bool:
        """Whether the parameter that `role` fills has no default."""
        parameter = self.signature.parameters.get(self.roles.get(role, ""))
        return parameter is not None and parameter.default is inspect.Parameter.empty

    def __str__(self) -> str:
        shown = {name: _in_words(role) for role, name in self.roles.items()}
        shown.update({name: "info_nce" if x is info_nce else repr(x) for name, x in self.constants.items()})
        order = [*(n for n in self.signature.parameters if n in shown), *shown]
        return "(" + ", ".join(f"{name}={shown[name]}" for name in dict.fromkeys(order)) + ")"


def _in_words(role: str) -> str:
    return {"scale": "1/temperature", "log_scale": "log(1/temperature)"}.get(role, role)


def _slots(
    signature: inspect.Signature, known: Sequence[str], mapping: Mapping[str, str], const: Mapping[str, Any]
) -> Slots:
    """Match the parameters of `signature`: --const first, then --map, then the alias table."""
    parameters = signature.parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    constants = {name: value for name, value in const.items() if name in parameters or open_ended}
    theirs = {name: role for role, name in mapping.items() if name in parameters or open_ended}
    roles: dict[str, str] = {role: name for name, role in theirs.items() if name not in constants}
    for name, parameter in parameters.items():
        role = role_of(name, known)
        if parameter.kind in VARIADIC or name in constants or name in theirs or role is None or role in mapping:
            continue
        if role in roles:
            if parameter.default is inspect.Parameter.empty:
                raise Unusable(f"both {roles[role]!r} and {name!r} look like {role}: say which by --map {role}=NAME")
            continue
        roles[role] = name
    return Slots(signature, roles, constants)


def _signature(function: Any, drop_self: bool = False) -> inspect.Signature:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise Unusable(f"{function!r} has no signature to read: wrap it in a function ({error})") from error
    if not drop_self:
        return signature
    return signature.replace(parameters=list(signature.parameters.values())[1:])


@dataclass(frozen=True)
class Target:
    """Something that computes a loss, and how to hand a problem over to it."""

    name: str
    function: Any
    construct: Slots | None  # where the target is a class, or makes a loss of a loss: its constructor
    call: Slots
    declaration: Declaration = field(default_factory=Declaration)
    loss: str = "info_nce"

    def has(self, role: str) -> bool:
        return role in self.call.roles or (self.construct is not None and role in self.construct.roles)

    @property
    def temperature_role(self) -> str | None:
        """What the target takes the temperature as; None where the loss has none."""
        return next((role for role in TEMPERATURES if self.has(role)), None)

    @property
    def gives_gradients(self) -> bool:
        """Whether it, or what it makes, may have a `value_and_grad` that is to be called for them."""
        return hasattr(self.function, "value_and_grad") or _makes_a_loss(self.function, self.loss)

    @property
    def resolved(self) -> str:
        """The call in words: `InfoNCE(temperature=temperature)(query=query, positive_key=positive_key)`."""
        return self.name.rpartition(":")[2] + (str(self.construct) if self.construct else "") + str(self.call)

    def refuse_to_ask(self, problem: Problem, scalars: tuple[str, ...] = (), beyond: bool = False) -> None:
        """Raise NotApplicable where the signature or the declaration says that `problem` isn't for this target.

        `beyond`: whether dtypes and readings that aren't declared are asked for all the same.
        """
        if self.declaration.losses is not None and problem.loss not in self.declaration.losses:
            raise NotApplicable(f"loss {problem.loss} isn't declared")
        if self.declaration.dtypes is not None and problem.dtype not in self.declaration.dtypes and not beyond:
            raise NotApplicable(f"dtype {problem.dtype} isn't declared", f"dtype {problem.dtype}")
        if problem.loss != self.loss:
            raise NotApplicable(f"the target is called as {self.loss}")
        for role in LOSSES[self.loss].optional:
            if role in problem.arrays and not self.has(role):
                raise NotApplicable(f"the signature has no argument for {role}")
            if role not in problem.arrays and (self.call.required(role)):
                raise NotApplicable(f"the signature requires {role}, which this problem has not")
        for role, usual in self._usual(problem).items():
            if not self.has(role) and (self._asked(problem, role) != usual or role in scalars):
                raise NotApplicable(f"the signature has no argument for {role}")
        if not (beyond and problem.reading):
            self._check_reading(problem)

    def _usual(self, problem: Problem) -> dict[str, Any]:
        """The keywords that a target may lack, and what they then must be; None where there is no such value."""
        known = LOSSES[self.loss]
        alone = {"similarity": known.similarities[0]} if known.similarities else {}
        scalars = {name: 0.0 if name == "margin" else None for name in known.scalars if name != "temperature"}
        return {**alone, **scalars, "reduction": "mean", **known.options, **dict.fromkeys(known.required)}

    @staticmethod
    def _asked(problem: Problem, role: str) -> Any:
        """What the problem has for a keyword."""
        return getattr(problem, role) if role in ("similarity", "reduction", *SCALARS) else problem.option(role)

    def _check_reading(self, problem: Problem) -> None:
        if self.loss not in IN_BATCH_OR_NOT or self.has("in_batch_negatives") or problem.reading == "in-batch":
            return
        if problem.reading not in self.declaration.readings:
            raise NotApplicable(
                f"how the target reads explicit negatives isn't declared as {problem.reading or 'none at all'}: pass "
                f"--reading {'|'.join(READINGS[1:])} (and --const for what selects it)",
                f"reading {problem.reading}" if problem.reading else "",
            )

    def values(self, problem: Problem, arrays: Mapping[str, Any], scalars: Mapping[str, Any]) -> dict[str, Any]:
        """By role, what the target shall receive; a temperature is already in its clothes (see `temperature_role`)."""
        values: dict[str, Any] = dict(arrays)
        if self.temperature_role is not None:
            values[self.temperature_role] = scalars["temperature"]
        keywords = {
            "similarity": problem.similarity,
            "in_batch_negatives": problem.in_batch_negatives,
            "reduction": problem.reduction,
            **{name: value for name, value in scalars.items() if name != "temperature"},
            **problem.options,
        }
        values.update({role: value for role, value in keywords.items() if self.has(role)})
        return values

    def bound_call(self, values: Mapping[str, Any], method: str | None = None) -> Callable[[], Any]:
        """The call as a function of no arguments; `method`: a method of the target to call in its place."""
        function = self.function
        if self.construct is not None:
            positional, named = self.construct.bind(values)
            function = function(*positional, **named)
        if method is not None:
            function = getattr(function, method, function)
        positional, named = self.call.bind(values)
        return lambda: function(*positional, **named)


def resolve(
    target: Any,
    *,
    name: str | None = None,
    mapping: Mapping[str, str] | None = None,
    const: Mapping[str, Any] | None = None,
    readings: tuple[str, ...] = (),
    loss: str = "info_nce",
) -> Target:
    """How to call `target` for `loss`: a `pkg.mod:attr`, a function, a class, or an object with `__call__`."""
    mapping, const = dict(mapping or {}), dict(const or {})
    known = roles_of(loss)
    for role in mapping:
        if role not in known:
            raise Unusable(f"--map {role}=…: there is no argument {role} of {loss}; its are {', '.join(known)}")
    function = find(target) if isinstance(target, str) else target
    if not callable(function):
        raise Unusable(f"{function!r} can't be called")
    if name is None:
        name = target if isinstance(target, str) else str(getattr(function, "__name__", type(function).__name__))
    construct = None
    if _makes_a_loss(function, loss):
        signature = _signature(info_nce)
        construct = _slots(_signature(function), known, mapping, {**const, "loss": info_nce})
    else:
        signature = _call_signature(function)
    if inspect.isclass(function):
        construct = _slots(_signature(function), known, mapping, const)
    call = _slots(signature, known, mapping, const)
    declared = declaration_of(function)
    readings = readings or declared.readings
    declaration = Declaration(declared.losses, declared.framework, declared.dtypes, declared.profiles, readings)
    resolved = Target(name, function, construct, call, declaration, loss)
    _complain(resolved, mapping, const)
    return resolved


def _makes_a_loss(function: Any, loss: str) -> bool:
    """Whether it is a function from a loss, and dims, to a nested loss: it is given the reference's info_nce."""
    if loss != "matryoshka" or inspect.isclass(function) or hasattr(function, "forward"):
        return False
    parameters = _signature(function).parameters
    return "loss" in parameters and not any(role_of(name, LOSSES[loss].arrays) for name in parameters)


def _call_signature(function: Any) -> inspect.Signature:
    """The signature of the call; of `forward` where there is one, since a torch module's own call hides it."""
    if inspect.isclass(function):
        method = getattr(function, "forward", None) or function.__call__
        if isinstance(method, MethodWrapperType):  # that of `type`, which constructs
            raise Unusable(f"class {function.__name__} has neither forward nor __call__")
        return _signature(method, drop_self=True)
    if hasattr(function, "forward"):
        return _signature(function.forward)
    return _signature(function)


def _complain(target: Target, mapping: Mapping[str, str], const: Mapping[str, Any]) -> None:
    """Raise Unusable where something is left without a value, or a correction has found no parameter."""
    both = [slots for slots in (target.construct, target.call) if slots is not None]
    for role, theirs in mapping.items():
        if not any(theirs == slots.roles.get(role) for slots in both):
            raise Unusable(f"--map {role}={theirs}: {target.name} has no parameter {theirs}")
    for theirs in const:
        if not any(theirs in slots.constants for slots in both):
            raise Unusable(f"--const {theirs}=…: {target.name} has no parameter {theirs}")
    for role in LOSSES[target.loss].arrays:
        if role not in target.call.roles:
            raise Unusable(f"{target.name}: no parameter looks like {role}; say which one is by --map {role}=NAME")
    if "temperature" in LOSSES[target.loss].scalars and target.temperature_role is None:
        raise Unusable(
            f"{target.name}: no parameter looks like temperature; say which one is by --map temperature=NAME "
            "(or scale=NAME for 1/temperature)"
        )
    for slots in both:
        known = {*slots.roles.values(), *slots.constants}
        for name, parameter in slots.signature.parameters.items():
            if name not in known and parameter.kind not in VARIADIC and parameter.default is parameter.empty:
                raise Unusable(f"{target.name}: what is {name!r}? Say so by --map OURS={name} or --const {name}=VALUE")

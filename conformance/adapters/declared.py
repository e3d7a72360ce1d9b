"""What a program in another language says of itself, and whether it keeps to it.

A callable declares what it has by its signature; a program by its reply to hello, where `arguments` takes the place of
the signature and is read by the same rules. What it leaves unsaid is tried. It may also say `na` to a problem, but
only for what a declaration could have said: the loss, the dtype, which arguments there are and what the keywords are,
never for numbers or sizes. So all problems of one form are answered, or none.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from infonce_ref.conformance.adapters.declare import READINGS, adapter
from infonce_ref.conformance.adapters.resolve import NotApplicable, Target, Unusable, resolve
from infonce_ref.conformance.family import SCALARS
from infonce_ref.conformance.problem import Problem

SAYS = ("arguments", "dtypes", "losses", "profiles", "readings", "versions")
Form = tuple[Any, ...]


class Declared:
    """What `hello` declares about the implementation `name`, to be held against its replies."""

    def __init__(self, name: str, hello: Mapping[str, Any], loss: str, readings: tuple[str, ...] = ()) -> None:
        self.name, self.hello = name, _sound(hello)
        self.target = self._target(loss, readings) if "arguments" in self.hello else None
        self.forms: dict[Form, bool] = {}  # whether a problem of this form was answered

    def _target(self, loss: str, readings: tuple[str, ...]) -> Target:
        """The declaration as a target whose signature has the declared arguments, so that the same rules hold."""
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, kind, default=None) for name in dict.fromkeys(self.hello["arguments"])]

        @adapter(
            loss=tuple(self.hello.get("losses") or (loss,)),
            dtypes=_optional(self.hello.get("dtypes")),
            profiles=_optional(self.hello.get("profiles")),
            readings=readings or tuple(self.hello.get("readings", ())),
        )
        def program() -> None: ...

        program.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return resolve(program, name=self.name, loss=loss)

    @property
    def resolved(self) -> str:
        """The call in words."""
        return self.name + (f"({', '.join(self.hello['arguments'])})" if self.target else "")

    def refuses(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply that says why `request` isn't for the program, by its declaration; empty if it is."""
        beyond, problem_json = bool(request.get("undeclared")), request["problem"]
        for key, value in (("losses", problem_json["loss"]), *([] if beyond else [("dtypes", problem_json["dtype"])])):
            if self.hello.get(key) is not None and value not in self.hello[key]:
                return {"na": f"{value} isn't among the {key} declared"}
        if self.target is not None:
            problem = Problem.from_json(problem_json)
            try:
                self.target.refuse_to_ask(problem, tuple(name for name in request["want"] if name in SCALARS), beyond)
            except NotApplicable as reason:
                return reason.reply()
        return {}

    def breach(self, request: Mapping[str, Any], reply: Mapping[str, Any]) -> str:
        """How `reply` contradicts an earlier one, if it does: na to what was answered, or the other way round."""
        answered = "na" not in reply
        if self.forms.setdefault(form(request["problem"]), answered) == answered:
            return ""
        if answered:
            return "answers a problem, though na was said to another with the same arguments, keywords and dtype"
        return f"says na ({reply['na']}), though a problem with the same arguments, keywords and dtype was answered"


def form(problem: Mapping[str, Any]) -> Form:
    """What a declaration may speak of: everything but numbers and sizes."""
    arrays = tuple(sorted((name, a["dtype"], len(a["shape"])) for name, a in problem["arrays"].items()))
    rest = {**problem, **problem.get("options", {})}
    keywords = {name: None if _is_number(name, value) else value for name, value in rest.items()}
    return (arrays, tuple(sorted((k, str(v)) for k, v in keywords.items() if k not in ("arrays", "options"))))


def _is_number(name: str, value: Any) -> bool:
    return name in SCALARS or (isinstance(value, int | float | list) and not isinstance(value, bool))


def _optional(values: Any) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _sound(hello: Mapping[str, Any]) -> dict[str, Any]:
    """`hello`, if everything in it can be declared; Unusable if not."""
    for key, value in hello.items():
        if key not in SAYS:
            raise Unusable(f"hello declares {str(key)[:80]!r}; what can be declared is {', '.join(SAYS)}")
        if key == "versions" and isinstance(value, Mapping):
            value = [*value, *value.values()]
        if not isinstance(value, list) or len(value) > 100 or not all(isinstance(x, str) and x for x in value):
            raise Unusable(f"hello: {key} must be a list of names, got {str(value)[:80]}")
    for reading in hello.get("readings", ()):
        if reading not in READINGS:
            raise Unusable(f"hello: a reading is one of {', '.join(READINGS)}, got {reading[:80]!r}")
    for name in hello.get("arguments", ()):
        if not name.isidentifier():
            raise Unusable(f"hello: {name[:80]!r} is not the name of an argument")
    versions = hello.get("versions", {})
    if isinstance(versions, list):  # the text wire knows lists alone: name and version by turns
        versions = dict(zip(versions[::2], versions[1::2], strict=False))
    return {**hello, "versions": {str(k)[:80]: str(v)[:80] for k, v in versions.items()}}

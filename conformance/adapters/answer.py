"""One request answered: the problem handed over, the loss and gradients read back, the inputs looked at again."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from infonce_ref.conformance.adapters.frameworks import Framework, flushes_subnormals
from infonce_ref.conformance.adapters.resolve import NotApplicable, Target
from infonce_ref.conformance.family import LOSSES, SCALARS
from infonce_ref.conformance.problem import FORMATS, Problem


class Adapter:
    """A target in its framework: requests in, replies out; no exception of the target's gets past it."""

    def __init__(self, target: Target, library: Framework) -> None:
        self.target, self.library = target, library
        # gradients may go by the target's own names
        self.names = {parameter: role for role, parameter in target.call.roles.items()}

    def hello(self) -> dict[str, Any]:
        """What is known before the first call: the resolved call, the versions, what was declared."""
        declared = self.target.declaration
        return {
            "resolved": self.target.resolved,
            "framework": self.library.name,
            "versions": self.library.versions,
            "autodiff": self.library.autodiff,
            "profiles": None if declared.profiles is None else list(declared.profiles),
            "dtypes": None if declared.dtypes is None else list(declared.dtypes),
            "flushes": flushes_subnormals(self.library, "float32"),
        }

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to `request`, its id with it."""
        with warnings.catch_warnings(), self.library.session():
            warnings.simplefilter("ignore")
            return {"id": request["id"], **self._answer(request)}

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        problem = Problem.from_json(request["problem"])
        wanted = [name for name in request["want"] if name != "loss"]
        as_array = request.get("temperature_as") == "array"
        try:
            scalars = tuple(name for name in wanted if name in SCALARS)
            self.target.refuse_to_ask(problem, scalars, bool(request.get("undeclared")))
            dtypes = {name: array["dtype"] for name, array in request["problem"]["arrays"].items()}
            values = self._values(problem, dtypes, wanted, as_array)
        except NotApplicable as reason:
            return reason.reply()
        before = {name: self.library.to_wire(value) for name, value in values["arrays"].items()}
        try:
            loss, gradients = self._call(problem, values, wanted)
            reply = {
                "loss": self._to_wire(loss, problem.dtype),
                "grad": {name: self._to_wire(g, problem.dtype) for name, g in gradients.items() if name in wanted},
            }
        except NotApplicable as reason:
            return {"na": str(reason)}
        except Exception as error:  # noqa: BLE001  whatever it is, it is the target's answer
            return {"refused": f"{type(error).__name__}: {error}"[:2000], "where": _place(error)}
        inputs = values["arrays"].items()
        results = (loss, *gradients.values())
        changed = [name for name, value in inputs if self.library.to_wire(value) != before[name]]
        shared = [name for name, value in inputs if any(self.library.shares(value, x) for x in results)]
        return {**reply, **({"changed": changed} if changed else {}), **({"shared": shared} if shared else {})}

    def _to_wire(self, value: Any, dtype: str) -> dict[str, Any]:
        """A result, bit for bit. A Python number has no dtype, so it is read as one of the compute format."""
        if type(value) in (int, float):
            value = np.asarray(value, dtype=FORMATS[dtype].compute)
        return self.library.to_wire(value)

    def _values(self, problem: Problem, dtypes: Mapping[str, str], wanted: list[str], as_array: bool) -> dict[str, Any]:
        """The problem in the framework's arrays; τ as a 0-d array if asked, other scalars where their gradients are."""
        library, dtype = self.library, problem.dtype
        arrays = {name: library.array(array, dtypes[name]) for name, array in problem.arrays.items()}
        scalars: dict[str, Any] = {name: getattr(problem, name) for name in LOSSES[problem.loss].scalars}
        for name in scalars:
            if name in wanted or (name == "temperature" and as_array):
                scalars[name] = library.array(np.asarray(scalars[name]), dtype)
        return {"arrays": arrays, "scalars": scalars}

    def _call(self, problem: Problem, values: dict[str, Any], wanted: list[str]) -> tuple[Any, dict[str, Any]]:
        target, library = self.target, self.library
        method = None
        if wanted and not library.autodiff and target.gives_gradients:
            method = "value_and_grad"

        def call(everything: Mapping[str, Any]) -> Any:
            arrays = {name: everything[name] for name in values["arrays"]}
            scalars = {name: everything[name] for name in values["scalars"]}
            if target.temperature_role is not None:
                scalars["temperature"] = library.temperature(scalars["temperature"], target.temperature_role)
            return target.bound_call(target.values(problem, arrays, scalars), method)()

        return library.differentiate(call, {**values["arrays"], **values["scalars"]}, tuple(wanted), self.names)


def _place(error: Exception) -> str:
    """File and line of the target's code that raised, to find it by."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{last.filename.rpartition('/')[2]}:{last.lineno} in {last.name}"

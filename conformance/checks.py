"""The list of checks: what is asked of an implementation, under which profile, and how the answer is judged.

The command line and the pytest plug both use this one list. A check asks through a `Session` and returns an `Outcome`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from infonce_ref.conformance import distributed
from infonce_ref.conformance.adapters.wire import unpack
from infonce_ref.conformance.family import LOSSES, SCALARS
from infonce_ref.conformance.fresh import fresh_questions
from infonce_ref.conformance.judge import Measure, measure
from infonce_ref.conformance.large import large_questions, watched_questions
from infonce_ref.conformance.load import vector_questions
from infonce_ref.conformance.problem import FORMATS
from infonce_ref.conformance.question import HALF, Question
from infonce_ref.conformance.ranks import PROCESSES, rank_of_trouble
from infonce_ref.conformance.session import Session

Status = Literal["pass", "fail", "error", "timeout", "xfail", "xpass", "n/a"]
Level = Literal["MUST", "SHOULD"]

# In the order of the report. Additive: each asks for more.
PROFILES: Mapping[str, str] = {
    "core": "the value; shape and dtype of the result, inputs unchanged, the same answer twice",
    "grad": "the gradients of both sides",
    "temperature-grad": "the gradient of the temperature (and a bias), and temperature as an array of shape ()",
    "negatives": "explicit negatives, shared or own, with or without those in the batch",
    "masks": "candidates that are never negatives",
    "variants": "dot and bilinear similarity, margin, positive_index, weights, reductions",
    "half": "float16 and bfloat16",
    "edges": "zero rows, huge and tiny norms, N = 1, ties, NaN and inf",
    "errors": "bad input refused",
    "precise": "relative accuracy at tiny losses",
    "scale": "N = 1023 … 8192: block borders, and memory",
    "distributed": "the loss of a batch that is spread over processes",
}
REQUIRED = ("core", "grad")
NAMED = ("scale", "distributed")  # run only when they are named, one by one
ORDINARY = tuple(profile for profile in PROFILES if profile not in NAMED)


@dataclass(frozen=True)
class Outcome:
    """What came of a check."""

    status: Status
    reason: str = ""
    worst: Measure | None = None
    output: str = ""
    clauses: tuple[str, ...] | None = None  # where fewer than the check's were judged
    reply: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One thing asked of an implementation."""

    id: str
    clauses: tuple[str, ...]
    profile: str
    level: Level
    dtype: str
    note: str
    judge: Callable[[Session], Outcome]
    question: Question | None = field(default=None, compare=False)  # where it asks one thing, for its numbers
    outputs: tuple[str, ...] = ()

    def run(self, session: Session) -> Outcome:
        """The outcome; what the target declares not to have isn't asked, nor what this way of asking can't show."""
        declared = session.hello.get("profiles")
        if declared is not None and self.profile not in declared:
            absent = f"profile {self.profile}"
            return Outcome("n/a", f"{absent} isn't declared", reply={"undeclared": absent})
        unseen = session.hello.get("unseen", {})
        for clause in self.clauses:
            if clause in unseen:
                return Outcome("n/a", unseen[clause])
        return self.judge(session)


def all_checks(loss: str, seed: int, vectors: Any = None, named: Sequence[str] = ()) -> list[Check]:
    """Every check of `loss`, in an order that depends on the seed alone; at the end those of NAMED that are `named`."""
    stored = list(vector_questions(loss, vectors))
    questions = [*stored, *fresh_questions(loss, seed)]
    checks = [check for question in questions for check in checks_of(question, stored)]
    checks += behaviour(loss, stored or questions)
    order = random.Random(f"{loss}/{seed}")
    order.shuffle(checks)
    for profile, further in (("scale", scale), ("distributed", spread)):
        checks += further(loss, seed) if profile in named else ()
    return checks


def matching(checks: Iterable[Check], pattern: str | None) -> list[Check]:
    """The checks in whose id `pattern`, which may be a shell pattern, is found."""
    if pattern is None:
        return list(checks)
    return [c for c in checks if matches(pattern, c.id)]


def matches(pattern: str, check_id: str) -> bool:
    """Whether `pattern`, which may be a shell pattern, is found in the id."""
    return pattern in check_id or fnmatchcase(check_id, f"*{pattern}*")


def in_profiles(checks: Iterable[Check], profiles: Sequence[str]) -> list[Check]:
    """The checks of some profiles."""
    return [check for check in checks if check.profile in profiles]


# --- one question, several checks ----------------------------------------------------------------------------------


def checks_of(question: Question, stored: Sequence[Question]) -> Iterator[Check]:
    """A question's checks: the loss, the gradients, temperature's, and the same by the precise bounds."""
    if question.expect == "refused":
        yield refusal(question, stored)
        return
    spoilt = question.find().nonfinite if question.expect == "nonfinite" else {}
    arrays = tuple(name for name in question.arrays if question.expect == "values" or name in spoilt)
    if question.expect == "values" or "loss" in spoilt:
        yield values(question, ("loss",), "loss")
    if arrays:
        yield values(question, arrays, "grad")
    for scalar in scalars(question, spoilt):
        yield values(question, (scalar,), scalar)
    if question.precise:
        yield values(question, ("loss",), "precise.loss", "precise")
        yield values(question, arrays, "precise.gradient", "precise")


def scalars(question: Question, spoilt: Mapping[str, Any]) -> Iterator[str]:
    """The scalar arguments whose gradient is asked for; margin's only where the question is about it."""
    if question.expect == "nonfinite":
        yield from (name for name in SCALARS if name in spoilt)
        return
    loss = question.problem["loss"]
    for name in LOSSES[loss].scalars:
        about_it = "margin" in question.problem or "gradient.margin" in question.clauses or loss == "triplet"
        if name != "margin" or about_it:
            yield name


def values(question: Question, outputs: tuple[str, ...], name: str, level: str = "bound") -> Check:
    """The check that the `outputs` of `question` are right."""

    def judge(session: Session) -> Outcome:
        as_array = bool({*SCALARS} & {*outputs})
        return judge_values(session, question, outputs, level, as_array)

    return Check(
        id=f"{question.id}/{question.dtype}/{name}",
        clauses=clauses_for(question, outputs, level),
        profile=profile_for(question, name),
        level="SHOULD" if level == "precise" else "MUST",
        dtype=question.dtype,
        note=question.note,
        judge=judge,
        question=question,
        outputs=outputs,
    )


def profile_for(question: Question, name: str) -> str:
    """The profile under which an output is asked: core's gradients are `grad`, half precision is its own."""
    if name.startswith("precise."):
        return "precise"
    if question.dtype in HALF and question.profile in ("core", "grad"):
        return "half"
    if question.profile != "core":
        return question.profile
    return {"loss": "core", "temperature": "temperature-grad", "bias": "temperature-grad", "margin": "variants"}.get(
        name, "grad"
    )


def clauses_for(question: Question, outputs: Sequence[str], level: str) -> tuple[str, ...]:
    """The question's clauses, less the gradients that aren't looked at here."""
    if level == "precise":
        return ("precise.loss",) if "loss" in outputs else ("precise.gradient",)
    plain = [c for c in question.clauses if not c.startswith(("gradient.", "precise."))]
    plain += [gradient_clause(name) for name in outputs if name != "loss"]
    if "temperature" in outputs:
        plain.append("dtype.temperature")
    if question.dtype in HALF:
        plain = ["dtype.half" if c == "dtype.compute" else c for c in plain]
    return tuple(dict.fromkeys(plain))


def gradient_clause(output: str) -> str:
    return "gradient." + output.replace("_", "-")


# --- judging -------------------------------------------------------------------------------------------------------


def trouble(reply: Mapping[str, Any]) -> Outcome | None:
    """What to say of a reply that isn't an answer; None if it is one."""
    if "na" in reply:
        return Outcome("n/a", str(reply["na"]), reply=reply)
    if "timeout" in reply:
        return Outcome("timeout", str(reply["timeout"]), reply=reply)
    for kind in ("dead", "garbage"):
        if kind in reply:
            return Outcome("error", str(reply[kind]), reply=reply)
    if "refused" in reply:
        where = f" ({reply['where']})" if reply.get("where") else ""
        return Outcome("error", f"raised {reply['refused']}{where}", reply=reply)
    if "loss" not in reply or not isinstance(reply.get("grad", {}), Mapping):
        return Outcome("error", f"not an answer: {str(dict(reply))[:200]}", reply=reply)
    return None


def judge_values(session: Session, question: Question, outputs: tuple[str, ...], level: str, as_array: bool) -> Outcome:
    """Ask for `outputs`, and measure each of them."""
    if session.hello.get("flushes") and question.has_subnormal_row:
        return Outcome("n/a", "the device takes subnormal numbers for zero, and a row of this problem holds no others")
    reply = session.ask(question.problem, outputs, as_array)
    failed = trouble(reply)
    if failed is not None:
        return failed
    measures: dict[str, Measure] = {}
    missing = []
    for output in outputs:
        data = reply["loss"] if output == "loss" else reply.get("grad", {}).get(output)
        if data is not None:
            measures[output] = measured(session, question, output, data, level)
        elif session.has_gradient.get(output):
            return Outcome("fail", f"no gradient of {output} here, though there was one before", reply=reply)
        else:
            missing.append(output)
    if not measures:
        return Outcome("n/a", f"the target returns no gradient of {', '.join(missing)}", reply=reply)
    output, worst = max(measures.items(), key=lambda item: item[1].r)
    left_out = {gradient_clause(name) for name in missing}
    clauses = tuple(c for c in clauses_for(question, outputs, level) if c not in left_out)
    status: Status = "pass" if worst.r <= 1.0 else "fail"
    return Outcome(status, worst.reason, worst, output, clauses, reply)


def measured(session: Session, question: Question, output: str, data: Any, level: str) -> Measure:
    """How far one output is off; infinitely, where it isn't what can be compared."""
    try:
        dtype, computed = unpack(data)
    except ValueError as error:
        return Measure(np.inf, reason=str(error))
    shape = question.shapes.get(output, ())
    if dtype not in FORMATS:
        return Measure(np.inf, reason=f"{output} is of dtype {dtype}")
    if computed.shape != shape:
        return Measure(np.inf, reason=f"{output} has shape {computed.shape}, where {shape} is expected")
    answers = question.find()
    spoilt = nonfinite(computed, answers.nonfinite.get(output, ()))
    radii = answers.radii(level, output)
    if spoilt.r > 1.0 or radii is None:
        return spoilt
    slack = 0.0
    if session.hello.get("flushes"):
        compute = FORMATS[question.dtype].compute
        slack = float(np.finfo(compute).smallest_normal) * question.amplification(output)
    found = measure(computed, answers.expected[output], radii, dtype, slack)
    return found if found.r >= spoilt.r else spoilt


def nonfinite(computed: np.ndarray, places: Any) -> Measure:
    """Whether every one of the flat `places` holds NaN or an infinity."""
    flat = computed.reshape(-1)
    chosen = range(flat.size) if places == "all" else places
    for place in chosen:
        if np.isfinite(flat[place]):
            index = tuple(int(i) for i in np.unravel_index(place, computed.shape))
            reason = "a finite number where NaN or an infinity is expected"
            return Measure(np.inf, index, "NaN or ±inf", repr(float(flat[place])), "", reason)
    return Measure(0.0)


def refusal(question: Question, stored: Sequence[Question]) -> Check:
    """The check that bad input is refused, by a target that doesn't refuse what is sound."""

    def judge(session: Session) -> Outcome:
        reply = session.ask(question.problem, ("loss",))
        if "refused" in reply:
            return judge_refusal(session, question, stored, reply)
        failed = trouble(reply)
        if failed is not None:
            return failed
        return Outcome("fail", f"accepted, and returned {spoken(reply['loss'])}", reply=reply, output="loss")

    return Check(
        id=f"{question.id}/{question.dtype}/refused",
        clauses=question.clauses,
        profile=question.profile,
        level="MUST",
        dtype=question.dtype,
        note=question.note,
        judge=judge,
    )


# Not refusals: the target has run out of something, or is broken.
ACCIDENTS = ("MemoryError", "RecursionError", "ImportError", "ModuleNotFoundError", "NameError", "UnboundLocalError")


def judge_refusal(
    session: Session, question: Question, stored: Sequence[Question], reply: Mapping[str, Any]
) -> Outcome:
    """A refusal counts if it is no accident and a sound problem isn't refused as well."""
    if str(reply["refused"]).startswith(ACCIDENTS):
        return Outcome("error", f"raised {reply['refused']}", reply=reply)
    sound = next((q for q in stored if q.profile == "core" and q.dtype == question.dtype), None)
    happened = session.accepts(sound.problem) if sound is not None else ""
    if happened:
        return Outcome("fail", f"sound input isn't answered either: {happened}", reply=reply)
    return Outcome("pass", f"refused: {reply['refused']}", reply=reply)


def spoken(data: Any) -> str:
    """A returned array in a few words."""
    try:
        dtype, array = unpack(data)
    except ValueError as error:
        return str(error)
    if array.size == 1:
        return f"{float(array.reshape(-1)[0])!r} ({dtype})"
    return f"{dtype} array of shape {array.shape}"


# --- behaviour: shape, dtype, inputs, repetition -------------------------------------------------------------------

SAMPLES = 3


def behaviour(loss: str, questions: Sequence[Question]) -> Iterator[Check]:
    """What holds of every call, tried on a few ordinary questions in each dtype."""
    for dtype in FORMATS:
        ordinary = "half" if dtype in HALF else "core"
        sound = [q for q in questions if q.dtype == dtype and q.profile == ordinary and q.expect == "values"]
        kinds = list({q.kind: q for q in sound}.values())[:6]
        if not kinds:
            continue
        for about, clause, judge in (
            ("shape", "call.shape", judge_shapes),
            ("dtype", "dtype.result", judge_dtypes),
        ):
            for part in ("loss", "grad"):
                profile = "grad" if (ordinary, part) == ("core", "grad") else ordinary
                yield _behaves(f"{loss}.call.{about}/{dtype}/{part}", clause, profile, dtype, judge, kinds, part)
        yield _behaves(f"{loss}.call.pure/{dtype}", "call.pure", ordinary, dtype, judge_pure, kinds, "grad")
        for i, question in enumerate(sound[:: max(1, len(sound) // SAMPLES)][:SAMPLES]):
            pair = [question, sound[(i + 1) % len(sound)]]
            name = f"{loss}.call.repeatable.{i}/{dtype}"
            yield _behaves(name, "call.repeatable", ordinary, dtype, judge_repetition, pair, "loss")


def _behaves(
    name: str,
    clause: str,
    profile: str,
    dtype: str,
    judge: Callable[[Session, Sequence[Question], str], Outcome],
    questions: Sequence[Question],
    part: str,
) -> Check:
    return Check(name, (clause,), profile, "MUST", dtype, "", lambda session: judge(session, questions, part))


def wanted(question: Question, part: str) -> tuple[str, ...]:
    return ("loss",) if part == "loss" else question.arrays


def judge_each(
    session: Session,
    questions: Sequence[Question],
    part: str,
    complain: Callable[[Question, str, Any], str],
) -> Outcome:
    """Pass if `complain` finds nothing wrong with any output of any question."""
    looked_at = 0
    for question in questions:
        reply = session.ask(question.problem, wanted(question, part))
        failed = trouble(reply)
        if failed is not None:
            return failed
        for output in wanted(question, part):
            data = reply["loss"] if output == "loss" else reply.get("grad", {}).get(output)
            if data is None:
                continue
            looked_at += 1
            complaint = complain(question, output, data)
            if complaint:
                return Outcome("fail", f"{complaint} ({question.id})", output=output, reply=reply)
    if not looked_at:
        return Outcome("n/a", "the target returns no gradient")
    return Outcome("pass")


def judge_shapes(session: Session, questions: Sequence[Question], part: str) -> Outcome:
    def complain(question: Question, output: str, data: Any) -> str:
        shape = tuple(data.get("shape", ())) if isinstance(data, Mapping) else None
        expected = question.shapes[output]
        return "" if shape == expected else f"{output} has shape {shape}, where {expected} is expected"

    return judge_each(session, questions, part, complain)


def judge_dtypes(session: Session, questions: Sequence[Question], part: str) -> Outcome:
    def complain(question: Question, output: str, data: Any) -> str:
        dtype = data.get("dtype") if isinstance(data, Mapping) else None
        expected = FORMATS[question.dtype].compute if output == "loss" else question.dtype
        return "" if dtype == expected else f"{output} is of dtype {dtype}, where {expected} is expected"

    return judge_each(session, questions[:2], part, complain)


def judge_pure(session: Session, questions: Sequence[Question], part: str) -> Outcome:
    """With gradients wanted or not: some in-place code runs in one of the two only."""
    for question in questions:
        for want in (("loss",), question.arrays):
            reply = session.ask(question.problem, want)
            failed = trouble(reply)
            if failed is not None:
                return failed
            for key, words in (("changed", "the call changed"), ("shared", "the result shares memory with")):
                if reply.get(key):
                    names = ", ".join(map(str, reply[key]))
                    return Outcome("fail", f"{words} {names} ({question.id})", reply=reply)
    return Outcome("pass")


def judge_repetition(session: Session, questions: Sequence[Question], part: str) -> Outcome:
    """The same call again, after another one and at once: the same answer, or one that rounding alone explains."""
    question, other = questions
    want = ("loss", *question.arrays)
    first = session.ask(question.problem, want)
    session.ask(other.problem, want)
    later = [session.ask(question.problem, want) for _ in range(2)]
    for reply in (first, *later):
        failed = trouble(reply)
        if failed is not None:
            return failed
    for reply in later:
        for output in want:
            a, b = (r["loss"] if output == "loss" else r.get("grad", {}).get(output) for r in (first, reply))
            if a != b and not explained(question, output, a, b):
                reason = f"{output} differs when asked again ({question.id})"
                return Outcome("fail", reason, output=output, reply=reply)
    return Outcome("pass")


def explained(question: Question, output: str, first: Any, second: Any) -> bool:
    """Whether two answers are within one bound of each other: sums in another order, as some devices run them."""
    try:
        (_, one), (_, other) = unpack(first), unpack(second)
    except ValueError:
        return False
    radii = question.find().radii("bound", output)
    return radii is not None and one.shape == other.shape and measure(one, other, radii).r <= 1.0


# --- large batches, and spread ones --------------------------------------------------------------------------------


def scale(loss: str, seed: int) -> Iterator[Check]:
    """The large problems' checks, and those of memory."""
    for question in large_questions(loss, seed):
        yield from checks_of(question, ())
    for question, matrix in watched_questions(loss, seed):
        yield memory(question, matrix)


def memory(question: Question, matrix: int) -> Check:
    """The check that a call takes less than `matrix` bytes; its loss is looked at too, or nothing would do best."""
    outputs = ("loss", *question.arrays)

    def judge(session: Session) -> Outcome:
        session.ask(question.problem, outputs)  # what happens only once, compilation above all, isn't meant
        reply = session.ask(question.problem, outputs, watch=True)
        failed = trouble(reply)
        if failed is not None:
            return failed
        if "memory" not in reply:
            return Outcome("n/a", "this system doesn't tell how much memory a process has", reply=reply)
        found = measured(session, question, "loss", reply["loss"], "bound")
        if found.r > 1.0:
            return Outcome("fail", found.reason, found, "loss", reply=reply)
        taken = f"{reply['memory'] / 2**20:.0f} MiB, where a matrix of all scores takes {matrix / 2**20:.0f}"
        return Outcome("pass" if reply["memory"] < matrix else "fail", taken, reply=reply)

    name = f"{question.id}/{question.dtype}/memory"
    return Check(name, ("call.memory",), "scale", "SHOULD", question.dtype, question.note, judge)


def spread(loss: str, seed: int) -> Iterator[Check]:
    """Every batch over processes, each of its outputs."""
    for batch in distributed.batches(loss, seed):
        for part, outputs in distributed.output_groups(batch):
            yield over_processes(batch, part, outputs)


def over_processes(batch: distributed.Batch, part: str, outputs: tuple[str, ...]) -> Check:
    """The check that what the processes return together is the whole batch's."""
    clause = "distributed.loss" if part == "loss" else "distributed.gradient"

    def judge(session: Session) -> Outcome:
        shards = [batch.shard(rank).to_json() for rank in range(PROCESSES)]
        replies = session.ask_all(shards, outputs, as_array=part in SCALARS)
        for reply in sorted(replies, key=rank_of_trouble):
            failed = trouble(reply)
            if failed is not None:
                return failed
            if part != "loss" and not {*outputs} <= {*reply.get("grad", {})}:
                return Outcome("n/a", f"the target returns no gradient of {', '.join(outputs)}", reply=reply)
        measures = {output: distributed.measured(batch, output, replies) for output in outputs}
        output, worst = max(measures.items(), key=lambda item: item[1].r)
        return Outcome("pass" if worst.r <= 1.0 else "fail", worst.reason, worst, output, reply=replies[0])

    note = f"{PROCESSES} processes of {distributed.SHARD} rows each; the numbers are their sums, before the average"
    dtype = batch.problem.dtype
    return Check(f"{batch.id}/{dtype}/{part}", (clause,), "distributed", "MUST", dtype, note, judge)

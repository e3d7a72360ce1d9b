"""The suite's verdict on PyPI's info-nce-pytorch 0.1.4: the facts known of it by measurement, and nothing else."""

from __future__ import annotations

import math

import pytest

from infonce_ref.conformance.adapters.wire import unpack
from infonce_ref.conformance.results import Report, Result
from infonce_ref.conformance.run import check_loss

pytest.importorskip("torch")
pytest.importorskip("info_nce")


@pytest.fixture(scope="module")
def report() -> Report:
    """Everything asked of it; shared negatives are how it reads explicit ones."""
    return check_loss("info_nce:InfoNCE", framework="torch", reading="shared", profile="all")


def the(report: Report, name: str) -> Result:
    """The one result whose check's id begins like this and ends like that: "slug/dtype/part"."""
    slug, rest = name.split("/", 1)
    found = [r for r in report.results if r.check.id.startswith(slug + "#") and r.check.id.endswith("/" + rest)]
    assert len(found) == 1
    return found[0]


def test_exit_codes(report: Report) -> None:
    """0 where core and grad are required, 1 where everything is."""
    assert report.exit_code == 1
    assert check_loss("info_nce:InfoNCE", framework="torch", reading="shared").exit_code == 0


@pytest.mark.parametrize("profile", ["core", "grad", "temperature-grad", "negatives", "variants"])
def test_right_on_ordinary_input(report: Report, profile: str) -> None:
    """Value and gradients conform with room to spare, in both dtypes, shared negatives included."""
    ran = [r for r in report.of(profile) if r.ran]
    assert {r.check.dtype for r in ran} == {"float64", "float32"}
    assert not any(r.failed for r in ran)
    assert max(r.r for r in ran if r.r is not None) < 0.5


def test_low_temperatures_are_no_problem(report: Report) -> None:
    """At a temperature of 0.001 nothing is NaN: loss and gradients conform."""
    for dtype in ("float64", "float32"):
        for part in ("loss", "grad", "temperature"):
            assert the(report, f"info_nce.sharp.few.1e-3/{dtype}/{part}").status == "pass"


def test_clauses_that_fail(report: Report) -> None:
    """The verdict names these clauses and no other."""
    blame = report.blame()
    assert {clause for r in report.failures() for clause in blame[r.check.id]} == {
        "similarity.cosine.zero", "similarity.cosine.scale", "scale.temperature.domain", "input.shape",
        "dtype.half", "dtype.result", "precise.loss", "precise.gradient",
    }  # fmt: skip


def test_zero_row(report: Report) -> None:
    """A zero row's loss is right and its gradient about 1e12, for the norm has a floor of 1e-12."""
    assert the(report, "info_nce.zero-rows.query/float32/loss").status == "pass"
    result = the(report, "info_nce.zero-rows.query/float32/grad")
    assert result.status == "fail"
    largest = abs(unpack(result.record()["raw"][0]["grad"]["query"])[1]).max()
    assert 1e10 < largest < 1e13


def test_norms_of_1e20_in_float32(report: Report) -> None:
    """The squares overflow: every cosine is 0, the loss is log N and the gradient 0."""
    result = the(report, "info_nce.extreme-norms.1e20/float32/grad")
    assert result.status == "fail"
    raw = result.record()["raw"][0]
    query = unpack(raw["grad"]["query"])[1]
    assert float(unpack(raw["loss"])[1]) == pytest.approx(math.log(len(query)), rel=1e-6)
    assert (query == 0).all()


def test_negative_temperature(report: Report) -> None:
    """A temperature below 0 is accepted and gives a number."""
    result = the(report, "info_nce.errors.temperature.negative/float32/refused")
    assert result.status == "fail"
    assert "accepted" in result.outcome.reason

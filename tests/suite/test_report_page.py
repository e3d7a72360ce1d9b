"""The page in a headless Chromium: what a reader sees, types and presses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from infonce_ref.conformance.clauses import sentences
from infonce_ref.conformance.report.html import page as made
from infonce_ref.conformance.report.model import Run, from_lines
from tests.suite import reports
from tests.suite.browser import axe, chromium

Open = Callable[..., Any]
WIDE, NARROW = (1280, 900), (390, 800)
SHOWN = "#groups .check"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The pages that are looked at, as files."""
    folder = tmp_path_factory.mktemp("pages")
    kinds: dict[str, Callable[[], list[Run]]] = {
        "both": lambda: list(reports.runs()),
        "wrong": lambda: [reports.runs()[1]],
        "statuses": lambda: [reports.of_each_status()],
        "hostile": lambda: [reports.hostile(), reports.of_each_status()],
        "many": lambda: 4 * [reports.runs()[0]],
    }

    def written(kind: str) -> Path:
        path = folder / f"{kind}.html"
        if not path.exists():
            path.write_text(made(kinds[kind]()), encoding="utf-8")
        return path

    return written


@pytest.fixture
def open_page(browser: Any, pages: Callable[[str], Path]) -> Iterator[Open]:
    """Open a page; afterwards nothing was asked of a network, and nothing was complained of."""
    contexts, complaints, asked = [], [], []

    def opened(kind: str = "both", hash_: str = "", size: tuple[int, int] = WIDE, **options: Any) -> Any:
        width, height = size
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(pages(kind).as_uri() + hash_)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []


def found(page: Any) -> int:
    """The number of checks that the page says fit."""
    return int(page.inner_text("#found").split()[0].replace(",", ""))


def until(page: Any, so: Callable[[], bool]) -> None:
    """Wait, five seconds at most; the page's policy forbids what Playwright would wait with."""
    for _ in range(100):
        if so():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never came to be so")


def ids(page: Any) -> list[str]:
    return [text.replace("\n", "") for text in page.locator(f"{SHOWN} .id").all_inner_texts()]


def lines(*statuses: str) -> list[Any]:
    """The result lines of both runs that have one of these statuses."""
    return [line for run in reports.runs() for line in run.results if line["status"] in statuses]


def failing() -> Any:
    return next(line for line in reports.runs()[1].results if line["status"] == "fail")


# --- what is there at first ----------------------------------------------------------------------------------------


def test_everything_is_counted(open_page: Open) -> None:
    """All checks at first, each status with its number, a row for each clause, a column for each implementation."""
    page = open_page()
    assert found(page) == sum(len(run.results) for run in reports.runs())
    told = dict(zip(page.locator("#statuses input").evaluate_all("all => all.map(x => x.value)"),
                    page.locator("#statuses b").all_inner_texts(), strict=True))  # fmt: skip
    assert {name: int(count.replace(",", "")) for name, count in told.items()} == {
        name: len(lines(name)) for name in told
    }
    clauses = {clause for line in lines("pass", "fail", "n/a") for clause in line["clauses"]}
    assert page.locator("#matrix tbody tr:not(.stage)").count() == len(clauses)
    assert page.locator("#matrix thead th").count() == 3


def test_the_matrix_says_what_the_report_says(open_page: Open) -> None:
    """Passed and asked, by clause and implementation, over all profiles."""
    page = open_page()
    for i, run in enumerate(reports.runs()):
        expected: dict[str, list[int]] = {}
        for profile in run.report.profiles:
            for clause, score in run.report.scores(profile).items():
                entry = expected.setdefault(clause, [0, 0])
                entry[0] += score.passed
                entry[1] += score.total
        cells = page.locator(f"#matrix tbody tr:not(.stage) td:nth-of-type({i + 1}) .cell > span:nth-child(2)")
        slugs = page.locator("#matrix tbody .slug").all_inner_texts()
        shown = dict(zip(slugs, cells.all_inner_texts(), strict=True))
        assert {clause: text for clause, text in shown.items() if text} == {
            clause: f"{passed}/{total}" for clause, (passed, total) in expected.items()
        }


def test_bars_tell_r_on_a_logarithmic_scale(open_page: Open) -> None:
    """0.25 lies below the middle, where the bound is; 3 and 250 beyond it, by their logarithms."""
    page = open_page("statuses")
    widths = {}
    for r in ("0.25", "3", "250"):
        row = page.locator(SHOWN).filter(has=page.locator(".r", has_text=r)).last
        widths[r] = row.locator(".bar i").first.evaluate("x => parseFloat(x.style.width)")
    assert widths["0.25"] == pytest.approx(100 * (3 - 0.60206) / 6, abs=0.1)
    assert widths["3"] == pytest.approx(100 * (3 + 0.47712) / 6, abs=0.1)
    assert widths["250"] == pytest.approx(100 * (3 + 2.39794) / 6, abs=0.1)


def test_without_its_script_the_page_says_what_it_can(open_page: Open) -> None:
    """The summary is markup; the rest says why it isn't there."""
    page = open_page(java_script_enabled=False)
    assert "does not conform" in page.inner_text(".summary")
    assert "needs this page's script" in page.inner_text("noscript") or page.is_visible(".notice")
    assert not page.is_visible("#app")


# --- filters -------------------------------------------------------------------------------------------------------


def test_filter_by_status(open_page: Open) -> None:
    """Only the failing ones; together with another status, both."""
    page = open_page()
    page.check("#statuses [value=fail]")
    assert found(page) == len(lines("fail"))
    assert {*page.locator(f"{SHOWN} summary .mark").all_inner_texts()} == {"✗ fail"}
    page.check("#statuses [value='n/a']")
    assert found(page) == len(lines("fail", "n/a"))


def test_filter_by_implementation(open_page: Open) -> None:
    """Its checks and its column."""
    page = open_page()
    page.select_option("#run", label="implementations:doubled")
    assert found(page) == len(reports.runs()[1].results)
    assert page.locator("#matrix thead th:visible").count() == 2
    assert {*page.locator(f"{SHOWN} .name").all_inner_texts()} == {"implementations:doubled"}


def test_filter_by_clause(open_page: Open) -> None:
    """Its row, its checks, and its sentence in full."""
    page = open_page()
    page.select_option("#clause", "reduction.mean")
    assert page.locator("#matrix tbody tr:not(.stage):visible .slug").all_inner_texts() == ["reduction.mean"]
    expected = [
        line["id"]
        for run in reports.runs()
        for line in run.results
        if "reduction.mean" in run.blame.get(line["id"], tuple(line["clauses"]))
    ]
    assert found(page) == len(expected)
    assert sentences()["reduction.mean"].replace("`", "") in page.inner_text("#sentence")


def test_filter_by_profile_and_dtype(open_page: Open) -> None:
    """What both ask for."""
    page = open_page()
    page.select_option("#profile", "core")
    page.select_option("#dtype", "float32")
    everything = lines("pass", "fail", "n/a")
    assert found(page) == sum(line["profile"] == "core" and line["dtype"] == "float32" for line in everything)
    page.select_option("#profile", "required")
    assert found(page) == sum(
        run.required(line) and line["dtype"] == "float32" for run in reports.runs() for line in run.results
    )


def test_filter_by_words(open_page: Open) -> None:
    """Every word must occur, in any order, in the id, the reason, the diagnosis or the clauses."""
    page = open_page()
    page.fill("#q", "TWICE the benign.plain")
    expected = [line["id"] for line in lines("fail") if "benign.plain" in line["id"]]
    until(page, lambda: found(page) == len(expected))
    assert {*ids(page)} <= {*expected}
    page.fill("#q", "no check is called so")
    page.wait_for_selector("#no-checks", state="visible")
    assert page.is_visible("#no-clauses")
    page.click("#reset")
    page.wait_for_selector("#no-checks", state="hidden")
    assert found(page) == sum(len(run.results) for run in reports.runs())


def test_a_cell_shows_its_checks_and_again_all(open_page: Open) -> None:
    """Clause and implementation at once."""
    page = open_page()
    cell = (
        page.locator("#matrix tr:not(.stage)", has=page.get_by_text("reduction.sum", exact=True))
        .locator("td button")
        .first
    )
    everything = found(page)
    cell.click()
    assert page.input_value("#clause") == "reduction.sum"
    assert page.input_value("#run") == "0"
    assert cell.get_attribute("aria-pressed") == "true"
    assert 0 < found(page) < everything
    cell.click()
    assert found(page) == everything


def test_the_address_keeps_the_filters(open_page: Open) -> None:
    """A copied address shows the same; a new hash is followed."""
    page = open_page()
    page.select_option("#clause", "reduction.mean")
    page.check("#statuses [value=fail]")
    page.locator(f"{SHOWN} summary").first.click()
    until(page, lambda: "open=" in page.url)
    address = page.evaluate("location.hash")
    again = open_page(hash_=address)
    assert found(again) == found(page)
    assert again.input_value("#clause") == "reduction.mean"
    assert again.is_checked("#statuses [value=fail]")
    assert again.locator(f"{SHOWN}[open] .id").inner_text() == page.locator(f"{SHOWN}[open] .id").inner_text()
    again.evaluate("location.hash = '#dtype=float64'")
    until(again, lambda: again.input_value("#dtype") == "float64")
    assert again.input_value("#clause") == ""


def test_an_address_of_nothing_does_no_harm(open_page: Open) -> None:
    """A clause that there isn't filters nothing."""
    page = open_page(hash_="#clause=no.such&run=99&status=splendid&open=7:x")
    assert found(page) == sum(len(run.results) for run in reports.runs())


def test_thousands_of_checks_are_filtered_at_once(open_page: Open) -> None:
    """Well under a second, on a busy machine too."""
    page = open_page("many")
    assert found(page) > 4000
    seconds = page.evaluate(
        """() => { const begun = performance.now(), q = document.querySelector('#profile');
        q.value = 'core'; q.dispatchEvent(new Event('input', {bubbles: true})); document.body.offsetHeight;
        return (performance.now() - begun) / 1000; }"""
    )
    assert seconds < 1
    assert page.locator(SHOWN).count() <= 8


def test_more_are_shown_when_asked_for(open_page: Open) -> None:
    """And the focus goes to the first of the new ones."""
    page = open_page("wrong")
    page.check("#statuses [value=pass]")
    before = page.locator(SHOWN).count()
    page.locator(".more:visible").first.click()
    assert page.locator(SHOWN).count() == found(page)
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert page.evaluate("[...document.querySelectorAll('.check summary')].indexOf(document.activeElement)") == before


# --- a failing check -----------------------------------------------------------------------------------------------


def unfolded(page: Any, line: Any) -> Any:
    page.fill("#q", line["id"])
    row = page.locator(SHOWN, has=page.locator(".mark", has_text=line["status"])).first
    until(page, lambda: found(page) == len(reports.runs()))
    row.locator("summary").click()
    body = row.locator(".body")
    body.wait_for()
    return body


def test_a_failing_check_tells_everything(open_page: Open) -> None:
    """Clause, expected, got, bound, r, diagnosis, the command to rerun it, and a script that shows it."""
    page, run, line = open_page(), reports.runs()[1], failing()
    body = unfolded(page, line)
    text = body.inner_text()
    for clause, sentence in run.sentences(line)[:3]:
        assert clause in text
        assert sentence.replace("`", "") in text
    for key in ("expected", "got", "bound"):
        assert line["worst"][key] in text
    assert "equal twice the loss" in body.locator(".diagnosis").inner_text()
    command, script = body.locator("pre").all_inner_texts()
    assert command == run.again(line)
    expected = run.reproducer.script(line)
    assert expected is not None
    assert script == expected.rstrip("\n")


def test_a_script_can_be_copied(open_page: Open) -> None:
    """The clipboard holds it; the button says so."""
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    line = failing()
    body = unfolded(page, line)
    button = body.locator(".code button").last
    button.click()
    until(page, lambda: button.inner_text() == "Copied")
    assert page.evaluate("navigator.clipboard.readText()") == body.locator("pre").last.inner_text()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("error", "raised ValueError: no"),
        ("timeout", "no answer within 20 s"),
        ("xfail", "it is known"),
        ("xpass", "it was known"),
        ("n/a", "not declared"),
        ("pass", "0.25"),
    ],
)
def test_every_status_unfolds(status: str, words: str, open_page: Open) -> None:
    """To its reason, or what is known of it."""
    page = open_page("statuses")
    page.check(f"#statuses [value='{status}']")
    row = page.locator(SHOWN).first
    row.locator("summary").click()
    assert words in row.locator(".body").inner_text()


# --- keyboard ------------------------------------------------------------------------------------------------------


def test_slash_goes_to_the_filter(open_page: Open) -> None:
    """From anywhere but a field, where it is a character."""
    page = open_page()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("a/b")
    assert page.input_value("#q") == "a/b"


def test_arrow_keys_move_about_the_matrix(open_page: Open) -> None:
    """One stop of the Tab key; arrows, Home and End inside, over hidden rows; Enter chooses."""
    page = open_page()
    page.focus("#matrix button[tabindex='0']")
    rows = "[...document.querySelectorAll('#matrix tbody tr:not(.stage)')]"
    where = f"{rows}.map(row => [...row.querySelectorAll('button')].indexOf(document.activeElement))"

    def cell() -> tuple[int, int]:
        return next((y, x) for y, x in enumerate(page.evaluate(where)) if x >= 0)

    moves = [("ArrowDown", (1, 0)), ("ArrowRight", (1, 1)), ("ArrowRight", (1, 2)), ("ArrowRight", (1, 2))]
    moves += [("ArrowUp", (0, 2))]
    for press, to in [*moves, ("ArrowUp", (0, 2)), ("Home", (0, 0)), ("End", (0, 2)), ("ArrowLeft", (0, 1))]:
        page.keyboard.press(press)
        assert cell() == to, press
    assert page.locator("#matrix button[tabindex='0']").count() == 1
    page.keyboard.press("Control+End")
    assert cell()[0] == page.locator("#matrix tbody tr:not(.stage)").count() - 1
    page.keyboard.press("Enter")
    assert page.input_value("#clause") != ""


def test_the_tab_key_reaches_everything_and_shows_where_it_is(open_page: Open) -> None:
    """Every control in turn, each with a visible outline."""
    page = open_page("statuses")
    page.locator(f"{SHOWN} summary").first.click()
    until(page, lambda: "open=" in page.url)
    page.reload()  # from the top, with that check unfolded
    seen = []
    for _ in range(80):
        page.keyboard.press("Tab")
        tag, name, outline = page.evaluate(
            """() => { const x = document.activeElement, s = getComputedStyle(x.closest('#statuses label') || x);
            const ring = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0;
            return [x.tagName, x.id || x.value || x.className, ring]; }"""
        )
        if tag == "BODY":
            break
        seen.append((tag, name))
        assert outline, (tag, name)
    tags = [tag for tag, _ in seen]
    assert tags.count("SELECT") == 3
    assert {"theme", "q", "clause", "profile", "dtype", "fail", "pass", "reset"} <= {name for _, name in seen} | {
        "reset"
    }
    assert tags.count("SUMMARY") == 1 + page.locator(SHOWN).count()
    assert tags.count("PRE") >= 1


def test_a_check_unfolds_by_the_keyboard(open_page: Open) -> None:
    """Enter on its line."""
    page = open_page("statuses")
    page.locator(f"{SHOWN} summary").first.focus()
    page.keyboard.press("Enter")
    page.locator(f"{SHOWN}[open] .body").wait_for()


# --- how it looks --------------------------------------------------------------------------------------------------

PAPER = "getComputedStyle(document.body).backgroundColor"


def luminance(page: Any) -> float:
    red, green, blue = (int(x) for x in page.evaluate(PAPER).removeprefix("rgb(").removesuffix(")").split(","))
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def test_dark_and_light_follow_the_system_and_the_button(open_page: Open) -> None:
    """Auto, light, dark, and back; a page that is opened again remembers."""
    page = open_page(color_scheme="light")
    assert luminance(page) > 0.9
    page.click("#theme")
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: dark"
    assert luminance(page) < 0.1
    page = open_page(color_scheme="dark")
    assert luminance(page) < 0.1
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: light"
    assert luminance(page) > 0.9
    page.reload()
    assert luminance(page) > 0.9
    page.click("#theme")
    assert luminance(page) < 0.1
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: auto"


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_summary_says_what_the_mistake_is(size: tuple[int, int], open_page: Open) -> None:
    """The diagnosis of the run that has one, under its name and before any check."""
    page = open_page(size=size)
    (found,) = page.locator(".summary .diagnosis").all_inner_texts()
    says = reports.runs()[1].diagnosis
    assert "'twice the loss'" in says[0]
    assert found.split("\n")[0] == "Diagnosis of implementations:doubled"
    assert all(sentence in found for sentence in says)
    assert open_page("statuses").locator(".summary .diagnosis").count() == 0


def test_a_narrow_summary_needs_no_scrolling(open_page: Open) -> None:
    """Each number stands under the last with its name, wholly in sight."""
    page = open_page(size=NARROW)
    cells = page.locator(".summary tbody td")
    assert cells.count() == 10
    for cell in cells.all():
        box = cell.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= NARROW[0]
    table = page.locator(".summary .scroll")
    assert table.evaluate("e => e.scrollWidth <= e.clientWidth")
    assert cells.nth(2).evaluate("e => getComputedStyle(e, '::before').content").startswith('"Its clauses met"')


@pytest.mark.parametrize("size", [WIDE, (800, 900), NARROW, (320, 700)])
@pytest.mark.parametrize("kind", ["both", "hostile"])
def test_nothing_runs_over_the_side(kind: str, size: tuple[int, int], open_page: Open) -> None:
    """At no width, with a check unfolded; wide tables scroll by themselves."""
    page = open_page(kind, size=size)
    page.locator(f"{SHOWN} summary").first.click()
    page.locator(f"{SHOWN} .body").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_printed_there_are_no_controls(open_page: Open) -> None:
    """Dark ink on white, nothing to click."""
    page = open_page(color_scheme="dark")
    page.locator(f"{SHOWN} summary").first.click()
    page.emulate_media(media="print")
    assert not page.is_visible(".filters")
    assert not page.is_visible("#theme")
    assert luminance(page) > 0.9 or page.evaluate(PAPER) == "rgba(0, 0, 0, 0)"
    assert page.locator(f"{SHOWN} .body").first.is_visible()


# --- for everyone --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["both", "wrong", "statuses", "hostile"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_axe_finds_nothing(kind: str, scheme: str, size: tuple[int, int], open_page: Open) -> None:
    """WCAG 2.2 A and AA and axe's good practice, contrast too, with a check unfolded and all statuses in sight."""
    page = open_page(kind, size=size, color_scheme=scheme, bypass_csp=True)
    page.locator(f"{SHOWN} summary").first.click()
    page.locator(f"{SHOWN} .body").first.wait_for()
    page.evaluate(axe())
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    result = page.evaluate("tags => axe.run(document, {runOnly: tags})", tags)
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]][:3]) for v in result["violations"]] == []
    assert len(result["passes"]) > 20


def test_axe_sees_poor_contrast(open_page: Open) -> None:
    """The test above isn't one that finds nothing anywhere."""
    page = open_page("statuses", bypass_csp=True)
    page.evaluate("document.documentElement.style.setProperty('--muted', '#c8c8c8')")
    page.evaluate(axe())
    result = page.evaluate("axe.run()")
    assert "color-contrast" in {violation["id"] for violation in result["violations"]}


def test_a_reader_of_screens_is_told_what_changed(open_page: Open) -> None:
    """Landmarks, a live region with the counts, tables whose headers have a scope; no status by its colour alone."""
    page = open_page()
    for role in ("banner", "main", "search", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    assert page.get_attribute("#found", "aria-live") == "polite"
    assert page.locator("th:not([scope])").count() == 0
    cell = page.locator("#matrix td[data-kind=fail] button").first
    assert "passed" in cell.evaluate("x => x.textContent")
    assert cell.locator(".mark").inner_text() == "✗"
    assert all(len(text.split()) == 2 for text in page.locator(f"{SHOWN} summary .mark").all_inner_texts())


# --- hostile reports -----------------------------------------------------------------------------------------------


def test_hostile_text_is_text(open_page: Open) -> None:
    """Names, messages and numbers that look like markup are shown as they are, and nothing of them runs."""
    page = open_page("hostile")
    for row in page.locator(SHOWN).all():
        row.locator("summary").click()
    assert page.evaluate("window.owned") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert page.locator("#groups a, #groups b b, #matrix img").count() == 0
    shown = page.inner_text("body")
    for text in reports.EVIL[:4]:
        assert text in shown
    assert "\u202e" not in shown
    assert "␛[31m" in shown


def test_the_policy_stops_a_script_that_would_get_in(open_page: Open, tmp_path: Path, browser: Any) -> None:
    """Should markup slip through all the same, it doesn't run and loads nothing."""
    text = made([from_lines(reports.lines_of(reports.wrong()))])
    path = tmp_path / "broken.html"
    path.write_text(text.replace("<main>", "<main><script>window.owned = 1</script><img src='http://127.0.0.1:9/x'>"))
    page = browser.new_page()
    asked: list[str] = []
    page.on("response", lambda response: asked.append(unquote(response.url)))
    page.goto(path.as_uri())
    assert page.evaluate("window.owned") is None
    assert not [url for url in asked if url.startswith("http")]
    page.close()

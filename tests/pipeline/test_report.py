"""The report page: the verdict on top, the numbers below, nothing that a content policy or a stage's text
could break."""

from __future__ import annotations

import functools
import math
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlops.pipeline.plot import plot_of
from mlops.pipeline.report import number, rendered, write_report
from mlops.pipeline.results import Answer, Check, StageResult, Status
from mlops.pipeline.run import RunResult

JENKINS_POLICY = "sandbox allow-same-origin; default-src 'none'; img-src 'self'; style-src 'self';"

COLUMNS = ["seconds", "weight", "candidate_requests", "candidate_errors", "for_it", "against_it"]
SERIES = {
    "columns": COLUMNS,
    "rows": [[0, 0.1, 0, 0, 0, 0], [10, 0.5, 1200, 3, 0.5, 0.1], [20, 1, 4200, 5, 1, 2]],
}
COMPARED = {
    "metric": "auc",
    "candidate": 0.75213,
    "champion": 0.7374,
    "gain": 0.0147,
    "lower": 0.0101,
    "upper": None,
    "verdict": "as_good",
}


def a_run(**given: Any) -> RunResult:
    auc = Check(
        name="auc",
        answer=Answer.PASSED,
        message="better",
        measured=0.75213,
        threshold=0.727,
        evidence=COMPARED,
    )
    note = Check(
        name="rows", answer=Answer.FAILED, message="12 rows twice", gate=False, measured=12, unit="rows"
    )
    stages = (
        StageResult(
            stage="train",
            status=Status.CACHED,
            summary="trained",
            facts={
                "train_digest": "ab" * 32,
                "flavors": ["sklearn", "python_function"],
                "empty": "",
                "many": [1] * 20,
            },
        ),
        StageResult(
            stage="evaluate", status=Status.PASSED, summary="as good", checks=(auc, note), seconds=12.0
        ),
        StageResult(
            stage="rollout",
            status=Status.PASSED,
            summary="serves",
            seconds=130.0,
            facts={"evidence": {"series": SERIES}},
        ),
    )
    fields: dict[str, Any] = {
        "model": "flight-delay",
        "run": "a1b2" * 8,
        "status": Status.PASSED,
        "sentence": "flight-delay: passed: version 2 serves",
        "exit_code": 0,
        "started": "2026-11-24T20:51:14+00:00",
        "seconds": 52.3,
        "stages": stages,
        "saved_seconds": {"train": 34.2},
        "outputs": {"train": "77" * 32},
        "commit": "f00d" * 10,
        "environment": "production",
        "runner": "0.1.0",
    }
    return RunResult(**{**fields, **given})


def failed_run() -> RunResult:
    gate = Check(
        name="auc", answer=Answer.FAILED, message="AUC 0.701 is too low", measured=0.701, remedy="newer data"
    )
    stage = StageResult(stage="evaluate", status=Status.FAILED, summary="worse", checks=(gate,))
    return a_run(
        status=Status.FAILED,
        exit_code=1,
        sentence="flight-delay: not released",
        stages=(stage,),
        not_run={"rollout": "the run ended with evaluate: failed"},
        error={"remedy": "newer data", "where": "evaluate/auc", "expected": "", "found": "0.701"},
    )


class Page(HTMLParser):
    """Collects the text, the tags and the attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += " " + data


def test_the_verdict_is_on_top_and_the_numbers_below() -> None:
    page = Page(rendered(a_run()))
    assert page.tags.index("h1") < page.tags.index("h2")
    for part in (
        "flight-delay: passed: version 2 serves",
        "2026-11-24 20:51:14 UTC",
        "environment production",
        "mlops rollback flight-delay",
        "auc 0.7521 0.7374 0.0147 0.0101 to – as good",
        "The candidate answered 4,200 requests, 5 of them with an error.",
        "train cached 0.0 s trained (kept result, saved 34.2 s)",
        "2.2 min",
        "note: failed 12 rows",
        "ab" * 32,
        "sklearn, python_function",
        "1, …",
        "77" * 32,
        "f00d" * 10,
    ):
        assert part in page.text
    assert "series" not in page.text


def test_a_failed_run_says_what_to_do_first() -> None:
    text = Page(rendered(failed_run())).text
    assert text.index("flight-delay: not released") < text.index("What to do") < text.index("newer data")
    assert "rollout not run the run ended with evaluate: failed" in text
    assert "mlops rollback" not in text
    assert "expected" not in text


@pytest.mark.parametrize(
    ("code", "tone"), [(0, "good"), (1, "bad"), (2, "bad"), (3, "unknown"), (5, "unknown")]
)
def test_the_verdict_has_its_colour(code: int, tone: str) -> None:
    assert f'<header class="{tone}">' in rendered(a_run(exit_code=code))


def test_a_run_without_a_stage_has_a_page(tmp_path: Path) -> None:
    page = write_report(a_run(stages=(), saved_seconds={}, outputs={}, commit="", environment=""), tmp_path)
    assert page.read_text().startswith("<!doctype html>")
    assert (tmp_path / "style.css").exists()


HOSTILE = "<script>alert(1)</script>\"' onload=x style='color:red' {{ 7*7 }}"


def test_nothing_that_a_stage_writes_becomes_markup() -> None:
    check = Check(
        name=HOSTILE, answer=Answer.FAILED, message=HOSTILE, measured=HOSTILE, remedy=HOSTILE, unit=HOSTILE
    )
    stage = StageResult(
        stage=HOSTILE,
        status=Status.FAILED,
        summary=HOSTILE,
        checks=(check,),
        facts={HOSTILE: {HOSTILE: HOSTILE}, "c": {**COMPARED, "metric": HOSTILE, "verdict": HOSTILE}},
    )
    error = {"remedy": HOSTILE, "where": HOSTILE, "expected": HOSTILE, "found": HOSTILE}
    run = a_run(
        model=HOSTILE,
        sentence=HOSTILE,
        stages=(stage,),
        error=error,
        commit=HOSTILE,
        outputs={HOSTILE: HOSTILE},
    )
    page = Page(rendered(run))
    assert set(page.tags) == set(Page(rendered(a_run())).tags) - {"polyline", "line", "g", "text"} | {
        "dl",
        "dt",
        "dd",
        "br",
        "strong",
    }
    assert "{{ 7*7 }}" in page.text


@pytest.mark.parametrize("run", [a_run(), failed_run()])
def test_the_page_needs_nothing_that_jenkins_policy_forbids(run: RunResult) -> None:
    page = Page(rendered(run))
    assert not {"script", "style", "img", "iframe"} & set(page.tags)
    assert not [name for name in page.attributes if name == "style" or name.startswith("on")]
    assert set(page.links) == {"style.css", "../run.json"}


def test_two_records_are_compared_measure_by_measure() -> None:
    facts = {
        "candidate": {"p50_ms": 17.5, "name": "x"},
        "champion": {"p50_ms": 16.2, "p99_ms": 1.0},
        "hardware": {"cores": 2},
    }
    run = a_run(stages=(StageResult(stage="benchmark", status=Status.PASSED, summary="", facts=facts),))
    text = Page(rendered(run)).text
    assert "benchmark p50_ms 17.5 16.2" in text
    assert "p99_ms" not in text


def test_comparisons_are_told_once() -> None:
    twice = StageResult(
        stage="evaluate", status=Status.PASSED, summary="", facts={"a": COMPARED, "b": [COMPARED]}
    )
    assert Page(rendered(a_run(stages=(twice,)))).text.count("0.0101 to –") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.123456, "0.1235"),
        (1234567, "1,234,567"),
        (41336.4, "41,336"),
        ("a", "a"),
        (True, "True"),
    ],
)
def test_numbers_are_for_people(value: Any, text: str) -> None:
    assert number(value) == text


def test_the_plot_stays_in_its_box() -> None:
    plot = plot_of(SERIES)
    assert plot is not None
    assert plot.weight == "0.0,144.0 320.0,144.0 320.0,80.0 640.0,80.0 640.0,0.0 640.0,0.0"
    assert plot.against_it.endswith("640.0,0.0")
    assert (plot.seconds, plot.requests, plot.errors) == (20.0, 4200, 5)


@pytest.mark.parametrize(
    "series",
    [{}, {"columns": COLUMNS, "rows": []}, {"columns": ["a"], "rows": [[1], [2]]}, {"columns": 1, "rows": 2}],
)
def test_what_is_no_series_has_no_plot(series: dict[str, Any]) -> None:
    assert plot_of(series) is None


# --- in a real browser
# ------------------------------------------------------------------------------------------------


class _UnderPolicy(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", JENKINS_POLICY)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, served on loopback under the policy that Jenkins sends with published pages."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_UnderPolicy, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _shot(url: str, folder: Path) -> tuple[Any, str]:
    """Return the picture of a page and what the browser complained of."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("NOT TESTED: the report page in a real browser; there is no chromium on PATH")
    from PIL import Image

    picture = folder / "page.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1500"]
    browser = subprocess.run(
        [
            chromium,
            *options,
            "--enable-logging=stderr",
            f"--user-data-dir={folder / 'browser'}",
            f"--screenshot={picture}",
            url,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    console = "\n".join(line for line in browser.stderr.splitlines() if "CONSOLE" in line)
    return Image.open(picture).convert("RGB"), console


def _colours(picture: Any) -> set[tuple[int, int, int]]:
    return {colour for _, colour in picture.getcolors(maxcolors=1 << 24)}


@pytest.mark.rig("chromium")
def test_a_real_browser_shows_the_page_under_jenkins_policy(site: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = site
    write_report(a_run(), folder)
    picture, console = _shot(f"{url}/index.html", tmp_path)
    assert console == ""
    assert (0x1F, 0x7A, 0x4D) in _colours(picture), "the style sheet was not applied"


@pytest.mark.rig("chromium")
def test_a_page_with_a_style_of_its_own_would_be_complained_of(
    site: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = site
    (folder / "index.html").write_text('<!doctype html><p style="color:#1f7a4d">green?<script>1</script>')
    picture, console = _shot(f"{url}/index.html", tmp_path)
    assert "Content Security Policy" in console
    assert (0x1F, 0x7A, 0x4D) not in _colours(picture)


def test_a_long_series_and_odd_numbers_are_drawn() -> None:
    rows = [[t, 0.5, t, 0, math.sin(t), math.cos(t)] for t in range(200)]
    run = a_run(stages=(replace(a_run().stages[2], facts={"series": {"columns": COLUMNS, "rows": rows}}),))
    assert rendered(run).count("<polyline") == 3

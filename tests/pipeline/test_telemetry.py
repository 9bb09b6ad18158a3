"""Logs are one JSON object a line, secrets are masked, and a log that cannot be written disturbs nobody."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops import telemetry
from mlops.pipeline.files import Folders, write_text


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "abcdef-123456")
    monkeypatch.setenv("DB_PASSWORD", "abcdef-123456-and-more")
    monkeypatch.setenv("PEM_SECRET", "-----BEGIN-----\nMIIsecretline\n-----END-----")
    monkeypatch.setenv("SHORT_TOKEN", "1")
    monkeypatch.setenv("HARMLESS", "flight-delay")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("key abcdef-123456!", "key ***!"),
        ("abcdef-123456-and-more", "***"),
        ("line MIIsecretline of a key", "line *** of a key"),
        ("https://user:pass@host/path", "https://***@host/path"),
        ("postgresql://user@host and s3://a:b@c", "postgresql://***@host and s3://***@c"),
        ("mail me@example.org, 1 of 11", "mail me@example.org, 1 of 11"),
        ("flight-delay", "flight-delay"),
        ("not utf-8: \udcff", "not utf-8: ?"),
    ],
)
def test_secrets_are_masked_and_nothing_else(text: str, masked: str) -> None:
    assert telemetry.mask(text) == masked


@given(st.text(max_size=40))
def test_masking_is_stable_and_never_shows_a_secret(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MY_SECRET", "s3cr3t-value")
        masked = telemetry.mask(text + "s3cr3t-value" + text)
        assert "s3cr3t-value" not in masked
        assert telemetry.mask(masked) == masked


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_the_common_fields(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with telemetry.logging_to(path, service="mlops", trace_id="t1", labels={"model": "m"}) as logger:
        logger.getChild("x").info("got %s with\nabcdef-123456", 5, extra={"labels": {"stage": "train"}})
    (line,) = _lines(path)
    assert line["message"] == "got 5 with\n***"
    assert (line["log.level"], line["service.name"], line["trace.id"]) == ("info", "mlops", "t1")
    assert line["labels"] == {"model": "m", "stage": "train"}
    assert str(line["@timestamp"]).endswith("Z")


def test_an_exception_is_in_its_own_fields(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with telemetry.logging_to(path, service="mlops") as logger:
        error = ValueError("with abcdef-123456")
        logger.error("it failed", exc_info=error)
    (line,) = _lines(path)
    assert (line["error.type"], line["error.message"]) == ("ValueError", "with ***")
    assert "ValueError: with ***" in str(line["error.stack_trace"])


def test_the_logger_is_left_as_it_was(tmp_path: Path) -> None:
    logger = logging.getLogger("mlops")
    before = (logger.level, list(logger.handlers))
    with telemetry.logging_to(tmp_path / "log.jsonl", service="mlops"):
        pass
    assert (logger.level, list(logger.handlers)) == before


def test_a_log_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    with telemetry.logging_to(tmp_path / "no/such/folder/log", service="mlops") as logger:
        logger.info("lost")
    with telemetry.logging_to(Path("/dev/full"), service="mlops") as logger:
        logger.info("lost")


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.pipeline.files._LOG_BYTES", 10)
    folders = Folders(tmp_path)
    folders.root.mkdir()
    folders.log().write_text("more than ten bytes")
    assert not folders.log().exists()
    assert (folders.root / "log.1.jsonl").exists()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new/file.txt"
    write_text(path, "old")
    path.parent.joinpath("blocked").mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        write_text(path.parent / "blocked", "a folder has this name")
    write_text(path, "new abcdef-123456")
    assert path.read_text() == "new ***"
    assert sorted(each.name for each in path.parent.iterdir()) == ["blocked", "file.txt"]

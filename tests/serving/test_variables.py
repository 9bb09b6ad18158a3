"""What reaches model code and the code that builds its packages: settings, never secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops.environments.variables import for_uv, minimal


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("JENKINS_TOKEN", "x")
    monkeypatch.setenv("UV_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("UV_PYTHON", "3.12")
    monkeypatch.setenv("SSL_CERT_FILE", "/certificates.pem")


def test_the_installer_gets_its_index_and_no_secret() -> None:
    given = for_uv()
    assert given["UV_INDEX_URL"] == "https://index.example/simple"
    assert given["SSL_CERT_FILE"] == "/certificates.pem"
    assert not {"AWS_SECRET_ACCESS_KEY", "JENKINS_TOKEN", "UV_PYTHON"} & set(given)


def test_a_model_process_gets_neither_secret_nor_index(tmp_path: Path) -> None:
    given = minimal(tmp_path / "bin" / "python")
    assert given["PATH"].startswith(str(tmp_path / "bin"))
    assert not {"AWS_SECRET_ACCESS_KEY", "JENKINS_TOKEN", "UV_INDEX_URL"} & set(given)

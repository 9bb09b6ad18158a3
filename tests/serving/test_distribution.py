"""The model server as a distribution of its own, on the oldest Python, and with other people's clients."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from mlops.environments.port import Command, Installed
from mlops.environments.uv import UvEnvironments
from mlops.environments.variables import for_uv
from mlops.errors import UserError
from tests.serving.conftest import Start
from tests.serving.servers import serving

ROOT = Path(__file__).resolve().parents[2]
OLD = "scikit-learn==1.3.2\nmlflow-skinny==2.17.2\npandas==2.1.4\nnumpy==1.26.4\nsetuptools<81\n"
CLIENT = """
import sys
import numpy as np
import tritonclient.http as triton
client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("m")
assert client.get_model_metadata("m")["inputs"][0]["name"] == "distance"
inputs = [triton.InferInput("distance", [2], "INT64"), triton.InferInput("temp", [2, 1], "FP64")]
inputs[0].set_data_from_numpy(np.array([10, 2000]), binary_data=False)
inputs[1].set_data_from_numpy(np.array([[0.5], [1.5]]), binary_data=False)
outputs = [triton.InferRequestedOutput("prediction", binary_data=False)]
answer = client.infer("m", inputs, outputs=outputs, request_id="7")
assert answer.get_response()["id"] == "7"
print(answer.as_numpy("prediction").shape)
"""


def _uv(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        [find_uv_bin(), *arguments],
        cwd=folder,
        env=for_uv(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_its_wheel_installs_alone(tmp_path: Path) -> None:
    _uv(
        "build",
        "--quiet",
        "--out-dir",
        str(tmp_path / "dist"),
        str(ROOT / "runners" / "mlops_serve"),
        folder=tmp_path,
    )
    (wheel,) = (tmp_path / "dist").glob("mlops_serve-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"mlops_serve/app.py", "mlops_serve/requirements.txt", "mlops_serve/py.typed"} <= names
    assert not [name for name in names if name.endswith("pyproject.toml")]
    _uv("venv", "--quiet", "--python", "3.11", str(tmp_path / "venv"), folder=tmp_path)
    python = str(tmp_path / "venv" / "bin" / "python")
    _uv("pip", "install", "--quiet", "--python", python, str(wheel), folder=tmp_path)
    command = [str(tmp_path / "venv" / "bin" / "mlops-serve"), "--help"]
    assert b"check-schema" in subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    program = (
        "import mlops_serve.lifecycle, mlops_serve.score, mlops_serve.describe, mlops_serve.schema_check"
    )
    subprocess.run([python, "-c", program], check=True, timeout=60, env={**os.environ, "PYTHONPATH": ""})


@pytest.fixture
def oldest(environments: UvEnvironments, tmp_path: Path) -> Installed:
    """The oldest Python with libraries of its time; this machine may not have one."""
    (tmp_path / "requirements.txt").write_text(OLD)
    try:
        return environments.install(environments.resolve(tmp_path, "3.9", None))
    except UserError as error:
        if "is not installed" in error.headline:
            pytest.skip(error.headline)
        raise


@pytest.mark.slow
@pytest.mark.rig("python3.9")
def test_it_serves_and_scores_on_the_oldest_python(
    environments: UvEnvironments, oldest: Installed, tmp_path: Path
) -> None:
    maker = Path(__file__).with_name("make_models.py")
    for argument in (
        f"{maker} made regression",
        "-c 'import mlops_serve.schema_check, mlops_serve.describe'",
    ):
        command = Command(
            arguments=f"python {argument}", folder=tmp_path, log=tmp_path / "log", timeout_seconds=200
        )
        completed = environments.run(oldest, command)
        assert completed.code == 0, completed.tail
    with serving(oldest.python, tmp_path / "made" / "regression", tmp_path / "serve.log") as server:
        answer = server.call("/invocations", {"dataframe_records": [{"distance": 100, "temp": None}]})
        assert answer.status == 200, answer.body
        server.process.terminate()
        assert server.process.wait(20) == 0


@pytest.mark.slow
def test_tritons_client_is_answered(environments: UvEnvironments, start: Start, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("tritonclient[http]==2.51.0\n")
    client = environments.install(environments.resolve(tmp_path, "3.11", None))
    server = start("regression")
    (tmp_path / "client.py").write_text(CLIENT)
    command = Command(
        arguments=f"python client.py 127.0.0.1:{server.port}",
        folder=tmp_path,
        log=tmp_path / "log",
        timeout_seconds=60,
    )
    completed = environments.run(client, command)
    assert completed.code == 0, completed.tail
    assert completed.tail.splitlines()[-1] == "(2,)"

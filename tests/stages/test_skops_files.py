"""Two savings of one model become the same file, and the file still holds the model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlops.stages.skops_files import settle_skops

ROWS: NDArray[np.float64] = np.random.default_rng(1).normal(size=(300, 3))


def trained(depth: int = 3) -> Pipeline:
    trees = HistGradientBoostingClassifier(max_iter=5, max_depth=depth, random_state=np.random.RandomState(3))
    return make_pipeline(StandardScaler(), trees).fit(ROWS, ROWS[:, 0] > 0)


def saved(model: object, path: Path) -> Path:
    skops.io.dump(model, path)
    return path


def test_equal_models_become_equal_files(tmp_path: Path) -> None:
    one, other = saved(trained(), tmp_path / "one.skops"), saved(trained(), tmp_path / "other.skops")
    assert one.read_bytes() != other.read_bytes()
    assert settle_skops(one)
    assert settle_skops(other)
    assert one.read_bytes() == other.read_bytes()


def test_different_models_stay_different(tmp_path: Path) -> None:
    one, other = saved(trained(), tmp_path / "one.skops"), saved(trained(depth=2), tmp_path / "other.skops")
    assert settle_skops(one)
    assert settle_skops(other)
    assert one.read_bytes() != other.read_bytes()


def test_the_settled_file_predicts_the_same_and_settles_to_itself(tmp_path: Path) -> None:
    model = trained()
    file = saved(model, tmp_path / "model.skops")
    assert settle_skops(file)
    trusted = skops.io.get_untrusted_types(file=file)
    loaded = skops.io.load(file, trusted=trusted)
    assert np.array_equal(loaded.predict_proba(ROWS), model.predict_proba(ROWS))
    content = file.read_bytes()
    assert settle_skops(file)
    assert file.read_bytes() == content


def test_objects_that_are_shared_stay_shared(tmp_path: Path) -> None:
    encoder = OneHotEncoder().fit([["a"], ["b"]])
    file = saved({"file": encoder, "again": encoder, "__id__": 5}, tmp_path / "shared.skops")
    assert settle_skops(file)
    loaded = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    assert loaded["file"] is loaded["again"]
    assert loaded["__id__"] == 5


@pytest.mark.parametrize("content", [None, {"other.txt": "x"}, {"schema.json": "{broken"}])
def test_a_file_of_another_form_is_left_alone(tmp_path: Path, content: dict[str, str] | None) -> None:
    file = tmp_path / "model.skops"
    if content is None:
        file.write_bytes(b"a pickle")
    else:
        with zipfile.ZipFile(file, "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
    before = file.read_bytes()
    assert not settle_skops(file)
    assert file.read_bytes() == before


def test_a_part_that_no_node_names_leaves_the_file_alone(tmp_path: Path) -> None:
    file = saved(trained(), tmp_path / "model.skops")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("note.txt", "read me")
    before = file.read_bytes()
    assert not settle_skops(file)
    assert file.read_bytes() == before
    assert json.loads(zipfile.ZipFile(file).read("schema.json"))["__class__"] == "Pipeline"

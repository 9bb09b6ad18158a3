"""Equal content has one form and one address."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.canonical import canonical_json, digest_bytes, digest_file, digest_json, digest_tree

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(values)
def test_it_is_json_and_a_fixed_point(value: object) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


@given(st.dictionaries(st.text(max_size=5), values, min_size=2, max_size=5))
def test_the_order_of_keys_does_not_matter(record: dict[str, object]) -> None:
    turned = dict(reversed(record.items()))
    assert canonical_json(turned) == canonical_json(record)
    assert digest_json(turned) == digest_json(record)


def test_no_spaces_and_utf_8() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "ü"}) == '{"a":"ü","b":[1,2.5]}'.encode()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"x": [number]})


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    data = b"x" * (3 << 20)
    (tmp_path / "f").write_bytes(data)
    assert digest_file(tmp_path / "f") == digest_bytes(data)


def test_a_trees_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "f").write_text("x")
    (b / "empty").mkdir()
    assert digest_tree(a) == digest_tree(b)
    (b / "sub" / "f").write_text("y")
    assert digest_tree(a) != digest_tree(b)
    (b / "sub" / "f").write_text("x")
    (b / "sub" / "f").rename(b / "sub" / "g")
    assert digest_tree(a) != digest_tree(b)

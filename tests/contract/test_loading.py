"""The contract is read whole, or every mistake in it is named with its place and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.contract.loading import ContractError, load_contract
from mlops.contract.model import Contract
from mlops.errors import UserError

MINIMAL = "model: flights\ndata: data/train.parquet\ntarget: late\ntrain: python train.py\nmetric: auc\n"


def written(folder: Path, text: str | bytes) -> Path:
    (folder / "mlops.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def problems(folder: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ContractError) as caught:
        load_contract(written(folder, text))
    return [str(problem) for problem in caught.value.problems]


def test_five_lines_are_a_whole_contract(tmp_path: Path) -> None:
    contract = load_contract(written(tmp_path, MINIMAL))
    assert (contract.data.train, contract.train.command, contract.metric.name) == (
        "data/train.parquet",
        "python train.py",
        "auc",
    )
    assert contract.kind == "classification"
    assert contract.rollout.steps == (10, 50, 100)


def test_the_metric_tells_the_task(tmp_path: Path) -> None:
    assert load_contract(written(tmp_path, MINIMAL.replace("auc", "rmse"))).kind == "regression"
    assert load_contract(written(tmp_path, MINIMAL + "task: classification")).kind == "classification"


def test_all_mistakes_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        "model: Flights_1\n"
        "data: 5\n"
        "taget: late\n"
        "train: {command: a, entry_point: b}\n"
        "metric: {name: acuracy, margin: 0, slices: [{colum: carrier}]}\n"
        "environment: {python: 3.10}\n"
        "test: {required: no, timeout: '900'}\n"
        "rollout: {steps: [50, 10]}\n"
    )
    found = problems(tmp_path, text)
    assert " ".join(line.split(":")[1] for line in found) == "1 2 3 4 5 5 5 6 7 7 8"
    assert not any("`target` is missing" in line for line in found), "a mistyped key is one mistake, not two"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("targe: x", "mlops.yaml:6:1: unknown key `targe`: expected one of `model`"),
        ("TASK: regression", "did you mean `task`?"),
        ("test: {timout: 3}", "mlops.yaml:6:8: unknown key `test.timout`"),
        ("test: {timout: 3}", "did you mean `timeout`?"),
        ("zzzzzz: 1", "mlops.yaml:6:1: unknown key `zzzzzz`: expected one of"),
        ("environment: {python: 3.10}", 'not quoted: write "3.10" with the quotes'),
        ("environment: {python: 3.10}", "mlops.yaml:6:23: `environment.python` has a wrong value"),
        ('environment: {python: "2.7"}', 'a Python version in quotes, "3.9" or later'),
        ('environment: {python: "3.8"}', 'a Python version in quotes, "3.9" or later'),
        ("owner: true", 'the word `true`, because it is not quoted: write "true"'),
        ("owner: 5", 'the number `5`, because it is not quoted: write "5"'),
        ("test: {required: no}", "expected `true` or `false`, found the text `no`: write `false`"),
        ("test: {required: on}", "write `true`"),
        ("test: {required: 1}", "expected `true` or `false`, found `1`"),
        ("test: {timeout: '900'}", "expected a number greater than 0, found the text `900`"),
        ("test: {timeout: true}", "expected a number greater than 0, found `true`"),
        ("test: {timeout: -1}", "expected a number greater than 0, found `-1`"),
        ("test: {timeout: .inf}", "`test.timeout` has a wrong value"),
        ("test:", "expected a section with the keys `command`, `required`, `timeout`, found nothing"),
        ("test: []", "found an empty list"),
        (
            "test: {}\nserve: {batch_rows: 1.5}",
            "expected a whole number at least 1 and at most 4096, found `1.5`",
        ),
        ("serve: {batch_rows: {}}", "found an empty section"),
        ("serve: {batch_rows: {a: 1}}", "found a section with the keys `a`"),
        ("rollout: {steps: [1, 2, x]}", "`rollout.steps[3]` has a wrong value"),
        ("rollout: {steps: [10, 50]}", "`rollout.steps` must ascend and end at 100"),
        ("rollout: {steps: 100}", "expected a list"),
        ("owner: {a: 1}", "expected text"),
        ("task: regresion", "did you mean `regression`?"),
        ("task: regression", "the metric `auc` does not measure a regression"),
        ("environment: {lock: /etc/passwd}", "a path inside the repo"),
        ("environment: {lock: ../x}", "a path must stay inside the repo, without `..`: found `../x`"),
        ("environment: {lock: ~/x}", "a path inside the repo"),
        ("environment: {lock: 'a\\b'}", "a path inside the repo, with `/`"),
    ],
)
def test_a_mistake_is_named_in_plain_words(tmp_path: Path, line: str, expected: str) -> None:
    assert expected in "\n".join(problems(tmp_path, MINIMAL + line))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            "target: late\n",
            "",
            "`target` is missing: expected `target:` with text (Column that is predicted)",
        ),
        ("target: late", "target:", "`target` has a wrong value: expected text, found nothing"),
        ("target: late", "target: ''", "expected text, found empty text"),
        ("target: late", "target: 5", 'write "5" with the quotes'),
        ("metric: auc", "metric: acc", "one of `auc`"),
        ("metric: auc", "metric: {}", "`metric.name` is missing"),
        ("metric: auc", "metric: {name: auc, floor: .nan}", "`metric.floor` has a wrong value"),
        ("train: python train.py", "train: {}", "`train` needs exactly one of `command` and `entry_point`"),
        ("train: python train.py", "train: {command: x, parameters: {a: 1}}", "belong to an `entry_point`"),
        (
            "train: python train.py",
            "train: {entry_point: m, parameters: {a: [1]}}",
            "`train.parameters.a` has a wrong",
        ),
        ("data: data/train.parquet", "data: ../x.csv", "a path must stay inside the repo"),
        ("data: data/train.parquet", "data: {train: a.csv, holdout: a.csv}", "another file than `train`"),
        ("data: data/train.parquet", "data: {train: a.csv, id: late}", "must not have a second role"),
        (
            "data: data/train.parquet",
            "data: {train: a.csv, ignore: late}",
            "expected a list, found the text `late`",
        ),
        ("data: data/train.parquet", "data: {train: a.csv, schema: schema.py}", "`file.py:name`"),
        ("data: data/train.parquet", "data: {train: a.csv, schema: a/../../s.py:x}", "inside the repo"),
    ],
)
def test_a_wrong_line_is_named_in_plain_words(tmp_path: Path, before: str, after: str, expected: str) -> None:
    assert expected in "\n".join(problems(tmp_path, MINIMAL.replace(before, after)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "mlops.yaml:1:1: mlops.yaml is empty"),
        ("# nothing\n", "mlops.yaml is empty"),
        ("- model\n", "must consist of lines `key: value`: expected a mapping, found a list"),
        ("just words\n", "found the text 'just words'"),
        (
            "model: a\nmodel: b\n",
            "mlops.yaml:2:1: the key `model` is given twice: found the first one in line 1",
        ),
        ("test:\n  command: a\n  command: b\n", "mlops.yaml:3:3: the key `command` is given twice"),
        ("test:\n\tcommand: a\n", "mlops.yaml:2:1: a tab is used for indentation; YAML wants spaces"),
        ("a: b: c\n", "mlops.yaml:1:5: a second `:` in this line"),
        ("a: [1, 2\n", "a list in brackets is not closed"),
        ("a: {b: 1\n", "a mapping in braces is not closed"),
        ('a: "b\n', "a quote is not closed"),
        ("a: *nowhere\n", "an alias (`*name`) without an anchor"),
        ("a: %b\n", "a value must not start with `%`"),
        ("a: @b\n", "a value must not start with `@`"),
        ("a: 1\n b: 2\n", "mlops.yaml:2:"),
        ("a: 1\nbc\nd: 2\n", "this line has no `: ` after its key"),
        ("a:\n  - 1\n b: 2\n", "the indentation does not fit"),
        ("a: 1\n---\nb: 2\n", "a second document (`---`)"),
        (
            "a: !!python/object:os.system [x]\n",
            "the tag `tag:yaml.org,2002:python/object:os.system` is not supported",
        ),
        ("a: !!timestamp 2024-01-01\n", "is not supported"),
        ("a: !!int x\n", "not a whole number"),
        ("a: !!float x\n", "not a number"),
        ("? [a, b]\n: 1\n", "a key must be a single word"),
        ("a: &x [*x]\n", "an alias (`*name`) that contains itself"),
        ("a: &x {b: 1, <<: *x}\n", "`<<` takes an alias of a mapping"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("a: b\x07\n", "mlops.yaml:1:5: a character that YAML does not allow: found code U+0007"),
        (b"a: b\nc: \xff\n", "mlops.yaml:2:4: mlops.yaml is not UTF-8 text: found the byte 0xff"),
        (b"a: " + b"x" * (1 << 20), "less than 1 MiB"),
    ],
)
def test_a_file_that_is_not_yaml_is_explained(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert expected in "\n".join(problems(tmp_path, text))


def test_aliases_that_unfold_to_millions_are_refused(tmp_path: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    found = problems(tmp_path, "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *levels]))
    assert found == [line for line in found if "unfold to more than" in line]
    assert len(found) == 1


def test_anchors_and_merged_keys_are_read(tmp_path: Path) -> None:
    text = MINIMAL + "benchmark: &b {seconds: 5}\nserve: {drain_seconds: 3}\n"
    text = text.replace(
        "data: data/train.parquet", "data: &d\n  train: a.csv\n  ignore: &i [x]\n  confirmed: *i"
    )
    assert load_contract(written(tmp_path, text)).data.confirmed == ("x",)
    merged = "a: &a {command: go, timeout: 5}\n"
    found = problems(tmp_path, merged + MINIMAL + "test:\n  <<: *a\n  timeout: 6\n")
    assert found == [line for line in found if "unknown key `a`" in line], (
        "the merged section itself is right"
    )


def test_words_that_older_yaml_turns_into_something_else_stay_text(tmp_path: Path) -> None:
    for word in ("no", "on", "Yes", "2024-01-01", "12:30:00", "0o8", "1_000"):
        contract = load_contract(written(tmp_path, MINIMAL.replace("late", word)))
        assert contract.target == word
    assert load_contract(written(tmp_path, MINIMAL + "test: {timeout: 010}")).test.timeout == 10
    assert load_contract(written(tmp_path, MINIMAL + "test: {timeout: 0x10}")).test.timeout == 16
    assert load_contract(written(tmp_path, MINIMAL + "test: {timeout: 1e2}")).test.timeout == 100


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert load_contract(written(tmp_path, b"\xef\xbb\xbf" + MINIMAL.encode())).model == "flights"


def test_without_a_contract_the_way_to_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_contract(tmp_path)
    assert caught.value.remedy == f"mlops init {tmp_path}"
    (tmp_path / "mlops.yml").write_text(MINIMAL)
    with pytest.raises(UserError) as caught:
        load_contract(tmp_path)
    assert caught.value.remedy == "rename it: mv mlops.yml mlops.yaml"
    with pytest.raises(UserError, match="no folder"):
        load_contract(tmp_path / "absent")


def test_a_contract_that_cannot_be_read_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").mkdir()
    with pytest.raises(UserError, match=r"no mlops\.yaml"):
        load_contract(tmp_path)


def test_a_link_that_leads_out_of_the_repo_is_refused(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / "data").mkdir(parents=True)
    (tmp_path / "secret.parquet").write_text("x")
    (repo / "data" / "train.parquet").symlink_to("../../secret.parquet")
    (found,) = problems(repo, MINIMAL)
    assert found.startswith("mlops.yaml:2:1: `data/train.parquet` leads out of the repo")
    (repo / "data" / "train.parquet").unlink()
    (repo / "data" / "real.parquet").write_text("x")
    (repo / "data" / "train.parquet").symlink_to("real.parquet")
    assert load_contract(repo).data.train == "data/train.parquet"


def test_links_of_schema_and_lock_are_followed_too(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "out").symlink_to(tmp_path)
    text = MINIMAL.replace("data/train.parquet", "{train: a.csv, schema: out/s.py:schema}")
    assert len(problems(repo, text + "environment: {lock: out/lock.txt}\n")) == 2


def test_one_mistake_is_the_headline_and_many_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        load_contract(written(tmp_path, MINIMAL + "taks: regression\n"))
    record = caught.value.as_record()
    assert record["exit_code"] == 2
    assert record["headline"] == "unknown key `taks`"
    assert record["where"] == "mlops.yaml:6:1"
    assert "`task`" in str(record["remedy"])
    with pytest.raises(ContractError, match="unknown key `taks`") as caught:
        load_contract(written(tmp_path, MINIMAL + "taks: regression\nownr: me\n"))
    assert caught.value.headline == "mlops.yaml has 2 mistakes"
    assert caught.value.found.count("\n") == 1


@given(st.text(max_size=200))
def test_any_text_gives_a_contract_or_an_explanation(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        assert isinstance(load_contract(written(folder, text.encode("utf-8", "surrogatepass"))), Contract)
    except ContractError as error:
        assert error.problems  # noqa: PT017 - either outcome is right


@given(
    st.dictionaries(
        st.sampled_from(list(Contract.model_fields)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=5,
        ),
    )
)
def test_any_values_give_a_contract_or_an_explanation(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    import json

    folder = tmp_path_factory.getbasetemp()
    try:
        assert isinstance(load_contract(written(folder, json.dumps(values))), Contract)
    except ContractError as error:
        assert error.problems  # noqa: PT017 - either outcome is right
        assert all(problem.where.line for problem in error.problems)  # noqa: PT017

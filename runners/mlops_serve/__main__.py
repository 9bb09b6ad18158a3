"""The command line: ``python -m mlops_serve serve | score | check-schema | describe``.

Exit codes: 0 done, 1 the model raised (``score``) or the data fails the schema (``check-schema``), 2 what was named
cannot be used, 3 the port is taken (``serve``).
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from mlops_serve.failures import Unusable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except Unusable as error:
        sys.stderr.write(f"mlops-serve: {error}\n")
        return 2


def _serve(arguments: argparse.Namespace) -> int:
    from mlops_serve.app import Settings
    from mlops_serve.lifecycle import Listening, serve
    from mlops_serve.package import read_package

    package = read_package(arguments.package)
    drain = arguments.drain_seconds
    return serve(
        package,
        Settings(
            name=arguments.name or package.name,
            version=arguments.model_version,
            release=arguments.release,
            body_bytes=arguments.body_bytes,
        ),
        Listening(
            arguments.host,
            arguments.port,
            package.drain_seconds if drain is None else drain,
            arguments.linger_seconds,
        ),
        arguments.batch_rows or package.batch_rows,
    )


def _score(arguments: argparse.Namespace) -> int:
    from mlops_serve.package import read_package
    from mlops_serve.score import read_jobs, score

    jobs = read_jobs(arguments.jobs)
    package = read_package(arguments.package)
    try:
        score(package, jobs)
    except Unusable:
        raise
    except Exception as error:  # noqa: BLE001 - the model's own error, for whoever reads the log
        traceback.print_exc()
        sys.stderr.write(f"mlops-serve: the model failed: {type(error).__name__}: {error}\n")
        return 1
    return 0


def _check_schema(arguments: argparse.Namespace) -> int:
    from mlops_serve.schema_check import check_schema

    return 0 if check_schema(arguments.schema, arguments.data, arguments.report) else 1


def _describe(arguments: argparse.Namespace) -> int:
    from mlops_serve.describe import describe

    text = json.dumps(describe(arguments.model), default=str)
    if arguments.report is not None:
        arguments.report.write_text(text)
    sys.stdout.write(f"{text}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlops-serve", description="Serve and score packaged models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="answer requests over HTTP")
    serve.add_argument(
        "--package", type=Path, required=True, help="folder of the package, or of an MLflow model"
    )
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8080)
    serve.add_argument("--name", help="name of the model in addresses; the package's by default")
    serve.add_argument("--release", default="", help="digest of the release, for metrics and logs")
    serve.add_argument("--model-version", default="1")
    serve.add_argument("--drain-seconds", type=float, help="time for requests in flight after SIGTERM")
    serve.add_argument(
        "--linger-seconds", type=float, default=0.5, help="time in which new requests are still taken"
    )
    serve.add_argument("--batch-rows", type=int, help="rows that are predicted together at the most")
    serve.add_argument("--body-bytes", type=int, default=16 << 20, help="largest request body")
    serve.set_defaults(run=_serve)
    score = commands.add_parser("score", help="predict Parquet files")
    score.add_argument("--package", type=Path, required=True)
    score.add_argument(
        "--jobs", type=Path, required=True, help="JSON list of {input, output, batch_rows, error}"
    )
    score.set_defaults(run=_score)
    check = commands.add_parser("check-schema", help="check data against a pandera schema")
    check.add_argument("--schema", required=True, metavar="FILE.py:NAME")
    check.add_argument("--data", type=Path, nargs="+", required=True)
    check.add_argument("--report", type=Path, required=True)
    check.set_defaults(run=_check_schema)
    describe = commands.add_parser("describe", help="print the facts of an MLflow model as JSON")
    describe.add_argument("--model", type=Path, required=True)
    describe.add_argument("--report", type=Path, help="also write them to this file")
    describe.set_defaults(run=_describe)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The root of the command line: the table of contents, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

import mlops
from mlops.cli.lazy import Entry, LazyGroup, Switches, debug_option
from mlops.cli.output import ReaderGone, fall_silent
from mlops.errors import InfrastructureError, Interrupted, MlopsError

COMMANDS = {
    "init": Entry(
        "mlops.cli.init:init",
        "Make a model repo: a contract of five lines and the Jenkinsfile.",
        "Model repo",
    ),
    "run": Entry(
        "mlops.cli.run:run", "Take the repo through every stage and roll its model out.", "Model repo"
    ),
    "plan": Entry("mlops.cli.plan:plan", "Show which stages would run, and why.", "Model repo"),
    "exec": Entry(
        "mlops.cli.execute:execute", "Run a command in the model's own locked Python.", "Model repo"
    ),
    "status": Entry(
        "mlops.cli.status:status", "What serves where, since when, and whether it is well.", "Releases"
    ),
    "history": Entry(
        "mlops.cli.history:history", "Every release and decision of a model, with its reason.", "Releases"
    ),
    "rollout": Entry("mlops.cli.rollout:rollout", "Watch or advance a running rollout.", "Releases"),
    "rollback": Entry("mlops.cli.rollback:rollback", "Go back to the release before, at once.", "Releases"),
    "ledger": Entry(
        "mlops.cli.ledger:ledger", "Check that the record of all decisions is whole.", "Releases"
    ),
    "serve": Entry("mlops.cli.serve:serve", "Serve a released model in the foreground.", "This machine"),
    "stop": Entry("mlops.cli.stop:stop", "End everything that runs on this machine.", "This machine"),
}


@click.group(
    cls=LazyGroup,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 passed, 1 a gate failed, 2 wrong input, 3 infrastructure failed, 4 interrupted, 5 could not tell.",
)
@click.version_option(mlops.__version__, prog_name="mlops")
def mlops_command() -> None:
    """Deliver a machine-learning model: from its repo to a served, reversible release."""


mlops_command.params.append(debug_option(envvar="MLOPS_DEBUG", help="Show tracebacks of errors."))


def main() -> NoReturn:
    """Run the command line and exit with the code that says how it went."""
    switches = Switches()
    try:
        code = mlops_command.main(standalone_mode=False, obj=switches)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except MlopsError as error:
        _explain(error, switches.debug)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(Interrupted.exit_code)
    except ReaderGone:
        fall_silent()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a defect is named as one
        _confess(error, switches.debug)
        sys.exit(InfrastructureError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: MlopsError, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exception(error)
    from mlops.cli.failures import render

    click.echo(render(error, colour=sys.stderr.isatty() and "NO_COLOR" not in os.environ), err=True)


def _confess(error: Exception, debug: bool) -> None:
    import traceback

    if debug:
        traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    click.echo(
        f"A defect of mlops: {type(error).__name__}: {error} (at {place.name}, line {place.lineno}).\n"
        "  do this: run the same command with `--debug` and send what it prints.",
        err=True,
    )

"""The command line: parse, call, print. Each command has a file of its own, which is imported only when it is called.

Progress and messages for people go to stderr, the result to stdout.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module

import click

from evokd_data.cli.echo import PrintableFormatter, echo, failure
from evokd_data.interrupts import INTERRUPTED, Interrupts

COMMANDS = {
    "init": "Make a recipe from your own labelled texts.",
    "check": "Check recipes, every problem at once.",
    "schema": "Print the JSON Schema of a recipe, for editors.",
    "doctor": "Look whether this machine can do what a recipe asks.",
    "preview": "Show prompts, samples, exam and cost before a run.",
    "exam": "Measure on the seeds how well the teacher labels.",
    "run": "Run the whole loop: every round generated, learned, published.",
    "generate": "Generate the next round's samples as Arrow shards.",
    "train-round": "Train and score the student on the last generated round.",
    "publish": "Publish complete rounds, each as one commit and one tag.",
    "push-student": "Push a round's student to a model repository.",
    "predict": "Predict labels or spans of the texts in a file.",
    "evaluate": "Score a student on labelled texts.",
    "export": "Export a student to ONNX, measured against the original.",
    "load": "Load a round from the Hub, verified.",
    "verify": "Check every digest of a published round.",
    "replay": "Make a published round's rows again from its journal.",
    "reproduce": "Ask the teacher for a published round again, and compare.",
    "diff": "Show what changed between two published rounds.",
    "rounds": "List the rounds of a published data set.",
    "compare": "Compare strategies or students over random seeds at equal budgets.",
    "show": "Show a run: its rounds, plan, samples, rejections.",
    "report": "Write a run's report as one HTML page.",
    "review": "Correct a run's samples: a page with keys, or a tool's file.",
    "hub": "Serve a local Hub, and look after it.",
}


class LazyGroup(click.Group):
    """The commands of `COMMANDS`. Help lists them without importing any of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, from its module; None when there is no such command."""
        if name not in COMMANDS:
            return None
        return import_module(f"evokd_data.cli.{name.replace('-', '_')}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands into the help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click. Raises UsageError with the nearest name when there is no such command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from evokd_data.registry import nearest

            raise click.UsageError(f"no command {args[0]!r}{nearest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. An error for users becomes one message. After Ctrl-C the exit code is 130, as shells expect."""
        from evokd_data.errors import EvokdError

        try:
            return super().invoke(ctx)
        except EvokdError as error:
            raise failure(error) from error
        except KeyboardInterrupt:
            echo("stopped; the same command goes on from here", err=True)
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:  # the reader of our output has closed it; click exits without a message
            raise
        except OSError as error:  # a full disk, missing permissions, a file where a folder should be
            logging.getLogger(__name__).info("the error came from here", exc_info=True)
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = (
                "make room and rerun the same command, which goes on from here" if is_full else "--verbose tells where"
            )
            raise failure(f"{error}; {advice}") from error


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="evokd-data")
@click.option("-v", "--verbose", is_flag=True, help="Log what the library does.")
def cli(verbose: bool) -> None:
    """Distil a large language model into a small one, round by round, each round a dataset revision."""
    if logging.lastResort is not None:  # prints warnings where nothing else is set up
        logging.lastResort.setFormatter(PrintableFormatter())
    if verbose:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(PrintableFormatter("%(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler])


def main() -> None:
    """The console script."""
    # How often an OpenMP thread looks for work before it sleeps; it must be set before torch is loaded. Operations of a
    # student's step are microseconds apart, and waking a thread takes longer. With MiniLM and 16 texts of 10 tokens a step
    # took 80 ms with 0, 48 with 1,000, and 46 with libgomp's default of 300,000; with another program on one of two cores
    # 69, 106 and 175.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background jobs ignore it
        signal.signal(signal.SIGINT, Interrupts(ends_process=True))
    try:
        cli.main()
    except KeyboardInterrupt:
        _end_interrupted()
    except SystemExit as ended:
        if ended.code == INTERRUPTED or isinstance(ended.__context__, click.Abort):  # click's word for Ctrl-C
            _end_interrupted()
        raise


def _end_interrupted() -> None:
    """All that a command opened is closed. While the interpreter ends, another Ctrl-C would kill it: it gives the signal back to the
    system before it is gone."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)

"""The command line: `calibench` and its commands, which parse, call and print; nothing else."""

from __future__ import annotations

import atexit
import gc
import sys

import click

import calibench
from calibench.commands.check import check
from calibench.commands.compare import compare
from calibench.commands.env import env
from calibench.commands.leaderboard import leaderboard
from calibench.commands.log import log
from calibench.commands.ls import ls
from calibench.commands.new_plugin import new_plugin
from calibench.commands.report import report
from calibench.commands.run import run
from calibench.commands.score import score
from calibench.commands.show import show
from calibench.commands.sweep import sweep

#: New objects after which Python's collector looks at them; torch and transformers make a million.
_OBJECTS = 100_000


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(calibench.__version__, prog_name="calibench")
def main() -> None:
    """Measure how much calibration an uncertainty method buys a text classifier, and what it costs.

    Every option can also be set in the environment: --batch-size by CALIBENCH_BATCH_SIZE, and so on.
    """
    _collect_seldom()


def _collect_seldom() -> None:
    """Look for garbage where there may be some, and not a hundred times in libraries as they are imported.

    That takes a seventh of an import's time, and a second more in the end, when the system takes all anyway.
    """
    gc.set_threshold(_OBJECTS)
    atexit.register(gc.freeze)


for _command in (run, sweep, score, ls, show, report, log, compare, check, leaderboard, new_plugin, env):
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())

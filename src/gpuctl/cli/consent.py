"""Asking the operator. Never without a terminal: then the missing option is named."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress

from gpuctl.app import Options
from gpuctl.phases.base import Plan
from gpuctl.report import plan as report
from gpuctl.run.errors import Exit, GpuctlError


class Agreement:
    """The ``agree`` of ``app.apply``: shows plans, asks on a terminal, needs ``--yes`` elsewhere."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def __call__(self, plans: Sequence[Plan], disruptive: bool) -> None:
        if not self._options.json:
            # who has agreed already need not be there any more
            with suppress(OSError) if self._options.yes else nullcontext():
                print("\n".join(report.lines(plans)), f"\n{report.summary(plans)}.", sep="\n", flush=True)
        if self._options.yes:
            return
        if not sys.stdin.isatty():
            raise GpuctlError(
                "the plan was shown but nobody can agree to it: there is no terminal",
                next=f"{self._options.command}{self._options.rest} --yes",
                exit_code=Exit.USAGE,
            )
        question = "This disturbs a running cluster. Go on?" if disruptive else "Apply this plan?"
        if _ask(f"{question} Only 'yes' is taken: ", self._options) != "yes":
            raise GpuctlError("not agreed; nothing has been changed", exit_code=Exit.USAGE)


def confirm_name(name: str, given: str | None, options: Options) -> None:
    """The cluster's name typed out, or given as ``--confirm``; GpuctlError (exit 2) otherwise."""
    if given is None and sys.stdin.isatty():
        given = _ask("Type the cluster's name to go on: ", options)
    if given is None:
        raise GpuctlError(
            "destroy needs the cluster's name and there is no terminal to ask on",
            next=f"gpuctl destroy{options.rest} --confirm {name}",
            exit_code=Exit.USAGE,
        )
    if given != name:
        raise GpuctlError(f"{given!r} is not the cluster's name; nothing has been removed", exit_code=Exit.USAGE)


def _ask(question: str, options: Options) -> str:
    # with -o json stdout holds JSON only
    print(question, end="", flush=True, file=sys.stderr if options.json else sys.stdout)
    return sys.stdin.readline().strip()

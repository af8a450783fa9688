"""gpuctl man: the manual page and docs/cli.md, both made from the command line itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from gpuctl import __version__
from gpuctl.run.errors import Exit

EXITS = {
    Exit.OK: "done; for verify: every check that was asked for passed",
    Exit.FAILED: "failed",
    Exit.USAGE: "wrong use, errors in the spec, or no consent; nothing was touched",
    Exit.CHANGES: "changes are pending (plan --detailed-exitcode, fmt --check)",
    Exit.CREDENTIALS: "a secret is missing or refused",
    Exit.LOCKED: "another run holds the workspace or the state",
    Exit.CHECK_FAILED: "a check failed",
    Exit.VERIFY_INCOMPLETE: "no check failed, but something could not be judged",
    Exit.SIGHUP: "stopped since its terminal is gone; the same command continues",
    Exit.SIGINT: "stopped by SIGINT; the same command continues",
    Exit.SIGTERM: "stopped by SIGTERM; the same command continues",
}


@dataclass(frozen=True)
class Described:
    """A command. ``usage``: ``gpuctl gitops push [OPTIONS] [spec]``; ``options``: (as written, what it does)."""

    name: str
    usage: str
    help: str
    options: tuple[tuple[str, str], ...]


def command(
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown: docs/cli.md.")] = False,
) -> None:
    """Print the manual page (troff)."""
    from gpuctl.cli import app

    group: Any = typer.main.get_command(app)
    described = list(_described(group, "gpuctl"))
    print("\n".join(_markdown(described) if markdown else _troff(described, group.help)))


def _described(found: Any, name: str, above: typer.Context | None = None) -> Iterator[Described]:
    ctx = typer.Context(found, info_name=name, parent=above)
    records = [param.get_help_record(ctx) for param in found.params]
    options = tuple((record[0], record[1].replace("  [", " [")) for record in records if record)
    yield Described(
        ctx.command_path, " ".join(found.get_usage(ctx).split()).removeprefix("Usage: "), found.help or "", options
    )
    for key, sub in getattr(found, "commands", {}).items():
        if not sub.hidden:
            yield from _described(sub, key, ctx)


def _markdown(commands: list[Described]) -> Iterator[str]:
    yield "# The command line"
    yield ""
    yield "Made by `gpuctl man --markdown`; `gpuctl man > gpuctl.1` is the manual page."
    yield "An option on the command line wins over its variable. A switch is on with `1`, off with `0` or empty."
    for one in commands:
        yield from ("", f"## {one.name}", "", f"    {one.usage}", "", one.help, "", "| option | meaning |", "|---|---|")
        for written, words in one.options:
            cells = [cell.replace("|", "\\|") for cell in (f"`{written}`", words)]
            yield f"| {' | '.join(cells)} |"
    yield from ("", "## Exit codes", "", "| code | meaning |", "|---|---|")
    for code, words in EXITS.items():
        yield f"| {int(code)} | {words} |"


def _troff(commands: list[Described], about: str) -> Iterator[str]:
    yield f'.TH GPUCTL 1 "" "gpuctl {__version__}"'
    # no words broken: names of variables stay whole
    yield from (".nh", ".ad l")
    yield from (".SH NAME", f"gpuctl \\- {_plain(about)}", ".SH COMMANDS")
    for one in commands:
        yield from (f'.SS "{_plain(one.usage)}"', _plain(one.help))
        for written, words in one.options:
            yield from (".TP", f"\\fB{_plain(written)}\\fR", _plain(words))
    yield ".SH EXIT STATUS"
    for code, words in EXITS.items():
        yield from (".TP", f"\\fB{int(code)}\\fR", _plain(words))


def _plain(text: str) -> str:
    """Text as troff prints it unchanged."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())

"""gpuctl fmt: the spec in its usual shape."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gpuctl.cli.options import DEFAULT_SPEC, Output, is_json, print_document
from gpuctl.run.errors import Exit, GpuctlError

STDIN = Path("-")


def command(
    spec: Annotated[
        Path, typer.Argument(help="The file, a spec or a site; - for stdin to stdout.", envvar="GPUCTL_SPEC")
    ] = DEFAULT_SPEC,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 3 when it would change.", envvar="GPUCTL_FMT_CHECK")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Write nothing; show what would change.", envvar="GPUCTL_FMT_DIFF")
    ] = False,
    output: Output = "text",
) -> None:
    """Normalise indentation, spacing, quotes and blank lines. Keeps comments, the order, and what the spec says."""
    from gpuctl.run.workspace import write_private
    from gpuctl.spec.load import read

    before = sys.stdin.read() if spec == STDIN else read(spec)
    after = _formatted(before, spec)
    changed, writes = after != before, not (check or diff)
    difference = _difference(before, after, spec)
    if writes and changed and spec != STDIN:
        file = spec.resolve()
        write_private(file, after, file.stat().st_mode & 0o777)
    if is_json(output):
        print_document({"file": str(spec), "changed": changed, "written": writes and changed, "diff": difference})
    elif diff:
        print(difference, end="")
    elif spec == STDIN and writes:
        print(after, end="")
    elif changed:
        print(f"{spec}: {'formatted' if writes else f'not formatted. Next: gpuctl fmt {spec}'}")
    else:
        print(f"{spec}: formatted already")
    if check and changed:
        raise typer.Exit(int(Exit.CHANGES))


def _formatted(text: str, spec: Path) -> str:
    from gpuctl.spec.format import formatted

    made, findings = formatted(text, str(spec))
    if findings:
        first = findings[0]
        raise GpuctlError(
            f"{spec} cannot be formatted; it is left as it is",
            where=f"{spec}:{first.at.line}:{first.at.column}",
            cause=first.message,
            next=first.fix or f"gpuctl validate {spec}",
            exit_code=Exit.USAGE,
        )
    return made


def _difference(before: str, after: str, spec: Path) -> str:
    from difflib import unified_diff

    lines = unified_diff(before.splitlines(True), after.splitlines(True), str(spec), f"{spec} (formatted)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)

"""A spec in its usual shape: indentation, spacing, quotes and blank lines. Never what it says, nor its order.

Works on YAML's tokens: only the white space between them and the kind of their quotes is written anew, so comments,
anchors, line breaks and words stay what they are. That nothing was lost is proven each time, by reading both texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import yaml
from yaml import tokens as t

from gpuctl.spec.document import parse
from gpuctl.spec.findings import Finding
from gpuctl.spec.resolved import SpecPath

STEP = 2
OPENING = (t.FlowMappingStartToken, t.FlowSequenceStartToken)
CLOSING = (t.FlowMappingEndToken, t.FlowSequenceEndToken)


class Level(NamedTuple):
    """A block that is open, with its column in the text and in the formatted one.

    ``kind``: mapping, sequence, or dashes: a sequence at the column of its own key, which has no tokens of its own.
    """

    old: int
    new: int
    kind: str = "mapping"


def formatted(text: str, file: str) -> tuple[str, list[Finding]]:
    """The formatted text; or "" and the findings because of which it is not touched. Ambiguous words stay."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    before = parse(text, file)
    # what is ambiguous (SPEC-03) can be read nevertheless
    broken = [finding for finding in before.findings if finding.rule != "SPEC-03"]
    if broken:
        return "", sorted(broken)
    made = _Writer(text).written()
    after = parse(made, file)
    if (_meaning(before), list(_comments(text))) != (_meaning(after), list(_comments(made))):
        message = "this cannot be formatted without changing what it says"
        return "", [Finding(SpecPath(file, 1, 1, ""), "error", "SPEC-01", message, "please report it, with the file")]
    return made, []


def _meaning(document: Any) -> tuple[str, list[str]]:
    # as text: 1, 1.0 and true are equal to Python
    return repr(document.value), [finding.message for finding in document.findings]


def _tokens(text: str) -> list[t.Token]:
    return list(yaml.scan(text, Loader=yaml.SafeLoader))


def _comments(text: str) -> Iterator[str]:
    for one, other in pairwise(_tokens(text)):
        yield from re.findall(r"#.*\S", text[one.end_mark.index : other.start_mark.index])


class _Writer:
    """Goes through the tokens once; each is written with the white space and the comments that belong before it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._out = ""
        self._levels: list[Level] = []
        self._flow: list[int] = []  # one entry for each flow collection that is open: how far its lines are moved
        self._last: t.Token | None = None
        self._end = 0  # in the text: up to where it is written
        self._keep = False  # blank lines after `|+` are part of the value

    def written(self) -> str:
        """The formatted text."""
        above: list[Level] = []  # what was open where a token ended
        for token in _tokens(self._text):
            self._enter_or_leave(token)
            if token.end_mark.index > token.start_mark.index:
                column = self._column(token)
                self._between(token, above, column)
                if isinstance(token, OPENING):
                    self._flow.append(self._flow[0] if self._flow else self._at - token.start_mark.column)
                elif isinstance(token, CLOSING):
                    self._flow.pop()
                self._body(token)
                self._last = token
                above = list(self._levels)
        self._between(None, above, 0)
        return self._out if self._keep else self._out.rstrip("\n") + "\n"

    @property
    def _at(self) -> int:
        """The column that is written next."""
        return len(self._out) - self._out.rfind("\n") - 1

    def _old_column(self, index: int) -> int:
        return index - self._text.rfind("\n", 0, index) - 1

    def _first(self, token: t.Token) -> bool:
        """Whether only white space stands before it in its line."""
        start = token.start_mark.index
        return not self._text[start - self._old_column(start) : start].strip()

    # --- columns

    def _enter_or_leave(self, token: t.Token) -> None:
        top = self._levels[-1].kind if self._levels else ""
        match token:
            case t.BlockMappingStartToken() | t.BlockSequenceStartToken():
                kind = "mapping" if isinstance(token, t.BlockMappingStartToken) else "sequence"
                # after a dash it begins in the dash's line
                new = self._inner if self._first(token) else self._at + 1
                self._levels.append(Level(token.start_mark.column, new, kind))
            case t.BlockEntryToken() if top == "mapping":
                self._levels.append(Level(token.start_mark.column, self._inner, "dashes"))
            case t.KeyToken() if top == "dashes" and not self._flow:
                self._levels.pop()
            case t.BlockEndToken():
                if top == "dashes":
                    self._levels.pop()
                self._levels.pop()

    @property
    def _inner(self) -> int:
        """The column of what belongs to the innermost open block."""
        return self._levels[-1].new + STEP if self._levels else 0

    def _column(self, token: t.Token) -> int:
        """Where it stands in the formatted text, should it be the first of its line."""
        old: int = token.start_mark.column
        if self._flow:
            return max(0, old + self._flow[0])
        if self._levels and old == self._levels[-1].old:
            return self._levels[-1].new
        return self._inner

    def _comment_column(self, old: int, token: t.Token | None, above: list[Level], column: int) -> int:
        """With the line that follows when it stands at its column, else with the block it stands in."""
        if old == (token.start_mark.column if token else 0):
            return column
        if self._flow:
            return max(0, old + self._flow[0])
        return next((level.new for level in reversed(above) if level.old <= old), 0)

    # --- what stands between two tokens

    def _between(self, token: t.Token | None, above: list[Level], column: int) -> None:
        index = self._end
        lines = self._text[index : token.start_mark.index if token else None].split("\n")
        if len(lines) == 1 and token and self._last:
            self._out += _space(self._last, token)
            return
        blanks = 0
        for number, line in enumerate(lines):
            comment = line.strip()
            old = self._old_column(index + len(line) - len(line.lstrip()))
            index += len(line) + 1
            if not comment:
                blanks += 0 < number < len(lines) - 1
            elif number == 0 and self._last:
                self._out += " " * max(1, old - self._at) + comment
            else:
                self._line(blanks, self._comment_column(old, token, above, column))
                self._out += comment
                blanks = 0
        self._line(blanks, column)

    def _line(self, blanks: int, column: int) -> None:
        if self._out:
            self._out += "\n" * (1 + (blanks if self._keep else min(blanks, 1)))
        self._out += " " * column

    # --- the tokens themselves

    def _body(self, token: t.Token) -> None:
        raw = self._text[token.start_mark.index : token.end_mark.index]
        self._end, self._keep = token.end_mark.index, False
        if not isinstance(token, t.ScalarToken):
            self._out += raw.rstrip()
        elif token.style in ("|", ">"):
            # the line breaks at its end are looked at with what follows
            content = re.sub(r"(\n[ \t]*)+$", "", raw)
            self._end -= len(raw) - len(content)
            self._keep = "+" in content.split("\n")[0].split("#")[0]
            self._out += self._block_scalar(content)
        elif "\n" in raw:
            first, *more = raw.split("\n")
            self._out += "\n".join([first.rstrip(), *(self._continued(line) for line in more)])
        elif token.style == "'" and not set('"\\') & set(token.value):
            self._out += f'"{token.value}"'
        else:
            self._out += raw

    def _continued(self, line: str) -> str:
        """A further line of a scalar; its white space at the start does not count."""
        words = line.lstrip()
        column = max(0, len(line) - len(words) + self._flow[0]) if self._flow else self._inner
        return " " * column + words if words else ""

    def _block_scalar(self, content: str) -> str:
        header, *lines = content.split("\n")
        indent = min((len(line) - len(line.lstrip(" ")) for line in lines if line.strip()), default=0)
        level = self._levels[-1] if self._levels else Level(0, 0)
        # an indentation that is told in the header is counted from the block around it
        told = any(sign.isdigit() for sign in header.split("#")[0])
        new = indent + level.new - level.old if told else level.new + STEP
        return "\n".join([header.rstrip(), *(" " * new + line[indent:] if line[indent:] else "" for line in lines)])


def _space(last: t.Token, token: t.Token) -> str:
    """Between two tokens of one line."""
    if isinstance(last, OPENING):
        return ""
    if isinstance(token, t.ValueToken):
        return " " if isinstance(last, t.AliasToken) else ""
    if isinstance(token, (t.FlowEntryToken, *CLOSING)):
        return " " if isinstance(last, t.ValueToken) else ""
    return " "

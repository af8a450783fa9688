"""YAML with positions: every key and value knows its place; what YAML 1.1 would silently change is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from gpuctl.spec.findings import Finding
from gpuctl.spec.resolved import SpecPath

Loc = tuple[str | int, ...]

# the scalars of YAML 1.2's core schema, and what YAML 1.1 makes of words and numbers that look harmless
WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
INTEGER = re.compile(r"[-+]?(0|[1-9]\d*)")
FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][-+]?\d+)")
TRAPS = (
    (re.compile(r"(?i)y|yes|on"), "true", "YAML 1.1 reads it as true"),
    (re.compile(r"(?i)n|no|off"), "false", "YAML 1.1 reads it as false"),
    (re.compile(r"0\d+"), "", "YAML 1.1 reads it as an octal number"),
    (re.compile(r"\d+(:[0-5]?\d)+"), "", "YAML 1.1 reads it as a number of base 60"),
)
# what YAML forbids, and what YAML 1.1 takes for the end of a line but editors do not
FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
# of which no setting has a use, not even escaped: names, paths and units break on them
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")
MAX_NODES = 500_000
# the spec itself has eight levels; PyYAML's composer overflows the stack of C somewhere beyond 20,000
MAX_DEPTH = 50


def dotted(loc: Loc) -> str:
    """``nodes.pools[0].memory``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


@dataclass
class Document:
    """Plain values, and where each of them (and each key) stands."""

    file: str
    value: Any = None
    values: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    # the nodes that have been met: one that is met again is an alias
    met: set[int] = field(default_factory=set, repr=False)

    def at(self, loc: Loc, *, key: bool = False) -> SpecPath:
        """The position of a value (or its key); of the nearest parent for what is not there."""
        known = self.keys if key else self.values
        for length in range(len(loc), -1, -1):
            place = known.get(loc[:length]) or self.values.get(loc[:length])
            if place:
                return SpecPath(self.file, *place, dotted(loc))
        return SpecPath(self.file, 1, 1, dotted(loc))

    def refuse(self, loc: Loc, rule: str, message: str, fix: str = "", *, key: bool = False) -> None:
        self.findings.append(Finding(self.at(loc, key=key), "error", rule, message, fix))

    def refuse_at(self, line: int, column: int, message: str, fix: str = "") -> None:
        """Where there is no value yet."""
        self.findings.append(Finding(SpecPath(self.file, line, column, ""), "error", "SPEC-01", message, fix))


def parse(text: str, file: str) -> Document:
    """The document; syntax errors, duplicate keys and traps are findings, never exceptions."""
    document = Document(file)
    if found := FORBIDDEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        document.refuse_at(line, column, f"the character U+{ord(found[0]):04X} does not belong here", "remove it")
        return document
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if mark := _too_deep(text, loader):
            document.refuse_at(mark.line + 1, mark.column + 1, "nested too deeply", "see examples/homelab.yaml")
            return document
        root = yaml.compose(text, loader)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        lines = text.split("\n")
        if line > len(lines):  # libyaml ends every file with a new line
            line, column = len(lines), len(lines[-1]) + 1
        problem = getattr(error, "problem", None) or str(error).splitlines()[0] if str(error) else "unreadable"
        document.refuse_at(line, column, f"this is not YAML: {problem}")
        return document
    if root is None:
        document.refuse((), "SPEC-01", "the file is empty", "see examples/homelab.yaml")
        return document
    budget = iter(range(MAX_NODES))
    try:
        document.value = _build(root, (), document, budget, frozenset())
    except StopIteration:
        document.refuse((), "SPEC-01", f"more than {MAX_NODES} values after expanding aliases")
    return document


def _too_deep(text: str, loader: Any) -> Any:
    """Where it is nested too deeply to be composed; None when it is not."""
    depth = 0
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return event.start_mark
    return None


def _build(node: Any, loc: Loc, document: Document, budget: Iterator[int], above: frozenset[int]) -> Any:
    next(budget)
    document.values[loc] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if id(node) in above:
        document.refuse(loc, "SPEC-01", "an alias contains itself", "write a plain value")
        return None
    if len(loc) > MAX_DEPTH:
        document.refuse(loc, "SPEC-01", "nested too deeply", "write it without aliases")
        return None
    inside = above | {id(node)}
    document.met.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, loc, document)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*loc, index), document, budget, inside) for index, item in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if key is None or key == "<<":
            at = SpecPath(document.file, *place, dotted(loc))
            wrong = "keys are plain words here (no merges, no lists)"
            document.findings.append(Finding(at, "error", "SPEC-01", wrong, "write the keys out, each with its value"))
            continue
        here = (*loc, str(key))
        if key in found:
            first = document.keys[here]
            at = SpecPath(document.file, *place, dotted(here))
            document.findings.append(
                Finding(
                    at, "error", "SPEC-02", f"the key {key!r} is given twice (first in line {first[0]})", "keep one"
                )
            )
            continue
        document.keys[here] = place
        alias = id(value_node) in document.met
        found[str(key)] = _build(value_node, here, document, budget, inside)
        if alias:  # its mark is the anchor's, and the fault may be this key's alone
            document.values[here] = place
    return found


def _scalar(node: Any, loc: Loc, document: Document) -> Any:
    text = str(node.value)
    if found := CONTROL.search(text):
        document.refuse(loc, "SPEC-01", f"the character U+{ord(found[0]):04X} does not belong here", "remove it")
        return None
    if node.style in ("'", '"', "|", ">"):
        return text
    if node.tag and not node.tag.startswith("tag:yaml.org,2002:"):
        document.refuse(loc, "SPEC-01", f"the tag {node.tag} is not known here", "write a plain value")
        return None
    if text in WORDS:
        return WORDS[text]
    for pattern, meaning, why in TRAPS:
        if pattern.fullmatch(text):
            fix = f"write {meaning}, or quote it: '{text}'" if meaning else f"quote it: '{text}'"
            document.refuse(loc, "SPEC-03", f"{text} is ambiguous: {why}", fix)
            return text
    if INTEGER.fullmatch(text):
        # longer ones are no count of anything, and Python refuses to convert very long ones
        return int(text) if len(text) < 30 else text
    if FLOAT.fullmatch(text):
        return float(text)
    return text

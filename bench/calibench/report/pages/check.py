"""What a check found as JSON, as Markdown and as a JUnit report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from tabulate import tabulate

from calibench.compare.gate import FAILED, PASSED, UNDECIDED, Checked, Finding, Outcome
from calibench.report.pages.markdown import escape
from calibench.report.writing.check_words import counted, judged, limited, seen

_SIGNS: Mapping[Outcome, str] = {PASSED: "✓", FAILED: "✗", UNDECIDED: "?"}
#: What XML 1.0 cannot hold, however it is escaped.
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_json(found: Checked) -> str:
    """The check as one JSON object; what could not be had is null, with a reason."""
    base = None if found.base is None else found.base.name
    content = {
        "outcome": found.outcome,
        "exit_code": found.exit_code,
        "records": found.new.name,
        "against": base,
        "findings": [_finding(finding) for finding in found.findings],
        "failed": [{"row": label, "message": message} for label, message in found.failed],
        "missing": list(found.missing),
        "added": list(found.added),
        "unraced": list(found.unraced),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _finding(finding: Finding) -> dict[str, Any]:
    limit = finding.limit
    return {
        "row": finding.label,
        "limit": {"kind": limit.kind, "name": limit.name, "amount": limit.amount},
        **vars(finding.seen),
        "n": finding.n,
        "unit": finding.unit,
        "basis": finding.basis,
        "outcome": finding.outcome,
        "judgement": finding.judgement,
        "needed": finding.needed,
    }


def as_markdown(found: Checked) -> str:
    """A heading, a line and a table, for a page of GitHub."""
    against = "" if found.base is None else f" against {escape(found.base.name)}"
    lines = [
        f"### {_SIGNS[found.outcome]} calibench check: {found.outcome}",
        f"{escape(found.new.name)}{against}: {counted(found)}.",
    ]
    cells = (
        (_SIGNS[item.outcome], item.label, limited(item.limit), seen(item), judged(item))
        for item in found.findings
    )
    rows = [[*map(escape, row)] for row in cells]
    if rows:
        heads = ["", "row", "limit", "seen", "outcome"]
        lines.append(tabulate(rows, headers=heads, tablefmt="pipe", disable_numparse=True))
    lines += [
        f"{_SIGNS[FAILED]} **{escape(label)}** failed: {escape(message)}" for label, message in found.failed
    ]
    for labels, words in (
        (found.missing, "Only in the base"),
        (found.added, "Not in the base"),
        (found.unraced, "Not raced"),
    ):
        if labels:
            lines.append(f"{words}: {escape(', '.join(labels))}.")
    return "\n\n".join(lines) + "\n"


def as_junit(found: Checked) -> str:
    """One test for each row and limit, by row; what is undecided is a skipped test, with what would tell."""
    counts = {
        "tests": len(found.findings) + len(found.failed),
        "failures": sum(finding.outcome == FAILED for finding in found.findings) + len(found.failed),
        "errors": 0,
    }
    attributes = {name: str(count) for name, count in counts.items()}
    skipped = str(sum(finding.outcome == UNDECIDED for finding in found.findings))
    # Jenkins' schema has `skipped` for a suite and not for all of them.
    root = ET.Element("testsuites", attributes)
    suite = ET.SubElement(
        root, "testsuite", {"name": _writable(found.new.name), **attributes, "skipped": skipped}
    )
    for finding in found.findings:
        case = _case(suite, finding.label, limited(finding.limit))
        if finding.outcome != PASSED:
            kind = "failure" if finding.outcome == FAILED else "skipped"
            ET.SubElement(case, kind, {"message": _writable(f"{seen(finding)}: {judged(finding)}")})
    for label, message in found.failed:
        ET.SubElement(_case(suite, label, "finishes"), "failure", {"message": _writable(message)})
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _case(suite: ET.Element, label: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", {"classname": _writable(label), "name": name})


def _writable(text: str) -> str:
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)

"""`zoo doctor`: what is wrong with this installation, and the command that mends it."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from zoo import doctor as zoo_doctor
from zoo.cli.shared import AsJson, emit, note, readable
from zoo.doctor import Facts, Finding, Level


@readable
def doctor(
    imports: Annotated[
        bool, typer.Option("--imports/--no-imports", help="Try to import each package, which takes a while.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Look for the known traps of an installation; exits with 1 when there is an error."""
    if imports and not as_json:
        note("Importing what is installed, in a process of its own; this takes up to a minute ...")
    facts = zoo_doctor.collect(imports=imports)
    findings = zoo_doctor.diagnose(facts)
    failed = any(finding.level is Level.error for finding in findings)
    if as_json:
        emit({"ok": not failed, "findings": [finding.to_dict() for finding in findings], "facts": facts.to_dict()})
    else:
        typer.echo(_text(facts, findings))
    if failed:
        raise typer.Exit(1)


def _text(facts: Facts, findings: list[Finding]) -> str:
    """Versions, then the findings, in 80 columns."""
    blocks = [_packages(facts), *map(_finding, findings)]
    counts = {level: sum(finding.level is level for finding in findings) for level in (Level.error, Level.warning)}
    blocks.append(", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items()) + ".")
    return "\n\n".join(blocks)


def _packages(facts: Facts) -> str:
    shown = [f"python {facts.python}", *(f"{name} {version}" for name, version in facts.packages.items())]
    return textwrap.fill(", ".join(shown), 80, break_long_words=False, break_on_hyphens=False)


def _finding(finding: Finding) -> str:
    lines = [_wrap(f"{finding.level}: {finding.what}", "")]
    if finding.why:
        lines.append(_wrap(finding.why, "  "))
    if finding.mend:
        # Never wrapped: it is there to be copied.
        lines.append(f"  mend: {finding.mend}")
    return "\n".join(lines)


def _wrap(text: str, indent: str) -> str:
    return textwrap.fill(
        text,
        80,
        initial_indent=indent,
        subsequent_indent=indent or "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )

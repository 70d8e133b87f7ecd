"""What lint found: findings by weight, as a table of 80 columns or as JSON types."""

from __future__ import annotations

import dataclasses
import textwrap
from dataclasses import dataclass
from typing import Any, Literal

from zoo.errors import DataError

Level = Literal["error", "warning", "note"]
_ORDER: tuple[Level, ...] = ("error", "warning", "note")
_WIDTH = 80


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was noticed in data.

    level: "error" where training can't be right, "warning" where it is likely worse than it could be, "note" else.
    kind: a short name that stays: "duplicate-rows", "label-imbalance", ...
    message: what was found, with its count. advice: what to do about it.
    count: of the rows concerned. rows: the places of the first of them, as a person would look for them.
    """

    level: Level
    kind: str
    message: str
    advice: str = ""
    count: int = 0
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class LintReport:
    """What `zoo.lint` found. task: what the data was read for; train, val: how many rows each has."""

    task: str
    train: int
    val: int | None
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        return self._of("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return self._of("warning")

    @property
    def ok(self) -> bool:
        """Whether training can be right: there are no errors."""
        return not self.errors

    def raise_for_errors(self) -> None:
        """Raise DataError with every error, when there is one."""
        if self.errors:
            raise DataError("\n".join(_one_line(finding) for finding in self.errors))

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return {"ok": self.ok, **dataclasses.asdict(self)}

    def __str__(self) -> str:
        counted = f"{self.train:,} rows" + (f", {self.val:,} to validate on" if self.val is not None else "")
        head = f"{self.task}: {counted}"
        if not self.findings:
            return f"{head}. Nothing to remark."
        blocks = [_block(finding) for level in _ORDER for finding in self._of(level)]
        counts = [f"{len(self._of(level))} {level}{'s' * (len(self._of(level)) != 1)}" for level in _ORDER]
        return "\n".join([head, *blocks, ", ".join(counts) + "."])

    def _of(self, level: Level) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == level)


def weight_of(count: int, total: int, share: float = 0.01) -> Level:
    """The level of what does no harm where it is rare: a warning from this share of the rows."""
    return "warning" if count > share * total else "note"


def _block(finding: Finding) -> str:
    lines = [_wrap(f"{finding.level:<8} {finding.message}", " " * 9)]
    if finding.rows:
        lines.extend(f"{' ' * 9}- {row}" for row in finding.rows)
    if finding.advice:
        lines.append(_wrap(f"{' ' * 9}{finding.advice}", " " * 9))
    return "\n".join(lines)


def _one_line(finding: Finding) -> str:
    where = f" ({'; '.join(finding.rows)})" if finding.rows else ""
    return f"{finding.message}{where} {finding.advice}".strip()


def _wrap(text: str, indent: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)

"""The figures of a reduced precision as text."""

from __future__ import annotations

from zoo.bundle import Attempt, Quality


def explain(quality: Quality) -> str:
    """A few lines: what was kept and what it costs and gains, or why nothing was; then every way that was tried."""
    return "\n".join([_first(quality), *(_line(quality.metric, attempt) for attempt in quality.tried), *_last(quality)])


def _first(quality: Quality) -> str:
    if not quality.passed:
        return (
            f"No reduced precision was good enough, so nothing was kept. {quality.metric} may drop by "
            f"{_amount(quality, quality.max_drop)}, and it must be faster than fp32:"
        )
    drop, after = quality.drop or 0.0, quality.bytes_after or 0
    return (
        f"{quality.way}: {quality.metric} {quality.before:.4f} -> {quality.after:.4f} on {quality.rows} rows (drop "
        f"{_amount(quality, drop)}, allowed {_amount(quality, quality.max_drop)}), {_speed(quality)} as fast "
        f"as fp32 on {quality.device}, {quality.bytes_before / 1e6:.1f} -> {after / 1e6:.1f} MB, "
        f"{_left_out(len(quality.left_out))}."
    )


def _line(metric: str, attempt: Attempt) -> str:
    text = f"  {attempt.way}: {attempt.verdict}"
    if attempt.speed is not None and attempt.bytes is not None:
        text += (
            f"; {metric} {attempt.before:.4f} -> {attempt.after:.4f} where it was searched, {_speed(attempt)} "
            f"as fast, {attempt.bytes / 1e6:.1f} MB, {_left_out(attempt.left_out)}"
        )
    return text


def _last(quality: Quality) -> list[str]:
    found = []
    if quality.rows * quality.max_drop < 1 and not quality.relative:
        found.append(f"One of {quality.rows} rows is more than {quality.max_drop:g}: more rows would judge better.")
    if not quality.passed:
        found.append("Allow more with max_drop=, give more data, or export in fp32.")
    return found


def _speed(found: Quality | Attempt) -> str:
    text = f"{found.speed:.2f} times"
    return f"{text} ({found.speed_between[0]:.2f} to {found.speed_between[1]:.2f})" if found.speed_between else text


def _left_out(count: int) -> str:
    return f"{count} operator{'s' * (count != 1)} left in fp32" if count else "nothing left out"


def _amount(quality: Quality, drop: float) -> str:
    return f"{drop:.1%}" if quality.relative else f"{drop:.4g}"

"""The pieces of a page that stands alone: sections, tables, plots, one look. What is given is text, and is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape


def page(title: str, sections: Iterable[str]) -> str:
    """A whole page. Empty sections are left out."""
    return _PAGE.format(title=escape(title), body="\n".join(filter(None, sections)))


def section(title: str, body: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, foot: Sequence[Sequence[str]] = ()) -> str:
    """The first column is names, all others are figures."""
    body = "\n".join(_line(row, "td") for row in rows)
    end = "<tfoot>" + "\n".join(_line(row, "td") for row in foot) + "</tfoot>" if foot else ""
    return f"<table>\n<thead>{_line(header, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n{end}</table>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what is to be said of them, as text that may be long. Rows without text are left out."""
    lines = (f'<dt>{escape(name)}</dt><dd dir="auto">{escape(text)}</dd>' for name, text in rows if text)
    return "<dl>\n" + "\n".join(lines) + "\n</dl>"


def paragraph(text: str) -> str:
    return f'<p dir="auto">{escape(text)}</p>'


def bullets(items: Sequence[str]) -> str:
    return "<ul>" + "\n".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def embedded(title: str, png: bytes) -> str:
    data, name = base64.b64encode(png).decode("ascii"), escape(title)
    return f'<figure><figcaption>{name}</figcaption><img alt="{name}" src="data:image/png;base64,{data}"></figure>'


def _line(cells: Sequence[str], tag: str) -> str:
    # dir: a label from right to left does not turn the line around.
    return "<tr>" + "".join(f'<{tag} dir="auto">{escape(cell)}</{tag}>' for cell in cells) + "</tr>"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c2730; --soft: #5d6b76; --line: #d9e0e5; --paper: #fff; --back: #f3f6f8; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e4e9ed; --soft: #9aa7b1; --line: #36424c; --paper: #161c21; --back: #1f272e; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
html, body {{ color: var(--ink); background: var(--paper); }}
h1 {{ font-size: 1.5rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .25rem .9rem; border-bottom: 1px solid var(--line); text-align: right; }}
th, td:not(:first-child) {{ white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
tfoot td {{ font-weight: 600; }}
dl {{ display: grid; grid-template-columns: minmax(6rem, 20%) 1fr; gap: .3rem 1rem; margin: 0; }}
dt {{ color: var(--soft); }}
dd {{ margin: 0; min-width: 0; overflow-wrap: anywhere; white-space: pre-line; }}
pre {{ background: var(--back); border-radius: 6px; padding: .7rem .9rem; overflow-x: auto; font-size: 13px; }}
p {{ max-width: 46rem; }}
figure {{ display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; }}
figcaption {{ font-weight: 600; }}
img {{ max-width: 100%; height: auto; }}
section {{ overflow-x: auto; }}
</style>
</head>
<body>
<h1 dir="auto">{title}</h1>
{body}
</body>
</html>
"""

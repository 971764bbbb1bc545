"""HTML pages that are one file: styles and SVG plots are inside, nothing is loaded."""

import base64
import html
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib import pyplot as plt

from tabserve.errors import printable

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "figure.constrained_layout.use": True,
    "font.size": 9,
}

CSS = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c0392b; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } .note { opacity: .75; }
table { border-collapse: collapse; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); }
figure { background: #fff; border-radius: .5rem; margin: 0; padding: .5rem; } figure img { width: 100%; }
.wide { overflow-x: auto; }
"""

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{style}</style></head>
<body>
<h1>{title}</h1>
<p class="note">{note}</p>
{body}
</body></html>
"""


def text(value: str) -> str:
    """A text as HTML."""
    return html.escape(printable(value))


def figure(draw: Callable[..., None], *arguments: Any, height: float = 3.4) -> str:
    """What `draw(axes, *arguments)` draws, as an HTML figure."""
    matplotlib.use("agg")
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Only the width of such a letter is unknown here; the browser draws it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn, axes = plt.subplots(figsize=(4.6, height))
        draw(axes, *arguments)
        file = io.StringIO()
        drawn.savefig(file, format="svg", metadata={"Date": None})
        plt.close(drawn)
        title = axes.get_title()
    image = base64.b64encode(file.getvalue().encode()).decode()
    return f'<figure><img alt="{text(title)}" src="data:image/svg+xml;base64,{image}"></figure>'


def document(title: str, note: str, body: Iterable[str]) -> str:
    """A whole page; title and note are texts, the body is HTML."""
    return PAGE.format(title=text(title), note=text(note), style=CSS, body="\n".join(body))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], scored: bool = False) -> str:
    """A table; if `scored`, two columns of numbers follow the first, then one of yes (good) or no (bad)."""

    def cell(tag: str, position: int, content: str) -> str:
        kind = "number" if scored and position in (1, 2) else ""
        if scored and tag == "td" and position == 3:
            kind = "good" if content == "yes" else "bad"
        return f"<{tag}{f' class={kind!r}' if kind else ''}>{text(content)}</{tag}>"

    lines = [("th", head), *(("td", row) for row in rows)]
    cells = ["".join(cell(tag, position, content) for position, content in enumerate(row)) for tag, row in lines]
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"

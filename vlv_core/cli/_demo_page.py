"""The page of `vlv demo`: one HTML file, pictures inline, nothing fetched."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from PIL import Image

from vlv_core.evaluation import TITLES, interval, tables
from vlv_core.strips import png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vlv_core.evaluation import Report
    from vlv_core.strips import Line, Row

STYLE = """\
:root { color-scheme: light dark; --page: #fafaf8; --card: #fff; --ink: #1c1c1a; --soft: #6a6a64;
  --line: #e2e2dc; --right: #1a7f37; --wrong: #c62828; --note: #fff6dc; }
@media (prefers-color-scheme: dark) { :root { --page: #171715; --card: #21211e; --ink: #ecece6;
  --soft: #a0a098; --line: #3a3a35; --right: #5fd07e; --wrong: #ff8a80; --note: #39331c; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.6rem 0 .8rem }
p { max-width: 46rem } .soft { color: var(--soft) }
.domain { background: var(--note); border-radius: .5rem; padding: .7rem 1rem; max-width: none }
.cards { display: grid; gap: .9rem; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)) }
.rows { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)) }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: .7rem; display: flex; flex-direction: column; gap: .5rem }
figcaption { font-size: .85rem; overflow-wrap: anywhere }
.row { flex-flow: row wrap; align-content: start } .row div { flex: 1 1 0 }
.row figcaption { flex: 1 1 100% }
img { image-rendering: pixelated; display: block; border-radius: .3rem; width: 100%;
  border: 1px solid var(--line) }
.titled { font-size: .75rem; color: var(--soft) }
.right { color: var(--right) } .wrong { color: var(--wrong) }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; width: 100% }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; font-variant-numeric: tabular-nums } th { color: var(--soft) }
"""


@dataclass(frozen=True)
class Demo:
    """What the page shows."""

    model: str
    domain: str
    rows: Sequence[Row]
    """bundled pictures with captions; some with two drawings after the original"""
    references: Sequence[str | None]
    """true captions of the rows"""
    report: Report
    marked: Sequence[Row]
    """what evaluators showed"""
    seconds: float


def page(demo: Demo) -> str:
    """The whole HTML file."""
    redrawn = [row for row in demo.rows if len(row.pictures) > 1]
    sections = [
        f"<h1>vlv demo: {escape(demo.model)}</h1>",
        f'<p class="soft">Made in {demo.seconds:.0f} s by <code>vlv demo</code>.</p>',
        f'<p class="domain"><b>What this model has seen:</b> {escape(demo.domain)}</p>',
        f"<h2>{len(demo.rows)} pictures captioned</h2>",
        "<p>Pictures that the model was not trained on; its caption stands below each.</p>",
        _cards(demo),
        f"<h2>{len(redrawn)} pictures redrawn</h2>",
        "<p>From the caption embedding the frozen text-to-image model draws the picture again; "
        "from the caption it has the words alone.</p>",
        _strips(redrawn),
        *_measured(demo),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>vlv demo</title><style>\n{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(sections)
        + "\n</main></body></html>\n"
    )


def _cards(demo: Demo) -> str:
    cards = []
    for row, reference in zip(demo.rows, demo.references, strict=True):
        true = (
            "" if reference is None else f'<br><span class="soft">true: {escape(reference)}</span>'
        )
        words = f"<figcaption>{escape(row.lines[0].text)}{true}</figcaption>"
        cards.append(f"<figure>{_image(row.pictures[0])}<figcaption>{words}</figcaption></figure>")
    return f'<div class="cards">{"".join(cards)}</div>'


def _strips(rows: Sequence[Row]) -> str:
    return f'<div class="rows">{"".join(map(_strip, rows))}</div>'


def _strip(row: Row) -> str:
    titled = zip(TITLES, row.pictures, strict=False)
    pictures = "".join(
        f'<div>{_image(each)}<span class="titled">{title}</span></div>' for title, each in titled
    )
    words = "<br>".join(map(_line, row.lines))
    return f'<figure class="row">{pictures}<figcaption>{words}</figcaption></figure>'


def _line(line: Line) -> str:
    if line.right is None:
        return escape(line.text)
    kind, mark = ("right", "\u2713") if line.right else ("wrong", "\u2717")
    return f'<span class="{kind}">{mark} {escape(line.text)}</span>'


def _measured(demo: Demo) -> Iterable[str]:
    yield "<h2>Measured</h2>"
    yield '<p class="soft">In brackets: 95 % intervals by bootstrap over pictures.</p>'
    for table in tables(demo.report):
        head = "".join(f"<th>{escape(name)}</th>" for name in (table.title, *table.columns))
        body = "".join(
            f"<tr><td>{escape(name)}</td>{''.join(f'<td>{interval(c)}</td>' for c in cells)}</tr>"
            for name, cells in table.rows.items()
        )
        yield f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div><br>'
    if demo.marked:
        yield "<h2>Some of these, statement by statement</h2>"
        yield _strips(demo.marked)


def _image(picture: NDArray[np.uint8]) -> str:
    data = base64.b64encode(png(Image.fromarray(picture))).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'

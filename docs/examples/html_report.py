"""One HTML file with its figures inside, readable without a network and on a narrow window."""

import base64
import html
import io
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.2 } h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem }
pre { background: #f4f4f4; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere }
figure { margin: 1.5rem 0 } img { max-width: 100%; height: auto } figcaption { color: #555; font-size: .9rem }
"""


class Section(NamedTuple):
    """A heading, a paragraph, lines of results, and figures by their caption."""

    title: str
    text: str
    lines: list[str]
    figures: dict[str, "Figure"]


def html_report(title: str, sections: list[Section]) -> str:
    """The page as a string; figures are embedded as PNG."""
    body = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>")
        body.append(f"<pre>{html.escape(chr(10).join(section.lines))}</pre>")
        for caption, figure in section.figures.items():
            words = html.escape(caption.replace("_", " "))
            body.append(
                f'<figure><img alt="{words}" src="{_embedded(figure)}"><figcaption>{words}</figcaption></figure>'
            )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html><html lang="en"><head>{head}<title>{html.escape(title)}</title><style>{STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def _embedded(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

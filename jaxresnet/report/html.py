"""A Markdown report as one HTML file that needs no other: plots and style are in it."""

import base64
import html
import re
from pathlib import Path

from markdown_it import MarkdownIt

_STYLE = """
:root { --text: #1d2329; --soft: #5b6670; --line: #d9dee3; --ground: #ffffff; --band: #f5f7f9;
  --link: #0a5fa8; }
@media screen and (prefers-color-scheme: dark) { :root { color-scheme: dark; --text: #e4e8ec;
  --soft: #9aa6b2; --line: #38424c; --ground: #14191e; --band: #1c2329; --link: #7ab8f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 2rem 1.25rem 4rem; background: var(--ground);
  color: var(--text); font: 1rem/1.6 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; line-height: 1.2; } h2 { margin-top: 3rem; padding-top: 1rem;
  border-top: 1px solid var(--line); font-size: 1.4rem; } h3 { font-size: 1.05rem; }
a { color: var(--link); } em { color: var(--soft); }
img { display: block; width: 100%; max-width: 48rem; margin: 1rem auto; background: #ffffff; }
.table { overflow-x: auto; margin: 1rem 0; } table { border-collapse: collapse; font-size: .875rem;
  font-variant-numeric: tabular-nums; } th, td { padding: .3rem .6rem; white-space: nowrap; }
th { border-bottom: 2px solid var(--line); vertical-align: bottom; white-space: normal; }
tr { background: var(--ground); } tbody tr:nth-child(even) { background: var(--band); }
td { border-bottom: 1px solid var(--line); } code { font-size: .9em; }
tr > :first-child { position: sticky; left: 0; background: inherit; white-space: normal; }
@media (max-width: 40rem) { body { padding: 1rem .75rem 3rem; } h1 { font-size: 1.5rem; }
  table { width: max-content; overflow-wrap: normal; } th, tr > :first-child { max-width: 9rem; } }
@media print { body { max-width: none; padding: 0; } table { font-size: .7rem; }
  td { white-space: normal; } .table, tr, img { break-inside: avoid; } img { max-width: 32rem; }
  h2, h3 { break-after: avoid; } }
"""


def to_html(markdown: str, title: str, directory: Path) -> str:
    """The page; images that the Markdown names are read from the directory."""
    body = MarkdownIt("commonmark").enable("table").render(markdown)
    body = re.sub(r'src="([^":]+)"', lambda match: f'src="{_embed(directory / match[1])}"', body)
    body = body.replace("<table>", '<div class="table" tabindex="0"><table>')
    body = body.replace("</table>", "</table></div>")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}</body>\n</html>\n"
    )


def _embed(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()

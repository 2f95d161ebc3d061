"""quarantine.html: what was refused on the way in, by reason, with the pictures that could be made.

One file that needs no other, runs nothing and fetches nothing; whatever an image or a table calls itself is shown as
text.
"""

import base64
import html
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from explorer import survey as layout
from models import artifacts

#: Images shown of one reason, and reasons shown.
SHOWN = 200
REASONS = 100
#: Characters shown of a name.
NAME = 120

_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")
_SEVERAL = re.compile(r"…(?:[,\s]+…)+")
_QUOTED = re.compile(r"(?<!\w)(['\"]).*?\1(?!\w)", re.DOTALL)


@dataclass(slots=True)
class _Reason:
    """Images refused alike.

    Attributes
    ----------
    title
        The first one's reason.
    is_one
        Whether all have the same words; else they differ in numbers or names.
    shown
        The first `SHOWN`, those with a picture before the others.
    """

    title: str
    n: int = 0
    is_one: bool = True
    pictured: list[dict[str, Any]] = field(default_factory=list)
    plain: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        self.n += 1
        self.is_one &= row["reason"] == self.title
        held = self.pictured if row["thumbnail"] else self.plain
        if len(held) < SHOWN:
            held.append(row)


def write_report(path: Path, name: str, n_subjects: int) -> Path | None:
    """Write ``quarantine.html`` of the survey folder `path` from its quarantine.parquet; None where that has no row."""
    reasons: dict[str, _Reason] = {}
    n = 0
    with pq.ParquetFile(path / layout.QUARANTINE) as quarantine:
        for batch in quarantine.iter_batches(1024):
            for row in batch.to_pylist():
                key = _SEVERAL.sub("…", _QUOTED.sub("…", _NUMBER.sub("…", row["reason"])))
                if key not in reasons and len(reasons) >= REASONS:
                    key = ""
                reasons.setdefault(key, _Reason(row["reason"] if key else "other reasons")).add(row)
                n += 1
    if n == 0:
        return None
    ordered = sorted(reasons.items(), key=lambda item: (item[0] == "", -item[1].n))
    sections = [(key or "other reasons" if not reason.is_one else reason.title, reason) for key, reason in ordered]
    total = n + n_subjects
    most = max(reason.n for _, reason in sections)
    listed = "\n".join(
        f'<li><a href="#r{i}"><span class="bar" style="width:{100 * reason.n / most:.2f}%"></span>'
        f'<span class="k">{reason.n:,}</span><span>{text(title, 300)}</span></a></li>'
        for i, (title, reason) in enumerate(sections)
    )
    body = "\n".join(_section(i, title, reason, n) for i, (title, reason) in enumerate(sections))
    page = _PAGE.format(
        name=text(name),
        style=_STYLE,
        n=f"{n:,}",
        total=f"{total:,}",
        share=f"{100 * n / total:.2g}",
        reasons=listed,
        body=body,
        n_reasons=f"{len(sections)} reason{'s' * (len(sections) != 1)}",
    )
    artifacts.write_bytes(path / layout.REPORT, page.encode())
    return path / layout.REPORT


def text(value: str, most: int = NAME) -> str:
    """Any text, harmless in HTML and on one line: cut in the middle with …, control characters spelled out."""
    if len(value) > most:
        value = value[: most * 2 // 3] + "…" + value[-(most // 3) :]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return html.escape(shown.encode("utf-8", "replace").decode())


def _section(i: int, title: str, reason: _Reason, n: int) -> str:
    pictured = reason.pictured[:SHOWN]
    plain = reason.plain[: SHOWN - len(pictured)]
    cards = "".join(
        f"<li>{_picture(row['thumbnail'])}{_name(row, None if reason.is_one else title)}</li>" for row in pictured
    )
    names = "".join(f"<li>{_name(row, None if reason.is_one else title)}</li>" for row in plain)
    left = reason.n - len(pictured) - len(plain)
    return (
        f'<section id="r{i}"><h2>{text(title, 300)}</h2><p class="count">{reason.n:,} of {n:,}</p>'
        + (f'<ul class="cards">{cards}</ul>' if cards else "")
        + (f'<ul class="names">{names}</ul>' if names else "")
        + (f'<p class="more">and {left:,} more: {layout.QUARANTINE} has them all</p>' if left else "")
        + "</section>"
    )


def _picture(jpeg: bytes) -> str:
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'


def _name(row: dict[str, Any], title: str | None) -> str:
    source, source_id = row["source"] or "", row["source_id"] or ""
    told = [f'<span class="source">{text(source or source_id)}</span>']
    if source and source_id and source_id not in source:
        told.append(f'<span class="id">{text(source_id)}</span>')
    if title is not None:
        told.append(f'<span class="why">{text(_particular(row["reason"], title), 200)}</span>')
    return "".join(told)


def _particular(reason: str, title: str) -> str:
    """What tells a reason from others like it: from three words before the title has … in its place."""
    alike, parts, _ = title.partition("…")
    return " ".join([*alike.split()[-3:], reason[len(alike) :]]) if parts else reason


_STYLE = """
:root { color-scheme: dark; }
* { box-sizing: border-box; margin: 0; }
html { scroll-behavior: smooth; }
body { background: #101418; color: #d5dbe1; font: 15px/1.55 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 56px 32px 96px; }
h1 { font-size: 26px; line-height: 1.3; font-weight: 600; color: #f2f5f7; letter-spacing: -.01em; }
h1 + p { margin-top: 8px; color: #93a1ad; max-width: 70ch; }
.eyebrow { color: #93a1ad; font-size: 13px; margin-bottom: 6px; overflow-wrap: anywhere; }
nav { margin: 36px 0 24px; }
ul { list-style: none; padding: 0; }
nav a { position: relative; display: grid; grid-template-columns: 84px 1fr; gap: 18px; padding: 9px 14px 9px 0;
  color: inherit; text-decoration: none; border-radius: 6px; overflow: hidden; overflow-wrap: anywhere; }
nav a > * { position: relative; }
nav a .bar { position: absolute; inset: 0 auto 0 0; background: #1b252e; border-radius: 6px; min-width: 4px; }
nav a:hover .bar { background: #243442; }
nav a:focus-visible { outline: 2px solid #7fb3d5; outline-offset: 1px; }
nav li + li { margin-top: 3px; }
.k { text-align: right; font-variant-numeric: tabular-nums; color: #f2f5f7; font-weight: 600; }
section { border-top: 1px solid #25303a; padding-top: 26px; margin-top: 44px; scroll-margin-top: 12px; }
h2 { font-size: 17px; line-height: 1.4; font-weight: 600; color: #f2f5f7; overflow-wrap: anywhere; max-width: 80ch; }
h2::first-letter { text-transform: uppercase; }
.count, .more { color: #93a1ad; font-size: 13px; font-variant-numeric: tabular-nums; margin-top: 2px; }
.more { margin-top: 16px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); gap: 20px 16px;
  margin-top: 20px; }
.cards img { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; background: #05070a; border-radius: 6px;
  margin-bottom: 8px; image-rendering: auto; }
.names { columns: 3 260px; column-gap: 32px; margin-top: 16px; }
.names li { break-inside: avoid; padding: 3px 0; }
.source, .id, .why { display: block; overflow-wrap: anywhere; font-size: 12.5px; line-height: 1.4; }
.id, .why { color: #93a1ad; }
@media (max-width: 600px) { main { padding: 32px 18px 64px; } nav a { grid-template-columns: 56px 1fr; gap: 12px; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: quarantine</title>
<style>{style}</style>
</head>
<body>
<main>
<p class="eyebrow">{name} · quarantine</p>
<h1>{n} of {total} images could not be used</h1>
<p>{n_reasons}. The others are subjects of the survey; nothing was changed or removed at the source.</p>
<nav aria-label="Reasons"><ul>
{reasons}
</ul></nav>
{body}
</main>
</body>
</html>
"""

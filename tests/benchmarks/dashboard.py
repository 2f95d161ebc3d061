"""What a run of the benchmarks prints: its rows, the table of the map at any scale, what changed since another run."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table

from tests.benchmarks.row import Row

SIZES = ("1.5 M", "10 M", "100 M")
#: Lines of the table of the map at any scale, each with the row that has its figure at each size: the first that was
#: measured.
LINES: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("wheel step to painted, p50", (("map-wheel", "scale-1500k-wheel"), ("scale-10m-wheel",), ("scale-100m-wheel",))),
    ("pan to painted, p50", (("map-pan", "scale-1500k-pan"), ("scale-10m-pan",), ("scale-100m-pan",))),
    ("frames painted in a 3 s drag", (("map-drag", "scale-1500k-drag"), ("scale-10m-drag",), ("scale-100m-drag",))),
    ("color by another column", (("color", "scale-1500k-color"), ("scale-10m-color",), ("scale-100m-color",))),
    ("λ step", (("color-lambda", "scale-1500k-lambda"), ("scale-10m-lambda",), ("scale-100m-lambda",))),
    (
        "lasso of 100 vertices to exact count and gallery's first page",
        (("lasso", "scale-1500k-lasso"), ("scale-10m-lasso",), ("scale-100m-lasso",)),
    ),
    ("hover to thumbnail", (("hover", "scale-1500k-hover"), ("scale-10m-hover",), ("scale-100m-hover",))),
    (
        "200 thumbnails, click to painted",
        (("thumbnails", "scale-1500k-thumbnails"), ("scale-10m-thumbnails",), ("scale-100m-thumbnails",)),
    ),
    (
        "RssAnon of the server after warm-up",
        (("scale-1500k-memory",), ("scale-10m-memory",), ("scale-100m-memory",)),
    ),
    (
        "index + pyramid build",
        (("index-1500k", "scale-1500k-index"), ("index-10m", "scale-10m-index"), ("index-100m", "scale-100m-index")),
    ),
)
#: A change below this share is none, however little two runs scatter.
FLOOR = 0.03
#: … and where single measurements were not kept, it takes this much.
FLOOR_UNKNOWN = 0.15

Verdict = Literal["better", "worse", "within noise"]


def figure(value: float) -> str:
    """Three digits that count: 0.0123, 4.56, 1,230."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def wanted(row: Row) -> str:
    """What a row is held to: "≤ 45 ms, ≥ 20×"; "" where it is held to nothing."""
    parts = []
    if row.limit is not None:
        parts.append(f"{'≤' if row.better == 'lower' else '≥'} {row.limit:,g} {row.unit}")
    if row.target is not None:
        parts.append(f"≥ {row.target:.3g}×")
    return ", ".join(parts)


def table(rows: list[Row], failures: dict[str, str]) -> Table:
    """Every row beside its alternative."""
    view = Table(title="ratio > 1: ours is better", title_justify="left")
    for column in ("row", "what", "ours", "alternative", "", "ratio", "held to", ""):
        right = column in ("ours", "ratio", "held to")
        view.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        what = f"{row.what}; {row.note}" if row.note else row.what
        met = {None: "", True: "met", False: "[red]missed[/red]"}[row.is_met]
        ours, theirs = f"{figure(row.ours)} {row.unit}", f"{figure(row.theirs)} {row.unit}"
        view.add_row(row.name, what, ours, theirs, row.alternative, f"{figure(row.ratio)}×", wanted(row), met)
    for name, reason in failures.items():
        view.add_row(name, f"[red]failed: {reason}[/red]", *[""] * 6)
    return view


# ------------------------------------------------------------------------------------------------ the map at any scale
def cells(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The lines of `LINES` at each size, as they stand in the JSON: ``row`` is None where none was measured."""
    by_name = {row.name: row for row in rows}
    told = []
    for line, names_by_size in LINES:
        for size, names in zip(SIZES, names_by_size, strict=True):
            row = next((by_name[name] for name in names if name in by_name), None)
            cell: dict[str, Any] = {"line": line, "size": size, "row": row and row.name}
            if row is not None:
                cell |= {"ours": row.ours, "unit": row.unit, "ratio": row.ratio}
                cell |= {"wanted": wanted(row), "is_met": row.is_met}
            told.append(cell)
    return told


def scale_table(rows: list[Row]) -> Table | None:
    """The table of the map at any scale beside its targets, or None where nothing of it was measured."""
    told = cells(rows)
    if not any(cell["row"] for cell in told):
        return None
    view = Table(title="The map at any scale", title_justify="left")
    view.add_column("")
    for size in SIZES:
        view.add_column(f"at {size}", justify="right")
        view.add_column("wanted")
    for line, _ in LINES:
        texts: list[str] = []
        for cell in (cell for cell in told if cell["line"] == line):
            if cell["row"] is None:
                texts += ["[dim]not run[/dim]", ""]
                continue
            mark = {None: "", True: " met", False: " [red]missed[/red]"}[cell["is_met"]]
            texts += [f"{figure(cell['ours'])} {cell['unit']} ({figure(cell['ratio'])}×)", f"{cell['wanted']}{mark}"]
        view.add_row(line, *texts)
    return view


def markdown(told: list[dict[str, Any]]) -> str:
    """The same of `cells`, for a README."""
    lines = ["| | " + " | ".join(f"at {size} | wanted" for size in SIZES) + " |", "|---" * (1 + 2 * len(SIZES)) + "|"]
    for line, _ in LINES:
        texts = []
        for cell in (cell for cell in told if cell["line"] == line):
            if cell["row"] is None:
                texts += ["not run", ""]
                continue
            ratio = f" ({figure(cell['ratio'])}×)" if "×" in cell["wanted"] else ""
            mark = ": missed" if cell["is_met"] is False else ""
            texts += [f"{figure(cell['ours'])} {cell['unit']}{ratio}", f"{cell['wanted']}{mark}"]
        lines.append(f"| {line} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------- two runs
@dataclass(frozen=True, slots=True)
class Change:
    """What became of a row between two runs.

    Attributes
    ----------
    ours, theirs
        How many times better each figure is than it was; the alternative's code is the same, so `theirs` is what the
        machine did.
    net
        `ours` over `theirs`: the change of the ratio.
    low, high
        Where 95 % of `net` lie when the single measurements of both runs are drawn anew; None where they were not kept.
    """

    name: str
    before: Row
    after: Row
    ours: float
    theirs: float
    net: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where ours and the ratio say so both: a busy machine slows some more than others."""
        if self.low is None or self.high is None:
            low = high = self.net
            floor = 1 + FLOOR_UNKNOWN
        else:
            low, high, floor = self.low, self.high, 1 + FLOOR
        if low > floor and self.ours > floor:
            return "better"
        return "worse" if high < 1 / floor and self.ours < 1 / floor else "within noise"


def measurements(row: Row) -> tuple[list[float], list[float]]:
    """The single measurements of ours and of the alternative; [] where they were not kept."""

    def kept(each: list[float], who: str) -> list[float]:
        found = each or next((row.extra[key] for key in (f"{who}_ms", f"{who}_s") if key in row.extra), [])
        return [float(v) for v in found] if isinstance(found, list) and len(found) > 2 else []

    return kept(row.each, "ours"), kept(row.theirs_each, "theirs")


def change(before: Row, after: Row, *, draws: int = 2000) -> Change:
    """`after` beside `before`: two rows of the same name.

    An alternative of which single measurements are not kept (a limit, a constant) counts as exact.
    """
    # a ratio is better when it is higher, whatever the unit: of times, theirs / ours
    sign = -1.0 if _is_lower_better(after) else 1.0
    log_ours = sign * np.log(max(after.ours, 1e-12) / max(before.ours, 1e-12))
    log_theirs = sign * np.log(max(after.theirs, 1e-12) / max(before.theirs, 1e-12))
    low = high = None
    (a, x), (b, y) = measurements(before), measurements(after)
    if a and b:
        rng = np.random.default_rng(0)

        def medians(values: list[float]) -> np.ndarray:
            drawn = np.median(rng.choice(np.asarray(values), (draws, len(values))), axis=1)
            return np.log(np.maximum(drawn, 1e-12) / max(statistics.median(values), 1e-12))

        off = medians(b) - medians(a)
        if x and y:
            off = off - (medians(y) - medians(x))
        low, high = (float(v) for v in np.exp(log_ours - log_theirs + np.quantile(off, (0.025, 0.975))))
    net = float(np.exp(log_ours - log_theirs))
    return Change(after.name, before, after, float(np.exp(log_ours)), float(np.exp(log_theirs)), net, low, high)


def _is_lower_better(row: Row) -> bool:
    """Whether smaller figures are better ones: told by the ratio, and where that is 1, by the row."""
    if row.ours > 0 and row.theirs > 0 and abs(np.log(row.theirs / row.ours)) > 1e-9:
        return abs(np.log(row.ratio * row.ours / row.theirs)) < abs(np.log(row.ratio * row.theirs / row.ours))
    return row.better == "lower"


def read_rows(record: dict[str, Any]) -> list[Row]:
    """The rows of a kept run, of any version of `Row`."""
    known = {field.name for field in fields(Row)}
    return [Row(**{name: value for name, value in row.items() if name in known}) for row in record["rows"]]


def records(folder: Path) -> list[dict[str, Any]]:
    """The kept runs, oldest first; each has its ``name``. What is not readable is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text())
            read_rows(record)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        found.append({**record, "name": path.stem})
    return found


def earlier(newest: dict[str, Any], kept: list[dict[str, Any]]) -> list[tuple[dict[str, Any], Change]]:
    """Each row of a run beside the last kept one of the same name, with the record that has it.

    A row that measures something else now (another size: `what` differs in its first number) has none.
    """
    changes = []
    for row in read_rows(newest):
        for record in reversed(kept):
            if record["name"] >= newest["name"]:
                continue
            old = next((r for r in read_rows(record) if r.name == row.name), None)
            if old is not None and old.unit == row.unit and _size(old) == _size(row):
                changes.append((record, change(old, row)))
                break
    return changes


def _size(row: Row) -> str:
    """The first number of what was measured: of subjects, mostly."""
    digits = "".join(c if c.isdigit() or c == "," else " " for c in row.what).split()
    return digits[0] if digits else ""


def compare_table(newest: dict[str, Any], changes: list[tuple[dict[str, Any], Change]]) -> Table:
    """What changed since."""
    view = Table(title=f"{newest['name']} beside what was kept before; × > 1: better", title_justify="left")
    for column in ("row", "before", "now", "ours", "beside it", "net, 95 %", "", "since"):
        view.add_column(column, justify="right" if column not in ("row", "", "since") else "left")
    for record, found in changes:
        span = f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None else ""
        color = {"better": "green", "worse": "red", "within noise": "dim"}[found.verdict]
        since = record["name"]
        if _machine(record) != _machine(newest):
            since += ", another machine"
        view.add_row(
            found.name,
            f"{figure(found.before.ours)} {found.before.unit}",
            f"{figure(found.after.ours)} {found.after.unit}",
            f"{found.ours:.2f}×",
            f"{found.theirs:.2f}×",
            f"{found.net:.2f}×{span}".replace("[", r"\["),
            f"[{color}]{found.verdict}[/{color}]",
            f"{since}, load {record.get('machine', {}).get('load_at_start', float('nan')):.1f}",
        )
    return view


def _machine(record: dict[str, Any]) -> tuple[object, object]:
    seen = record.get("machine", {})
    return seen.get("cpu"), seen.get("cores")

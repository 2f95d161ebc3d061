"""The export: what a spreadsheet may not run, and exact values."""

import csv
import io

import pyarrow as pa

from explorer.services.explore import _text
from explorer.services.export import csv_bytes


def test_nothing_in_a_csv_is_a_formula() -> None:
    texts = ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "plain", "", None]
    table = pa.table({"=HYPERLINK(1)": pa.array(texts), "n": pa.array([-1] * len(texts))})
    rows = list(csv.reader(io.StringIO(csv_bytes(table).decode(), newline="")))
    assert rows[0] == ["'=HYPERLINK(1)", "n"]
    assert [row[0] for row in rows[1:]] == [*(f"'{text}" for text in texts[:7]), "plain", "", ""]
    assert {row[1] for row in rows[1:]} == {"-1"}  # numbers stay numbers


def test_values_are_shown_with_all_their_digits() -> None:
    single = pa.array([0.1], pa.float32()).to_pylist()[0]
    values = [588848901523702001, 149.123456789, single, 17.0, 1e300, True, "x", None, float("nan")]
    shown = ["588848901523702001", "149.123456789", "0.1", "17.0", "1e+300", "True", "x", None, None]
    assert [_text(value) for value in values] == shown

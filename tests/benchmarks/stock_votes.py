"""Votes kept as tools for one person keep them: a table in memory, and its CSV written anew at every vote.

``python -m tests.benchmarks.stock_votes CSV PORT``: POST anything as JSON, answered when the file is on the disk.
"""

import csv
import json
import os
import sys
from pathlib import Path

from tornado.ioloop import IOLoop
from tornado.web import Application, RequestHandler

COLUMNS = ("id", "key", "grade", "interesting", "seconds")


class Vote(RequestHandler):
    """A row more, and the whole file again; whole or not at all, as a careful one would."""

    def initialize(self, file: Path, rows: list[dict[str, object]]) -> None:
        self.file, self.rows = file, rows

    def post(self) -> None:
        said = json.loads(self.request.body)
        self.rows.append({name: said[name] for name in COLUMNS})
        draft = self.file.with_suffix(".draft")
        with draft.open("w", newline="") as output:
            writer = csv.DictWriter(output, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
            output.flush()
            os.fsync(output.fileno())
        draft.replace(self.file)
        self.finish({"n": len(self.rows)})


def main() -> None:
    file = Path(sys.argv[1])
    with file.open(newline="") as given:
        rows: list[dict[str, object]] = [dict(row) for row in csv.DictReader(given)]
    Application([(r"/.*", Vote, {"file": file, "rows": rows})]).listen(int(sys.argv[2]), "127.0.0.1")
    print(f"http://127.0.0.1:{sys.argv[2]}/", flush=True)
    IOLoop.current().start()


if __name__ == "__main__":
    main()

"""A server that tells what its sessions leave.

``python -m tests.benchmarks.census ours SURVEY PORT``, or ``stock N PORT WIDTH HEIGHT``. Beside its pages it serves
``/census``: sessions, watchers of Panel's global state, processor time, and RssAnon after a collection; and
``/watchdog``: which callbacks held its event loop (`tests.benchmarks.watchdog`). Sessions without a page end after two
seconds instead of two minutes.
"""

import gc
import re
import sys
import time
from pathlib import Path
from typing import Any

import panel as pn
from tornado.web import RequestHandler

from tests.benchmarks import watchdog

SOON = {"unused_session_lifetime_milliseconds": 2000, "check_unused_sessions_milliseconds": 500}


class Census(RequestHandler):
    def get(self) -> None:
        gc.collect()
        watchers = pn.state.param.watchers.values()
        status = Path("/proc/self/status").read_text()
        self.finish(
            {
                "sessions": sum(len(self.application.get_sessions(path)) for path in self.application.app_paths),
                "watchers": sum(len(found) for by_name in watchers for found in by_name.values()),
                "cpu_s": time.process_time(),
                "rss_anon_mib": int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024,
            }
        )


def main(what: str, *arguments: str) -> None:
    """Serve until the process ends."""
    serve, dog = pn.serve, watchdog.install()
    routes = [(r"/census", Census), (r"/watchdog", watchdog.Told, {"dog": dog})]

    def told(*given: Any, extra_patterns: tuple = (), **options: Any) -> Any:
        return serve(*given, **(options | SOON), extra_patterns=[*extra_patterns, *routes])

    pn.serve = told
    if what == "ours":
        from explorer.app import serve as serve_survey

        serve_survey(Path(arguments[0]), port=int(arguments[1]), open_browser=False)
    else:
        from tests.benchmarks.stock_map import main as serve_stock

        serve_stock(*map(int, arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])

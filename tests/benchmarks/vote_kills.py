"""A server that gets SIGKILL at random moments while eight graders vote as fast as they can: what of their votes?"""

import os
import tempfile
from pathlib import Path

from explorer.ledger import ADDRESS
from tests import postgres_at_hand
from tests.benchmarks.row import Row
from tests.killed_votes import Report, killed

N_KILLS = 200


def row(name: str, report: Report, where: str) -> Row:
    """Fails where a single vote was lost or doubled."""
    if report.lost or report.doubled or report.problems:
        raise RuntimeError(
            f"{len(report.lost)} votes lost, {len(report.doubled)} doubled, {report.problems[:3]}; seed {report.seed}"
        )
    return Row(
        name,
        f"{report.n_kills} × SIGKILL at random moments of a server {where}, 8 graders voting as fast as they can",
        report.n_votes,
        report.n_votes,
        1.0,
        "votes",
        "acknowledged votes; each is in the ledger once, as it was sent",
        1.0,
        f"{report.n_unanswered} votes were on their way at the kills, {report.n_unanswered_kept} of them in the ledger "
        f"already: sent again with the same UUID, none is there twice; seed {report.seed}",
        {"seed": report.seed, "n_sent": report.n_sent},
    )


def vote_kills() -> Row:
    """In a file."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as name:
        os.environ["VOORWERP_CONFIG"] = f"{name}/config"
        return row("vote-kills", killed(Path(name), N_KILLS), "(SQLite)")


def vote_kills_postgres() -> Row:
    """In a database, a tenth as often."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as name, postgres_at_hand.server() as server:
        os.environ["VOORWERP_CONFIG"], os.environ[ADDRESS] = f"{name}/config", server.url()
        return row("vote-kills-postgres", killed(Path(name), N_KILLS // 10), "(PostgreSQL)")


LONG_ROWS = {"vote-kills": vote_kills, "vote-kills-postgres": vote_kills_postgres}

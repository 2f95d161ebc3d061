"""Eight graders vote as fast as they can, and the server is killed: no acknowledged vote is lost, none is doubled."""

from pathlib import Path

from tests.killed_votes import killed


def test_no_acknowledged_vote_is_lost_or_doubled_by_five_kills(tmp_path: Path) -> None:
    report = killed(tmp_path, 5)
    print(report)
    assert (report.lost, report.doubled, report.problems) == ([], [], []), f"seed {report.seed}"
    assert report.n_kills == 5
    assert report.n_votes > 10
    assert report.n_unanswered > 0, "no kill came while votes were on their way"

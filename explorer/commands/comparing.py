"""``voorwerp compare``: two runs of a survey, by how they rank its subjects."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import click

from explorer.commands.running import SURVEY, job_service, who
from explorer.commands.sampling import Share

SHOWN = 10  # of each kind of movers
LAMBDA = click.FloatRange(0, 1)


@click.command()
@click.argument("survey", type=SURVEY)
@click.argument("run_a", metavar="RUN_A")
@click.argument("run_b", metavar="RUN_B")
@click.option(
    "--top", type=Share(), metavar="SHARE", default=0.01, help="Of the subjects scored in both.  [default: 1%]"
)
@click.option("--by", "score", metavar="COLUMN", default="anomaly_score", show_default=True, help="A score of both.")
@click.option("--lambda-a", type=LAMBDA, help="λ of RUN_A.  [default: as it was scored]")
@click.option("--lambda-b", type=LAMBDA, help="λ of RUN_B.  [default: as it was scored]")
@click.option("--mode", type=click.Choice(("raw", "standardised")), help="What λ mixes.  [default: as each was scored]")
@click.option("--save-in", metavar="NAME", help="Keep those that moved into the top as this selection.")
@click.option("--save-out", metavar="NAME", help="Keep those that moved out of it as this selection.")
def compare(
    survey: Path,
    run_a: str,
    run_b: str,
    top: float,
    score: str,
    lambda_a: float | None,
    lambda_b: float | None,
    mode: Literal["raw", "standardised"] | None,
    save_in: str | None,
    save_out: str | None,
) -> None:
    """Say how alike two runs of SURVEY rank its subjects, and who moved into the top and out of it.

    Of the subjects scored in both; planted and withdrawn ones are left out. Where other seeds of their settings were
    scored, it says how much these alone change.
    """
    from explorer.services.compared import Changes, Pair
    from explorer.services.explore import Explore

    with job_service(survey) as service:
        changes = Changes(Explore(service.survey), service)
        pair = Pair(run_a, run_b, score, lambda_a, lambda_b, mode, top)
        for line in told(changes.compare(pair), changes.noise(pair)):
            click.echo(line)
        for name, which in ((save_in, "in"), (save_out, "out")):
            if name:
                rows = changes.selected(pair, "in" if which == "in" else "out").rows()
                service.ledger.save_selection(name, rows, service.survey.subject_ids, who=who())
                click.echo(f"kept as the selection “{name}”: the {len(rows):,} that moved {which}")


def told(found: Mapping[str, Any], noise: Mapping[str, Any]) -> Iterator[str]:
    """What `explorer.services.compared.Changes` found, line by line."""
    for name in "ab":
        run = found[name]
        weight = "" if run["lambda"] is None else f", λ = {run['lambda']:g} {run['mode']}"
        yield f"{name.upper()}: {run['run_id']}: {run['title']}{weight}"
    others = (("n_only_a", "in A only"), ("n_only_b", "in B only"), ("n_left_out", "planted or withdrawn"))
    left = [f"{found[key]:,} {words}" for key, words in others if found[key]]
    yield f"{found['n']:,} subjects are scored in both" + (f"; left out are {', '.join(left)}" if left else "")
    rho = found["spearman"]
    interval = "" if rho["low"] is None else f" ({rho['low']:.3f} to {rho['high']:.3f})"
    yield "Spearman: " + ("undefined" if rho["value"] is None else f"{rho['value']:.3f}{interval}")
    share = f"{100 * found['top']:g} %"
    yield f"in the top {share} of both: {rate(found['overlap'])}"
    yield f"moved into it: {rate(found['moved_in'])} of B's"
    yield f"moved out of it: {rate(found['moved_out'])} of A's"
    for split in found["splits"]:
        if len(found["splits"]) > 1 or split["name"] != "unknown":
            yield (
                f"{split['title'].lower().replace(' a only', ' A only').replace(' b only', ' B only')}: "
                f"{split['n']:,} subjects; of A's top stay {rate(split['stayed'])}; "
                f"{split['in']:,} moved in, {split['out']:,} out"
            )
    yield f"noise of training: {noise['said']}"
    for group in noise["groups"]:
        for two in group["pairs"]:
            yield f"  {group['setting']}, {two['a']} | {two['b']}: {rate(two['overlap'])} of the top {share} stay"
    if noise["steady_in"]:
        yield f"  moved in whatever the seed: {rate(noise['steady_in'])}; out: {rate(noise['steady_out'])}"
    for which, words in (("in", "farthest in"), ("out", "farthest out"), ("up", "most up"), ("down", "most down")):
        if movers := found["movers"][which]:
            n = found["counts"].get(which, 0)  # of those that moved up or down there are as many as subjects
            more = f" and {n - SHOWN:,} more" if n > SHOWN else ""
            yield f"{words}: {names(movers)}{more}"
    for caveat in found["caveats"]:
        yield f"mind: {caveat}"


def rate(found: Mapping[str, Any]) -> str:
    """``38 of 200 (19.0 %, 14.2 to 25.0 %)``."""
    if found["value"] is None:
        return f"{found['k']:,} of {found['n']:,}"
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{found['k']:,} of {found['n']:,} ({100 * found['value']:.1f} %, {low:.1f} to {high:.1f} %)"


def names(movers: Sequence[Mapping[str, Any]]) -> str:
    """``12 (rank 4,210 → 3), …``, the first `SHOWN`."""
    return ", ".join(f"{m['id']} (rank {m['rank_a']:,g} → {m['rank_b']:,g})" for m in movers[:SHOWN])

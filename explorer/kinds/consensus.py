"""Kind ``consensus``: the survey's votes are counted, as it was decided or in another way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class ConsensusConfig:
    """How votes are counted: see `explorer.services.counting.Counting`. What is left empty is as it was decided."""

    workflow_id: int | None = field(
        default=None, metadata={"is_everyday": True, "help": "the workflow whose votes are counted"}
    )
    task: str | None = field(default=None, metadata={"is_everyday": True, "help": "its task"})
    answer: str | None = field(
        default=None, metadata={"is_everyday": True, "help": "its answer: what a chosen fraction is of"}
    )
    basis: Literal["volunteers", "views"] | None = field(
        default=None,
        metadata={
            "is_everyday": True,
            "help": "what counts once, above and below the line",
            "choices": ("volunteers", "views"),
        },
    )
    weights: Literal["none", "experience", "log", "skill"] | None = field(
        default=None,
        metadata={
            "is_everyday": True,
            "help": "by what votes weigh in the weighted chosen fraction",
            "choices": ("none", "experience", "log", "skill"),
        },
    )
    threshold: int | None = field(
        default=None,
        metadata={
            "help": "classifications elsewhere that make a volunteer experienced",
            "unit": "classifications",
            "low": 1,
        },
    )
    experienced_weight: float | None = field(
        default=None,
        metadata={"help": "what an experienced volunteer's vote counts", "unit": "votes", "low": 0.01, "high": 100.0},
    )
    first_version: str | None = field(default=None, metadata={"help": 'first workflow version, as 27.36; "" is open'})
    last_version: str | None = field(default=None, metadata={"help": 'last workflow version; "" is open'})
    since: str | None = field(default=None, metadata={"help": 'first day, as 2026-11-22; "" is open'})
    until: str | None = field(default=None, metadata={"help": 'last day; "" is open'})
    live_only: bool | None = field(default=None, metadata={"help": "leave out votes from before the project's launch"})
    leave_out_gold: bool | None = field(default=None, metadata={"help": "leave out gold-standard answers: experts'"})
    leave_out_repeats: bool | None = field(
        default=None, metadata={"help": "leave out who had seen the subject, or finished the workflow"}
    )
    leave_out_anonymous: bool | None = field(default=None, metadata={"help": "leave out sessions without a name"})
    leave_out_open_links: bool | None = field(
        default=None, metadata={"help": "leave out votes of our own page that came by a link"}
    )


def check(told: Mapping[str, Any], parents: Mapping[str, Path]) -> None:
    """Refuse settings that are no way to count votes."""
    from explorer.errors import UsageError

    for name in ("since", "until"):
        _check_day(name, told.get(name))
    if told.get("task") == "" or told.get("answer") == "":
        raise UsageError("task and answer are names; leave them out for the question with most votes")


def _check_day(name: str, value: Any) -> None:
    from datetime import date

    from explorer.errors import UsageError

    try:
        date.fromisoformat(value or "2026-01-01")
    except ValueError:
        raise UsageError(f'{name} is "{value}"; write a day as 2026-11-22') from None


KIND = Kind(
    name="consensus",
    title="Count the votes",
    about="Counts the volunteers' votes again: as it was decided, or in another way beside that.",
    config=ConsensusConfig,
    run="explorer.services.recounting:run",
    check=check,
)

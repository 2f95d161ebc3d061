"""What goes wrong in a training, in plain words.

Each rule looks at the epochs so far, as ``history.jsonl`` has them, and answers one sentence or "". An epoch's word is
that of the first rule that speaks, the gravest first. The first tenth of a stage's epochs is spared, except from a loss
that is no number: fresh weights break every rule.

Of these words four say that the training *diverged* (`DIVERGED`): what comes after is worth less than what was before,
so the weights from before are kept. The others are advice.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]  # a line of history.jsonl

SOUND = "trained soundly"

#: At λ_GP = 10 a norm of .5 or 1.5 costs 2.5, one of 2 costs 10, as much as the distance that the critic measures: past
#: that its loss measures no distance, and the generator's gradients are as wrong in size.
NORM_LOW, NORM_HIGH = 0.5, 2.0
#: A sound critic's gradient norm stays near its median; two powers of ten above it, its weights are thrown about. A
#: fresh critic's norm comes up from hundredths to 1, which is no explosion: it must be above `NORM_HIGH`, too.
EXPLODED = 100.0
#: Generated images lack some of the noise of real ones, never four fifths of all that differs between them.
SPREAD_LOW = 0.2
#: The distance that a sound critic finds among images it has not seen is that among its training images, less what it
#: knows by heart. Below half, most of what it teaches the generator is heart-work.
SEEN_AGAIN = 0.5
#: A validation loss this much above its lowest, that many epochs or tenths of the stage ago, is no jitter.
RISE, RISE_EPOCHS, RISE_SHARE = 1.05, 5, 0.1
#: Epochs whose median is compared, so that one odd epoch says nothing.
RECENT = 3


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What the numbers of a training are held against.

    Attributes
    ----------
    farthest
        The largest distance between two images in [0, 1]: sqrt(bands · height · width). A critic whose gradient norm is
        at most 1 cannot find more between real and generated ones.
    mean_image_score
        The mean image score that the mean training image would get as everybody's reconstruction.
    feature_weight
        λ.
    """

    farthest: float
    mean_image_score: float
    feature_weight: float


def word_of(records: Sequence[Record], yardstick: Yardstick) -> str:
    """The sentence for the last of `records`, or "" where nothing is wrong with it.

    Parameters
    ----------
    records
        Epochs in their order, of one or both stages.
    """
    last = records[-1]
    epochs = [record for record in records if record["stage"] == last["stage"]]
    if word := not_a_number(epochs, yardstick):
        return word
    if last["epoch"] <= last["of"] / 10:
        return ""
    return next((word for rule in RULES[last["stage"]] if (word := rule(epochs, yardstick))), "")


def has_diverged(records: Sequence[Record], yardstick: Yardstick) -> bool:
    """Whether the word of the last of `records` says that the training diverged in it."""
    last = records[-1]
    is_spared = last["epoch"] <= last["of"] / 10 and not not_a_number(records, yardstick)
    return not is_spared and not is_sound(records, yardstick)


def is_sound(records: Sequence[Record], yardstick: Yardstick) -> bool:
    """Whether the weights after the last of `records` are worth keeping: nothing diverges, and none is spared."""
    last = records[-1]
    epochs = [record for record in records if record["stage"] == last["stage"]]
    return not any(rule(epochs, yardstick) for rule in (not_a_number, *DIVERGED[last["stage"]]))


def verdict_of(records: Sequence[Record]) -> str:
    """What was said last of each stage, if of half of its last tenth (at least `RECENT`); or `SOUND`."""
    said = []
    for stage in dict.fromkeys(record["stage"] for record in records):
        words = [record["word"] for record in records if record["stage"] == stage]
        late = words[-max(RECENT, len(words) // 10) :]
        if sum(map(bool, late)) >= len(late) / 2:
            said.append(next(word for word in reversed(late) if word))
    return "; and ".join(dict.fromkeys(said)) or SOUND


def not_a_number(epochs: Sequence[Record], _: Yardstick) -> str:
    """A loss is NaN or infinite, or what is generated is: the weights are, or will be at the next step."""
    last = epochs[-1]
    for part in ("train", "validation"):
        for name, value in last[part].items():
            if value is None or not math.isfinite(value):
                return f"{name.replace('_', ' ')} is no number ({part}): lower the learning rate"
    if last["spread"] is None:
        return "the generated images are no numbers: lower the learning rate"
    return ""


def explodes(epochs: Sequence[Record], _: Yardstick) -> str:
    """The critic's gradient norm was above `EXPLODED` times its running median, in one step at least.

    The running median is that of the earlier epochs' median steps; in the first epoch, its own median step. A median of
    epochs would not do: one step in a thousand may reach it, and the epoch's mean would hide it.
    """
    known = [record["gradient_norm"] for record in epochs if record.get("gradient_norm")]  # not in older histories
    if not known:
        return ""
    usual: float = statistics.median(steps["median"] for steps in known[:-1] or known)
    highest: float = known[-1]["highest"]
    if highest <= max(EXPLODED * usual, NORM_HIGH):
        return ""
    return (
        f"the critic's gradient norm explodes: {highest:,.3g} in one step, where its running median is {usual:.2g}; "
        "lower learning_rate or raise gradient_penalty"
    )


def runs_away(epochs: Sequence[Record], yardstick: Yardstick) -> str:
    """The critic's loss is beyond what any critic with a gradient norm of 1 can reach among images in [0, 1]."""
    loss = recent(epochs, "train", "critic_loss")
    if abs(loss) <= yardstick.farthest:
        return ""
    return (
        f"the critic's loss runs away: {loss:,.0f}, where two images are at most {yardstick.farthest:,.0f} apart; "
        "lower learning_rate"
    )


def norm_is_off(epochs: Sequence[Record], _: Yardstick) -> str:
    """The critic's gradient norm is below `NORM_LOW` or above `NORM_HIGH`."""
    norm = recent(epochs, "train", "gradient_norm")
    if NORM_LOW <= norm <= NORM_HIGH:
        return ""
    remedy = "train longer" if norm < NORM_LOW else "raise gradient_penalty or lower learning_rate"
    return f"the critic's gradient norm is {norm:.2g}, far from 1: its loss measures no distance; {remedy}"


def collapse(epochs: Sequence[Record], _: Yardstick) -> str:
    """Images generated from different z differ by less than `SPREAD_LOW` of what real ones do.

    The spread is the mean pixel distance between two of 64 generated images, over that between two of 64 real ones.
    """
    spread: float = epochs[-1]["spread"]
    if spread >= SPREAD_LOW:
        return ""
    return (
        f"the generator makes one image for every z (collapse): its images differ by {100 * spread:.1f} % of what real "
        "ones do; train longer, lower learning_rate, or take another seed"
    )


def critic_knows_by_heart(epochs: Sequence[Record], _: Yardstick) -> str:
    """The critic finds less than `SEEN_AGAIN` of its distance among validation images (Gulrajani et al. 2017, §5.3)."""
    if "critic_loss" not in epochs[-1]["validation"]:
        return ""
    seen, unseen = recent(epochs, "train", "critic_loss"), recent(epochs, "validation", "critic_loss")
    if seen >= 0 or unseen <= SEEN_AGAIN * seen:
        return ""
    return (
        f"the critic knows its training images by heart (overfitting): its loss is {seen:.3g} on them and {unseen:.3g} "
        "on validation images; train fewer epochs, or on more images"
    )


def no_better_than_the_mean(epochs: Sequence[Record], yardstick: Yardstick) -> str:
    """Reconstructions are as far from the images as the mean image is. At λ = 1 pixels are not asked for."""
    part = "validation" if "image_score" in epochs[-1]["validation"] else "train"
    score = recent(epochs, part, "image_score")
    if score < yardstick.mean_image_score or yardstick.feature_weight >= 1:
        return ""
    return (
        f"the encoder does no better than the mean image: image score {score:.3g} against "
        f"{yardstick.mean_image_score:.3g} ({part}); train longer, or look at the generator first"
    )


def validation_rises(epochs: Sequence[Record], _: Yardstick) -> str:
    """The validation loss left its lowest long ago while the training loss went on falling."""
    last = epochs[-1]
    if "encoder_loss" not in last["validation"]:
        return ""
    best = min(epochs, key=lambda record: record["validation"]["encoder_loss"])
    lowest, now = best["validation"]["encoder_loss"], recent(epochs, "validation", "encoder_loss")
    is_long_ago = last["epoch"] - best["epoch"] >= max(RISE_EPOCHS, RISE_SHARE * last["of"])
    is_falling = recent(epochs, "train", "encoder_loss") < best["train"]["encoder_loss"]
    if not (is_long_ago and is_falling and now > RISE * lowest):
        return ""
    return (
        f"validation loss rises since epoch {best['epoch']} (overfitting): {lowest:.3g} then, {now:.3g} now; "
        "train fewer encoder_epochs, or on more images"
    )


def recent(epochs: Sequence[Record], part: str, name: str) -> float:
    """Median over the last `RECENT` epochs."""
    return float(statistics.median(record[part][name] for record in epochs[-RECENT:]))


Rule = Callable[[Sequence[Record], Yardstick], str]
RULES: Mapping[str, Sequence[Rule]] = {
    "gan": (explodes, runs_away, collapse, norm_is_off, critic_knows_by_heart),
    "encoder": (collapse, no_better_than_the_mean, validation_rises),
}
#: Beside a loss that is no number. The encoder's stage finds the generator as it is.
DIVERGED: Mapping[str, Sequence[Rule]] = {"gan": (explodes, runs_away, collapse), "encoder": ()}

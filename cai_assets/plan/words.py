"""What a plan says, in words: for the terminal and for the studio."""

from __future__ import annotations

from collections.abc import Iterator

from cai_assets.plan.devices import SPREAD
from cai_assets.plan.lines import UNLESS
from cai_assets.plan.plan import Plan
from cai_assets.settings.models import Models

CHANGED = " -> "  # in the cause that is a setting
NAMED = 4  # causes named in one sentence


def remarks(plan: Plan) -> Iterator[str]:
    """What the numbers of the table mean, and their sums."""
    if not any(x.generate_max or x.trains for x in plan.lines):
        yield "Everything exists already: nothing to generate, nothing to train."
        return
    if any(x.generate_min != x.generate_max for x in plan.lines):
        yield ("a–b: at least a rows, at most b: the rest depends on texts that do not exist yet, and is reused where "
               "those come out unchanged")
    if any(x.trains and x.note for x in plan.lines):
        yield f"{UNLESS}: trained unless everything upstream comes out unchanged"
    low, high = (sum(n) for n in zip(*((x.generate_min, x.generate_max) for x in plan.lines), strict=True))
    trainings = sum(x.learns for x in plan.lines)
    unknown = [x.asset for x in plan.lines if x.seconds is None]
    total = sum(x.seconds or 0 for x in plan.lines)
    seconds = f", about {total:.0f} s" if len(unknown) < len(plan.lines) and total else ""
    runs = f"at most {trainings}" if trainings else "no"
    yield f"In total: {bounds(low, high)} rows, {runs} training runs{seconds}"
    if taken := [x.asset for x in plan.lines if x.taken and x.trains]:
        yield f"{', '.join(taken)}: a model is taken as it is and measured, not trained"
    guessed = [x.asset for x in plan.lines if x.by_table]
    yield ("Tokens and seconds are upper bounds for these settings and models, at the rates measured in this store "
           "(range: fastest to slowest seen)"
           + (f"; by a table of devices, within a factor of {SPREAD:.0f}, for {', '.join(guessed)}" if guessed else "")
           + (f"; no rate yet for {', '.join(unknown)}" if unknown else ""))


def in_short(plan: Plan) -> str:
    """'6 rows, at most 2 training runs, about 6 min; caused by principle fraud (edited)'."""
    lines = plan.lines
    low, high = sum(x.generate_min for x in lines), sum(x.generate_max for x in lines)
    trainings, seconds = sum(x.learns for x in lines), sum(x.seconds or 0 for x in lines)
    if not high and not any(x.trains for x in lines):
        return "Everything exists already: nothing to generate, nothing to train"
    runs = f"at most {trainings} training run{'s' * (trainings > 1)}" if trainings else "no training"
    first = list(dict.fromkeys(c for c in plan.causes() if c.startswith("principle ") or CHANGED in c))
    more = f", and {len(first) - NAMED} more" if len(first) > NAMED else ""
    because = f"; caused by {', '.join(first[:NAMED])}{more}" if first else ""
    return f"{bounds(low, high)} row{'s' * (high != 1)}, {runs}{_about(seconds)}{because}"


def _about(seconds: float) -> str:
    if seconds < 1:
        return ""
    return f", about {seconds:.0f} s" if seconds < 90 else f", about {seconds / 60:.0f} min"


def sampled(models: Models) -> Iterator[str]:
    """Which calls of the table are several requests."""
    for role, model in models:
        if model and model.answer_samples:
            yield (f"models.{role}.answer_samples: each of its calls that reads a label or a verdict is "
                   f"{model.answer_samples} sampled replies")


def bounds(low: int, high: int) -> str:
    """'3', or '1–3'."""
    return str(high) if low == high else f"{low}–{high}"


def number(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """A rounded number, with the range seen if there is one; '?' if nothing was measured."""
    if value is None:
        return "?"
    spread = f" ({low:.0f}–{high:.0f})" if low is not None and high is not None and high > low else ""
    return f"{value:.0f}{spread}"

"""Checks of the inputs."""

from __future__ import annotations

from cai_assets.defs.checks.common import Verdict, check, nothing_failed
from cai_assets.pipeline.project import Project
from cai_assets.store.canonical import digest_bytes
from cai_assets.store.records import Record


def plan_is_known(_: Project, record: Record, __: str | None) -> Verdict:
    plan = record.details.get("plan")
    if plan is None:
        return False, "no plan could be made; the run's log says why", {}
    lines = plan["lines"]
    rows, seconds = sum(x["generate_max"] for x in lines), sum(x["seconds"] or 0.0 for x in lines)
    trainings = sum(x["training"] in {"train", "train unless unchanged"} for x in lines)
    unknown = [x["asset"] for x in lines if x["seconds"] is None]
    text = f"at most {rows} rows and {trainings} training runs, about {seconds:.0f} s at this store's own rates"
    return True, text + (f"; no rate yet for {', '.join(unknown)}" if unknown else ""), {
        "rows_at_most": rows, "trainings_at_most": trainings, "seconds_at_most": float(seconds)}


def splits_are_disjoint(project: Project, record: Record, _: str | None) -> Verdict:
    split: dict[str, set[bytes]] = {s: set() for s in ("train", "evaluation")}
    for part in project.records.stored(record).parts("split", "messages"):
        for of, messages in part.iter_rows():
            text = " ".join(turn["content"].casefold() for turn in messages)
            if of in split:
                split[of].add(digest_bytes(text))
    both = split["train"] & split["evaluation"]
    numbers = {"train": len(split["train"]), "evaluation": len(split["evaluation"]), "in_both": len(both)}
    empty = [s for s, texts in split.items() if not texts]
    text = f"no {' and no '.join(empty)} prompt was selected" if empty else f"{len(both)} prompts are in both splits"
    return not both and not empty, text, numbers


def prompts_accounted_for(_: Project, record: Record, __: str | None) -> Verdict:
    counts = record.details["counts"]
    total = counts["kept"] + counts["duplicates"] + counts["rejected"]
    return total == counts["read"], f"{counts['read']} read, {total} accounted for", dict(counts)


def written_accounted_for(_: Project, record: Record, __: str | None) -> Verdict:
    counts = record.details["counts"]
    total = counts["kept"] + sum(counts["left_out"].values())
    numbers = {"written": counts["written"], "kept": counts["kept"], "wanted": sum(counts["wanted"].values())}
    short = counts["kept"] < numbers["wanted"]
    text = f"{counts['written']} written, {total} accounted for; {counts['kept']} of {numbers['wanted']} wanted kept"
    return total == counts["written"] and not short, text, numbers


checks = [
    check("constitution", "plan", plan_is_known,
          description="There is a plan of what this version costs before anything runs"),
    check("prompts", "splits_are_disjoint", splits_are_disjoint, blocking=True,
          description="No prompt is in both the train and the evaluation split, and neither split is empty"),
    check("prompts", "rows_accounted_for", prompts_accounted_for, blocking=True,
          description="Rows read = kept + duplicates + rejected"),
    check("written_prompts", "share_is_reached", written_accounted_for,
          description="Prompts written = kept + left out, and as many are kept as the shares want"),
    check("initial_responses", "nothing_failed", nothing_failed, description="Every model call succeeded"),
]

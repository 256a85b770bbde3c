"""What each principle of a version does, by leaving it out: computed from existing records, at no cost."""

from typing import Any
from urllib.parse import quote

import dagster as dg
import polars as pl

from cai_assets.assets import ASSETS
from cai_assets.defs.declared import asset
from cai_assets.defs.records import beside, file_of, store_table
from cai_assets.defs.run import Run
from cai_assets.evals.attribution import EFFECTS, POLICIES
from cai_assets.reports.attribution.gather import Attribution, Entry, NoEffects, effect_of, gather
from cai_assets.reports.attribution.page import save
from cai_assets.reports.attribution.words import sentences, short_table, state_of, table
from cai_assets.reports.text import tables

SHOWN = ("policy", "measure", "better", "reference", "value", "delta", "low", "high", "n", "unpaired", "p", "p_holm",
         "verdict", "beyond_again", "seeds")
ATTRIBUTION = pl.Schema({
    "kind": pl.String(), "principle": pl.String(), "seed": pl.Int64(), "version": pl.String(), "state": pl.String(),
    "why": pl.String(), "kept": pl.List(pl.String()), "chains": pl.Float64(), "steps": pl.Float64(),
    **{name: EFFECTS[name] for name in SHOWN},
})


@asset("attribution")
def attribution(run: Run) -> dg.MaterializeResult[None]:
    """What each principle does: attack success without it, against the whole version. One row per derived version.

    Reads the derived versions that exist; registers none and calls no model. `cai attribute VERSION` materializes
    them after showing their cost. A later round and a version that is itself derived have an empty table.
    """
    for above in ASSETS["attribution"].reads:
        run.note(above)
    try:
        gathered = gather(run.project, run.partition)
    except NoEffects as e:
        return store_table(run, "attribution", pl.DataFrame(schema=ATTRIBUTION), metadata={
            "note": f"Nothing to compare: {e}"})
    for record in gathered.records:
        run.using(record)
    path = beside(run, "attribution_effects", gathered.effects)
    frame = pl.DataFrame([_row(gathered, e) for e in gathered.entries], schema=ATTRIBUTION)
    return store_table(run, "attribution", frame, details={"effects": path}, metadata={
        **attribution_metadata(gathered), "effects_file": file_of(run, path),
        "page": dg.MetadataValue.path(str(save(run.project.layout, gathered)))})


def _row(attribution: Attribution, e: Entry) -> dict[str, Any]:
    effect = effect_of(attribution, e) if e.seed == 0 or e.kind == "again" else {}
    return {"kind": e.kind, "principle": e.principle, "seed": e.seed, "version": e.key, "state": e.state, "why": e.why,
            "kept": list(e.kept), "chains": e.share.chains if e.share else None,
            "steps": e.share.steps if e.share else None, **{name: effect.get(name) for name in SHOWN}}


def attribution_metadata(attribution: Attribution) -> dict[str, Any]:
    """The principles at a glance, all effects, where the derived versions are, and how to make the missing ones."""
    states = [e.state for e in attribution.entries if e.kind == "without" and e.seed == 0]
    numbers = {f"change_without_{e.principle}".replace("-", "_"): effect_of(attribution, e).get("delta")
               for e in attribution.entries if e.kind == "without" and e.seed == 0}
    return {
        "principles": dg.MetadataValue.md(short_table(attribution)),
        "effects": dg.MetadataValue.md("\n".join(f"- {line}" for line in sentences(attribution))
                                       + "".join(f"\n\n**{p}**\n\n{table(attribution, p)}" for p in POLICIES)),
        "derived_versions": dg.MetadataValue.md(partition_links(attribution)),
        "how_to_make_the_others": dg.MetadataValue.md(how_to(attribution)),
        "measured": states.count("measured"), "principles_left_out": len(states) - states.count("cannot be made"),
        **{name: value for name, value in numbers.items() if value is not None},
    }


def partition_links(attribution: Attribution) -> str:
    """Each derived version with its state: a link where it is a partition."""
    rows = []
    for e in attribution.entries:
        at = f"/assets/suite_results?view=partitions&partition={quote(str(e.key))}"
        link = tables.Live(f"[{e.key}]({at})") if e.state in {"measured", "registered"} else None
        rows.append((link or e.key or f"without {e.principle}", state_of(e)))
    return tables.table(("version", "state"), rows)


def how_to(attribution: Attribution) -> str:
    """The command, and the way in the UI for versions that are registered."""
    lines = [f"```\ncai attribute {attribution.version} --plan\ncai attribute {attribution.version}\n```",
             "The first shows the cost; the second asks, registers each derived version, and materializes it."]
    waiting = [e.key for e in attribution.entries if e.state == "registered" and e.key and not e.seed]
    if waiting:
        lines.append("Registered but not comparable yet. In the UI: materialize these partitions with the job 'all', "
                     f"then this asset again: {', '.join(waiting)}.")
    return "\n\n".join(lines)


assets = [attribution]

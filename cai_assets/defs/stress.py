"""The stress test of a constitution as an asset: which principles contradict each other, and how clear each is."""

from typing import Any

import dagster as dg

from cai_assets.defs.automation import on_real_change
from cai_assets.defs.declared import asset
from cai_assets.defs.records import beside, file_of, store_table
from cai_assets.defs.run import Run
from cai_assets.evals.conflicts import Conflicts, conflicts
from cai_assets.pipeline.stress import stress as stage_stress
from cai_assets.reports.stress import clarity_table, matrix, numbers, sentences

OFF = "off: stress.prompts_per_pair is 0"


# Missing from the start: versions from before this asset was there would else hold back their report.
@asset("stress", when=on_real_change(from_the_start=True))
def stress(run: Run) -> dg.MaterializeResult[None]:
    """Responses to trade-off prompts for each pair of principles, judged by each of the two alone; none by default.

    One row per response, with its verdicts. Needs no training: materialize it right after the constitution. `cai
    stress` shows the same without a record.
    """
    run.note("constitution")
    made = stage_stress(run)
    if not run.settings.stress.on:
        return store_table(run, "stress", made.rows, settings=(), metadata={"stress": OFF})
    for line in made.told:
        run.tell(line)
    details = {"prompts": beside(run, "stress_prompts", made.prompts),
               "paraphrases": beside(run, "stress_paraphrases", made.paraphrases)}
    wanted = run.settings.evaluation
    found = conflicts(made.rows, confidence=wanted.confidence, enough=wanted.enough)
    return store_table(run, "stress", made.rows, details=details, metadata={
        **stress_metadata(found), **{name: file_of(run, path) for name, path in details.items()}})


def stress_metadata(found: Conflicts) -> dict[str, Any]:
    """What was found in words, both tables, and the counts as numbers, so that they plot over versions."""
    return {"found": dg.MetadataValue.md("\n\n".join(sentences(found))), "pairs": dg.MetadataValue.md(matrix(found)),
            "principles": dg.MetadataValue.md(clarity_table(found)), **numbers(found)}


assets = [stress]

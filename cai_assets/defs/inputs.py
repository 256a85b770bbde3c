"""Inputs: prompts and initial responses, which are independent of any constitution, and the constitution itself."""

from dataclasses import asdict
from typing import Any

import dagster as dg

from cai_assets.constitution.diff import diff
from cai_assets.constitution.digest import digest, part_digest
from cai_assets.constitution.lint import USES, lint
from cai_assets.constitution.model import Constitution
from cai_assets.defs.automation import on_real_change
from cai_assets.defs.declared import asset
from cai_assets.defs.metadata import notes_metadata, plan_metadata, text_preview
from cai_assets.defs.records import beside, file_of, keep, record_snapshot, store_table
from cai_assets.defs.run import Run, registered
from cai_assets.engines.models import ModelError
from cai_assets.pipeline import stages
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.roles import CheckpointGone
from cai_assets.pipeline.written import written_prompts as stage_written_prompts
from cai_assets.plan.formats import keeping
from cai_assets.plan.plan import plan_of_run
from cai_assets.reading.faults import DataError
from cai_assets.reports.constitution_diff import markdown
from cai_assets.reports.text.tables import table
from cai_assets.steps.reasons import reason_line, tally
from cai_assets.store.records import RecordMissing
from cai_assets.versions.archive import previous
from cai_assets.versions.derived import Derivations
from cai_assets.versions.rounds import round_of


@asset("prompts")
def prompts(run: Run) -> dg.MaterializeResult[None]:
    """Red-team and helpful prompts, train and evaluation splits that never overlap.

    One row per prompt, from the bundled sample or the files in ``prompts.paths``. Rows that cannot be used are set
    aside with the reason; rows read = kept + duplicates + rejected. Prompts found by red-teaming are chosen first, and
    the record names the table with their origin.
    """
    frame, loaded = stages.prompts(run.settings)
    counts = asdict(loaded.counts)
    run.tell(reason_line(loaded.counts.rejected, loaded.counts.read, "rows rejected", loaded.rejects["reason"]))
    rejects, duplicates = (beside(run, f"prompt_{name}", getattr(loaded, name)) for name in ("rejects", "duplicates"))
    details = {"counts": counts, "rejects": rejects, "duplicates": duplicates}
    for note in loaded.notes:
        run.tell(note)
    origins = loaded.origins.join(frame, on="prompt_id", how="semi")
    if origins.height:
        details["origins"] = beside(run, "prompt_origins", origins)
    split = {f"{kind} {part}": n for kind, part, n in
             frame.group_by("kind", "split").len().sort("kind", "split").iter_rows()}
    return store_table(run, "prompts", frame, details=details, metadata={
        **text_preview(frame, {"kind": "kind", "category": "category", "messages": "prompt"}),
        "counts": dg.MetadataValue.json(counts), "selected": dg.MetadataValue.json(split),
        "found_by_red_teaming": origins.height, **notes_metadata(loaded.notes),
        "rejects": file_of(run, rejects), "duplicates": file_of(run, duplicates),
    })


@asset("written_prompts")
def written_prompts(run: Run) -> dg.MaterializeResult[None]:
    """Training prompts that a model wrote from examples, in the shares of ``written``; none by default.

    One row per prompt, with the prompts that its writer was shown. Left out, each with its reason in ``candidates``: no
    usable text, nearly the text of a held-out prompt, a suite's case, a training prompt or another written one, not
    of its kind by the judge, and what is more than the share.
    """
    made = stage_written_prompts(run)
    for line in made.told:
        run.tell(line)
    counts = {"written": made.candidates.height, "kept": made.frame.height, "wanted": dict(made.wanted),
              "left_out": tally(made.candidates["left_out"].drop_nulls())}
    details: dict[str, Any] = {"counts": counts}
    if made.candidates.height:
        details["candidates"] = beside(run, "prompt_candidates", made.candidates)
    return store_table(run, "written_prompts", made.frame, details=details, metadata={
        **text_preview(made.frame, {"kind": "kind", "category": "category", "messages": "prompt"}),
        "counts": dg.MetadataValue.json(counts),
        **({"candidates": file_of(run, details["candidates"])} if "candidates" in details else {})})


@asset("initial_responses")
def initial_responses(run: Run) -> dg.MaterializeResult[None]:
    """The generator's response to every prompt, both splits. One row per prompt, keyed by prompt text, model, and seed.

    The only unpartitioned asset directly upstream of partitioned ones: a shortcut from ``prompts`` would make
    automation train a policy several times for one change.
    """
    made = keep(run, "initial_responses", stages.initial_responses(run))
    return store_table(run, "initial_responses", made,
                       metadata=text_preview(made, {"messages": "prompt", "response": "response"}))


@asset("starting_responses", when=on_real_change(newest_only=True))
def starting_responses(run: Run) -> dg.MaterializeResult[None]:
    """The responses that this round improves on. Same rows as initial_responses.

    In round 1 they are the generator's. In a later round (partition ``<version>-r2`` and so on), the RL policy of the
    round before responds to the same prompts.
    """
    registered(run.project, run.partition)
    run.note("initial_responses")
    before = run.before()
    if before is not None:
        run.project.snapshots.register_round(run.partition)
    responses = keep(run, "starting_responses", stages.starting_responses(run))
    return store_table(run, "starting_responses", responses, settings=None if before else (), metadata={
        "round": round_of(run.partition).number, "responder": before.ref.id if before else "generator",
        **text_preview(responses, {"messages": "prompt", "response": "response"})})


@asset("constitution")
def constitution(run: Run) -> dg.MaterializeResult[None]:
    """One registered constitution version, from its immutable snapshot (never from the working file)."""
    key = run.partition
    constitution = run.constitution
    plan = planned(run)
    parts = {f"{use}_digest": part_digest(constitution, use) for use in USES}
    path, details = f"constitutions/{key}.json", {**parts, "plan": plan}
    return record_snapshot(run, digest(constitution), path, details=details, metadata={
        **change_metadata(run.project, key, constitution), **plan_metadata(plan),
        "principles": dg.MetadataValue.md(principle_table(constitution)),
        "principle_count": len(constitution.principles),
        "version": constitution.version, "description": constitution.description, **parts,
        "findings": dg.MetadataValue.json([f"{f.level}: {f.principle or 'constitution'}: {f.message}"
                                           for f in lint(constitution)]),
    })


def change_metadata(project: Project, key: str, constitution: Constitution) -> dict[str, Any]:
    """What changed since the version registered before; for a derived version, since the one it comes from."""
    origin = Derivations(project.layout).origin(key)
    before = origin.version if origin else previous(key, project.snapshots)
    if before is None:
        return {}
    changes = dg.MetadataValue.md(markdown(diff(project.snapshots.load(before), constitution)))
    return {"derived_from" if origin else "previous": before, "changes": changes}


def planned(run: Run) -> dict[str, Any] | None:
    """The plan, made before anything of this version runs; None, with a warning, if it cannot be made."""
    try:
        plan = plan_of_run(run.project, run.partition)
    except (ModelError, DataError, RecordMissing, CheckpointGone, OSError, ValueError) as e:
        run.context.log.warning(f"no plan of {run.version}: {e}")
        return None
    if note := keeping(run.project, plan.causes()):
        run.context.log.warning(note)
    return plan.as_dict()


def principle_table(constitution: Constitution) -> str:
    """Principles as a table: where each takes part, and its weight."""
    return table(("principle", "critique", "preference", "evaluation", "rubric", "check", "weight", "tags"), [
        (p.id, *("✓" if request else "" for request in (p.critique, p.preference, p.evaluation, p.rubric)),
         f"{p.check or ''}{' (gate)' if p.gate else ''}", f"{p.weight:g}", ", ".join(p.tags))
        for p in constitution.principles])

"""Commands about lineage: ``trace`` and ``verify``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.tree import Tree

from cai_assets.assets import ASKED, ASSETS
from cai_assets.cli import complete
from cai_assets.cli.common import (
    Set,
    app,
    err,
    open_project,
    out,
    parse_overrides,
    read_settings,
    resolve_version,
)
from cai_assets.cli.lineage_tables import table_of
from cai_assets.lineage.origins import of_struct
from cai_assets.store.layout import Layout

if TYPE_CHECKING:
    import polars as pl

    from cai_assets.lineage.trace import Lineage, Traced

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; for rows, one object per line")]
SHOWN = 40
EXCERPT = 600


@app.command()
def trace(
    target: Annotated[str, typer.Argument(help="A checkpoint's folder or key, ASSET@VERSION, a record ID, or a row: "
                                               "prompt ID, pair ID, row ID (i1:...), or row key (r1:...)")],
    rows: Annotated[bool, typer.Option("--rows", help="List its training rows and where they come from")] = False,
    row: Annotated[str | None, typer.Option("--row", help="The whole chain of one row, prompt, or pair")] = None,
    json_: AsJson = False,
) -> None:
    """Trace a checkpoint back to its principles, prompts, rows, settings, code, and cost, exactly as they were used.

    A checkpoint's folder carries its own lineage, so this works wherever you copy it.
    """
    from cai_assets.lineage.targets import UnknownTarget
    from cai_assets.lineage.trace import trace as find

    settings = read_settings({})
    layout = Layout(settings.data_root)  # makes no folder: a copied checkpoint needs none
    try:
        traced = find(layout, target, counted=row is None and not rows)
    except UnknownTarget:
        chain = None if rows or row is not None else _row_alone(layout, target)
        if chain is None:
            raise
        _print_chain(chain, None, json_)
        return
    if row is not None:
        _print_chain(traced.source.chain(row), traced.lineage, json_)
    elif rows:
        _print_rows(traced, json_)
    else:
        _print_lineage(traced, settings.price_per_gpu_hour, json_)
    for problem in traced.lineage.problems:
        err.print(problem, style="red", markup=False, highlight=False, soft_wrap=True)
    if traced.lineage.problems:
        err.print("Shares are not shown while something is missing. 'cai verify' names every problem.")
        raise typer.Exit(1)


def _row_alone(layout: Layout, target: str) -> pl.DataFrame | None:
    """The chain of a row, prompt or pair of any checkpoint; None if nothing has that id."""
    from cai_assets.lineage.chain import UnknownRow
    from cai_assets.lineage.trace import row_chain

    try:
        return row_chain(layout, target)
    except UnknownRow:
        return None


@app.command()
def verify(
    folder: Annotated[Path | None, typer.Argument(help="A checkpoint folder or an export; default: everything")] = None,
    rebuild: Annotated[str | None, typer.Option(
        metavar="VERSION", autocompletion=complete.versions,
        help="Make this version anew in an empty root, from stored answers (the scripted engine's are made anew), and "
             "compare every key")] = None,
    set_: Set = None, json_: AsJson = False,
) -> None:
    """Check every artifact against its digest and its records. Changes nothing; exits with 1 if something is wrong."""
    if rebuild is not None:
        _verify_rebuild(rebuild, parse_overrides(None, set_), json_)
    from cai_assets.lineage.verify import verify as check
    from cai_assets.lineage.verify.checkpoints import folder_problems

    problems = folder_problems(folder) if folder else check(open_project(read_settings({})).layout)
    if json_:
        typer.echo(json.dumps([p._asdict() for p in problems], indent=1))
    else:
        for p in problems:
            out.print(f"{p.kind}: {p.path}", style="red", markup=False, highlight=False, soft_wrap=True)
            out.print(f"  {p.what}\n  What to do: {p.todo}", markup=False, highlight=False, soft_wrap=True)
        out.print(f"{len(problems)} problems" if problems else "every artifact matches its records")
    raise typer.Exit(1 if problems else 0)


def _verify_rebuild(version: str, overrides: dict[str, Any], json_: bool) -> NoReturn:
    """Print whether a version that is made anew has the same keys, and exit."""
    from cai_assets.cli.quiet import log_file, quiet
    from cai_assets.defs.rebuild import rebuild

    version = resolve_version(read_settings(overrides), version)
    err.print(f"making {version} anew in an empty root", highlight=False, soft_wrap=True)
    with quiet(log_file(f"rebuild-{version}")):
        done = rebuild(version, overrides)
    if json_:
        typer.echo(json.dumps({**done._asdict(), "equal": not done.difference}, indent=1))
    elif done.difference:
        out.print(f"not equal: {done.difference}", style="red", markup=False, highlight=False, soft_wrap=True)
        out.print("Were the settings others when it was made? 'cai plan' names what changed.")
    else:
        how = "made anew" if done.anew else "found by their keys"
        out.print(f"equal: {done.assets} assets, {done.row_keys} row keys, {done.checkpoints} checkpoints; the answers "
                  f"were {how}", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if done.difference else 0)


def _print_lineage(traced: Traced, price: float | None, json_: bool) -> None:
    from cai_assets.lineage.trace import to_json

    lineage = traced.lineage
    if json_:
        typer.echo(to_json(lineage))
        return
    out.print(_tree(lineage))
    influence = lineage.influence
    if influence:
        for name, stage in influence.stages.items():
            held = f", {stage.held_out} of them held out" if stage.held_out else ""
            out.print(f"{name[:40]}: {stage.rows} training rows{held}, {stage.text} {stage.measure}", markup=False)
        _print_principles(lineage)
        prompts = table_of("prompts from", "kind", "category", "broke", "prompts")
        for g in influence.prompts:
            prompts.add_row(escape(g.source), g.kind, escape(g.category), escape(g.broke), str(g.prompts))
        out.print(prompts)
    _print_means(lineage, price)
    out.print(f"Next: [b]cai trace {escape(lineage.root)} --rows[/b], or --row ID for one chain")


def _tree(lineage: Lineage) -> Tree:
    """The records as a tree from the root; one met before is not drawn twice."""
    seen = set[str]()

    def grow(branch: Tree, name: str) -> None:
        record = lineage.records.get(name)
        if record is None:
            branch.add(f"[red]{escape(name)} is missing[/red]")
            return
        again = name in seen
        seen.add(name)
        twig = branch.add(_label(name, record) if not again else f"[dim]{escape(name)}, see above[/dim]")
        for ref in () if again else record.inputs:
            grow(twig, ref.id)

    root = lineage.top
    seen.add(lineage.root)
    tree = Tree(_label(lineage.root, root))
    for ref in root.inputs:
        grow(tree, ref.id)
    return tree


def _label(name: str, r: Any) -> str:
    counts = [(r.reused, "reused"), (r.generated, "generated"), (r.failed, "failed")]
    calls = "".join(f", {n} {what}" for n, what in counts) if any(n for n, _ in counts) else ""
    tokens = f", {r.completion_tokens} tokens" if r.completion_tokens else ""
    how = {True: ", checkpoint reused", False: ", trained"}.get(r.details.get("reused_checkpoint"), "")
    title = name if r.number else f"{r.asset} {r.partition or ''} {name}"
    rows = "" if r.rows is None else f" {r.rows} rows"
    return f"[b]{escape(title)}[/b]{rows}{calls}{tokens}{how}, {r.seconds:.1f} s [dim]{r.digest[:14]}[/dim]"


def _print_principles(lineage: Lineage) -> None:
    influence = lineage.influence
    if influence is None or not influence.principles:
        out.print("No constitution was involved.")
        return
    graded = any(p.graded for p in influence.principles)
    table = table_of("principle", "rows", "share", f"share of {influence.measure}", "chains", "labels", "share",
                     "strength", *(("graded",) if graded else ()),
                     title=f"principles of {', '.join(lineage.constitutions)}")
    for p in influence.principles:
        strength = "" if p.mean_strength is None else f"{p.mean_strength:.3f}"
        table.add_row(p.id, str(p.rows), f"{p.row_share:.1%}", f"{p.text_share:.1%}", str(p.chain_rows),
                      str(p.labels), f"{p.label_share:.1%}", strength, *((str(p.graded),) if graded else ()))
    out.print(table)
    for p in influence.principles:
        for use in ("critique", "revision", "preference"):
            if getattr(p, use):
                out.print(f"  {p.id} · {use}: {getattr(p, use)}", markup=False, highlight=False, style="dim")


def _print_means(lineage: Lineage, price: float | None) -> None:
    """Models, code, hardware, time and cost."""
    models = {f"{role}: {name}" for each in lineage.models.values() for role, name in each.items()}
    code = {(r.provenance.get("git", {}).get("commit", "unknown"), r.provenance.get("git", {}).get("dirty"))
            for r in lineage.records.values() if r.provenance}
    packages = {f"{k} {v}" for r in lineage.records.values() for k, v in r.provenance.get("packages", {}).items()}
    machines = {json.dumps(r.provenance["hardware"], sort_keys=True) for r in lineage.records.values() if r.provenance}
    seconds, gpu = lineage.total("seconds"), lineage.total("gpu_seconds")
    cost = "" if price is None else f", {gpu / 3600 * price:.4f} USD"
    facts = {"models": sorted(models), "packages": sorted(packages), "hardware": sorted(machines),
             "code": sorted(c + (" (with local changes)" if dirty else "") for c, dirty in code),
             "spent": [f"{seconds:.1f} s, {gpu:.1f} GPU-seconds{cost}; what was reused was paid for in earlier runs"]}
    for name, values in facts.items():
        out.print(f"{name}: {'; '.join(values)}", markup=False, highlight=False, soft_wrap=True)


def _print_rows(traced: Traced, json_: bool) -> None:
    from cai_assets.lineage.rows import batches

    if json_:
        for part in batches(traced.source):
            typer.echo(part.write_ndjson(), nl=False)
        return
    table = table_of("row", "asset", "round", "principle", "trained", "held out", "text")
    for r in traced.source.read(0, SHOWN).iter_rows(named=True):
        used = [", ".join(dict.fromkeys(traced.lineage.records[n].asset for n in r[c]))
                for c in ("trained_in", "held_out_in")]
        table.add_row(r["row_id"] if r["asset"] in ASKED else r["row_id"][:15], r["asset"], _number(r["round"]),
                      ", ".join(r["principle_ids"] or r["graded_by"]), *used, escape(_text(r)[:60]))
    out.print(table)
    count = traced.source.count
    out.print(f"{min(SHOWN, count)} of {count} rows: the training rows and the rows they came from. "
              "--json prints all")


def _print_chain(rows: pl.DataFrame, lineage: Lineage | None, json_: bool) -> None:
    links = [{**r, "principles": _requests(r, lineage)} for r in rows.iter_rows(named=True)]
    if json_:
        for r in links:
            typer.echo(json.dumps(r, ensure_ascii=False))
        return
    for r in links:
        number = f" round {r['round']}" if r["round"] else ""
        out.print(f"{r['asset']}{number}  {r['row_id']}", style="bold", markup=False, highlight=False, soft_wrap=True)
        for name, text in r["principles"].items():
            out.print(f"  by {name} of {r['version']}: {text}", style="cyan", markup=False, highlight=False)
        if r["label"]:
            strength = "" if r["p_chosen"] is None else f", strength {r['p_chosen']:.3f}; chosen:"
            out.print(f"  label {r['label']}{strength}", markup=False)
        out.print(f"  {r['error'] or _text(r)[:EXCERPT]}", markup=False, highlight=False)
        if origin := of_struct(r.get("origin")):
            out.print(f"  found by red-teaming, {origin}", style="magenta", markup=False, highlight=False)
        for name in r["graded_by"]:
            out.print(f"  its responses were graded by {name}", style="cyan", markup=False, highlight=False)
        for verb in ("trained", "held_out"):
            for name in dict.fromkeys(r[f"{verb}_in"]):
                out.print(f"  {verb.replace('_', ' ')} in {name}", style="green", markup=False, highlight=False)


def _requests(row: dict[str, Any], lineage: Lineage | None) -> dict[str, str]:
    """What each principle asked for in this row, as the snapshot of its version says it."""
    asset = ASSETS.get(row["asset"])  # training rows are of none
    use = asset.request if asset else None
    if use is None or not row["principle_ids"] or row["version"] is None:
        return {}
    version, snapshots = row["version"], lineage.constitutions if lineage else None
    constitution = snapshots[version] if snapshots else open_project(read_settings({})).snapshots.load(version)
    return {name: str(getattr(constitution.principle(name), use)) for name in row["principle_ids"]}


def _text(row: dict[str, Any]) -> str:
    if row["text"] is None and row["messages"]:
        return "\n".join(f"{m['role']}: {m['content']}" for m in row["messages"])
    return row["text"] or ""


def _number(value: int | None) -> str:
    return "" if value is None else str(value)

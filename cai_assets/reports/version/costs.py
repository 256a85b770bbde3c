"""The sections on cost, and on how to rebuild everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePath

from cai_assets.pipeline.spending import dollars, served_tokens
from cai_assets.reports.compare.sides import is_training, materializations
from cai_assets.reports.html.page import Block, Figure, Source, Table, Text
from cai_assets.reports.html.plots import bars, both
from cai_assets.reports.version.evidence import Evidence, spent
from cai_assets.store.records import Record

SUMS = ("reused", "generated", "failed", "prompt_tokens", "completion_tokens", "seconds", "gpu_seconds")


def cost(evidence: Evidence) -> Iterator[Block]:
    """What the records of this page cost, what all materializations of the version cost, and where it went."""
    newest, every = list(evidence.side.records.values()), materializations(evidence.side)
    here, ever = spent(newest, SUMS), spent(every, SUMS)
    rows: list[tuple[str, float, float]]
    rows = [(name.replace("_", " "), here[name], ever[name]) for name in SUMS]
    more: dict[str, Callable[[Record], float]]
    more = {"tokens of served models": served_tokens, "training runs": is_training}
    prices = "; ".join(_prices(evidence, every))
    if prices:
        more["US dollars"] = lambda r: dollars(r, evidence.price) or 0.0
    rows += [(name, sum(map(of, newest)), sum(map(of, every))) for name, of in more.items()]
    yield Table("What it cost", ("figure", "these records", "every run so far"), rows,
                note="These records: the newest of each asset; reused work was paid for earlier, perhaps by another "
                     "version. Every run so far: all materializations of this version."
                     + (f" US dollars: {prices}." if prices else ""),
                source=Source(f"cai trace rl_policy@{evidence.version}", f"{len(evidence.side.records)} records"))
    seconds = {r.asset: round(r.seconds, 1) for r in evidence.side.records.values() if r.seconds >= 0.05}
    ordered = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    yield Figure(both(partial(bars, ordered, unit="s")), "Seconds by asset, these records",
                 "An asset that reused everything took almost no time.", reproduce=f"cai report {evidence.side.name}",
                 rests_on=f"{len(ordered)} records", words="; ".join(f"{a} {s:g} s" for a, s in ordered.items()) + ".")


def _prices(evidence: Evidence, records: list[Record]) -> Iterator[str]:
    """What the dollars are made of."""
    if evidence.price is not None:
        yield f"GPU time at {evidence.price:g} an hour"
    if any(served_tokens(r) and dollars(r, None) is not None for r in records):
        yield "tokens of served models at their price_input and price_output"


def reproduce(evidence: Evidence) -> Iterator[Block]:
    """Commands, code, packages and machine."""
    yield Text("These commands rebuild this page from the newest records, and the whole version. Each figure also has "
               "its own command below it.")
    yield Text(f"cai report {evidence.side.name}\ncai materialize {evidence.version}\n"
               f"cai trace rl_policy@{evidence.version}\ncai verify", code=True)
    yield Text("By default a page uses a version's newest records. Each materialization of the asset report has its "
               "own record, listed on its page in Dagster; its ID rebuilds the page of that day from the records of "
               "that day:")
    yield Text(f"cai report report/{evidence.version}/000001", code=True)
    yield Table("Produced by", ("what", "how"), sorted(_made_by(evidence)))


def _made_by(evidence: Evidence) -> set[tuple[str, str]]:
    """Code, packages, machine and models, each as the records have it."""
    out: set[tuple[str, str]] = set()
    for r in evidence.side.records.values():
        git, hardware = r.provenance.get("git", {}), r.provenance.get("hardware", {})
        if git:
            out.add(("code", git["commit"] + (", with uncommitted changes" if git.get("dirty") else "")))
        if hardware:
            gpus = ", ".join(hardware["gpus"]) or "no GPU"
            out.add(("machine", f"{hardware['machine']}, {hardware['cpus']} cores, {gpus}"))
            out.add(("python", hardware["python"]))
        out |= {(name, version) for name, version in r.provenance.get("packages", {}).items()}
        out |= {(f"model: {role}", model_name(str(m["source"]))) for role, m in r.settings.get("models", {}).items()
                if m}
    return out


def records(evidence: Evidence) -> Iterator[Block]:
    """Every record that the page was made from."""
    rows = [(r.ref.id, r.digest, r.rows, r.reused, r.generated, r.failed, f"{r.created:%Y-%m-%d %H:%M}")
            for r in evidence.side.records.values()]
    yield Table("Records", ("record", "content", "rows", "reused", "generated", "failed", "created (UTC)"), rows)


def model_name(source: str) -> str:
    """A hub id as it is; of a folder only its name, for a page may be passed on."""
    return PurePath(source).name if source.startswith(("/", "~", ".")) else source

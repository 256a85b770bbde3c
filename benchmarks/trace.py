"""Lineage at scale: ``python benchmarks/trace.py --rows N [--folder DIR] [--json]``.

Writes the records, tables and row store of one constitution version by hand, with N supervised training rows (four
rounds of critique and revision for each red-team prompt) and N/4 labeled pairs, and traces its RL policy: back
(tree, principle table, prompts), its rows, one chain, and forward from one principle and from one prompt. The
self-contained lineage of a checkpoint is written and traced on its own. Each stage runs in its own process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from cai_assets.constitution.model import Constitution, Principle
from cai_assets.lineage.impact import Target, impact
from cai_assets.lineage.rows import batches
from cai_assets.lineage.trace import read_lineage, row_chain, trace, write_lineage
from cai_assets.store.canonical import digest_file
from cai_assets.store.files import write_atomic
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import parquet_bytes, read_table
from cai_assets.store.records import Record, Records
from cai_assets.store.row_store import SCHEMA, shard_name
from cai_assets.versions.snapshots import Snapshots

ROUNDS, PRINCIPLES = 4, 16
MESSAGES = pl.concat_list(pl.struct(role=pl.lit("user"), content=pl.lit("Question ") + pl.col("prompt_id")))


def text(what: str) -> pl.Expr:
    """About 200 characters that differ between rows."""
    return (pl.lit(f"{what} ") + pl.col("n").hash(len(what)).cast(pl.String)).repeat_by(8).list.join(" ")


def hashed(tag: str, *names: str) -> pl.Expr:
    """An id of the length of a real one."""
    seeds = (hash_of(tag), hash_of(tag) + 1)
    each = [pl.concat_str(*names, separator=" ").hash(seed).cast(pl.String) for seed in seeds]
    return pl.concat_str(pl.lit(f"{tag}:"), *each).str.slice(0, 35)


def hash_of(tag: str) -> int:
    return sum(map(ord, tag))


class Made:
    """One version's records, tables and calls."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.records = Records(self.layout)
        principles = tuple(Principle(id=f"p-{i:02d}", critique=f"Criticise {i}.", revision=f"Revise {i}.",
                                     preference=f"Prefer {i}.") for i in range(PRINCIPLES))
        self.version = Snapshots(self.layout).register(Constitution(name="made", version="v1", principles=principles))
        self.made: dict[str, Record] = {}

    def table(self, asset: str, frame: pl.DataFrame, *inputs: str, step: str | None = None) -> pl.DataFrame:
        digest, path = self.records.save_table(asset, frame)
        self._record(asset, digest, self.layout.relative(path), frame.height, inputs)
        if step:
            keys = frame.select(pl.col("^row_key.*$")).unpivot()["value"]
            calls = pl.DataFrame({"row_key": keys}).with_columns(
                payload=pl.lit("{}"), text=pl.lit(""), finish=pl.lit("stop"), logprobs=pl.lit([0.0]),
                prompt_tokens=90, completion_tokens=40, created=pl.lit(0)).select(
                pl.col(n).cast(t) for n, t in SCHEMA.items())
            for part in calls.iter_slices(100_000):
                folder = self.layout.folder("rows", step)
                write_atomic(folder / shard_name(time.time_ns()), parquet_bytes(part))
        return frame

    def checkpoint(self, asset: str, rows: int, *inputs: str) -> None:
        key = f"k1:{hash_of(asset):032x}"
        folder = self.layout.folder("checkpoints", asset, key.partition(":")[2])
        about = {"key": key, "base_name": "none", "base": {"weights": "none"}, "files": {}}
        write_atomic(folder / "record.json", json.dumps(about).encode())
        self._record(asset, key, self.layout.relative(folder), rows, inputs)

    def _record(self, asset: str, digest: str, path: str, rows: int, inputs: tuple[str, ...]) -> None:
        partition = None if asset in {"prompts", "initial_responses"} else self.version
        self.made[asset] = self.records.add(Record(
            asset=asset, partition=partition, constitution=partition, digest=digest, path=path, rows=rows,
            inputs=tuple(self.made[i].ref for i in inputs)))


def write(root: Path, rows: int) -> int:
    made, n = Made(root), rows // ROUNDS
    prompts = made.table("prompts", pl.DataFrame({"n": range(n)}).select(
        prompt_id=pl.lit("prompt-") + pl.col("n").cast(pl.String), kind=pl.lit("red-team"), category=pl.lit("made"),
        split=pl.lit("train"), source=pl.lit("made.jsonl")).with_columns(messages=MESSAGES))
    responses = made.table("initial_responses", prompts.with_row_index("n").with_columns(
        response=text("response"), row_key=hashed("r1", "n"), row_id=hashed("i1", "n"), error=pl.lit(None, pl.String),
    ).drop("n"), "prompts", step="respond")
    parents, critiques, revisions = responses["row_id"], [], []
    for number in range(1, ROUNDS + 1):
        own = pl.DataFrame({"prompt_id": prompts["prompt_id"], "parent_id": parents}).with_row_index("n").with_columns(
            round=pl.lit(number, pl.Int32), error=pl.lit(None, pl.String), principle_digest=pl.lit("none"),
            principle_id=pl.format("p-{}", (pl.col("n").hash(number) % PRINCIPLES).cast(pl.String).str.zfill(2)))
        critiques.append(own.with_columns(critique=text("critique"), row_key=hashed("r1", "n", "round"),
                                          row_id=hashed("i1", "parent_id")).drop("n"))
        revisions.append(own.with_columns(parent_id=critiques[-1]["row_id"]).with_columns(
            revision=text("revision"), row_key=hashed("r1", "parent_id"), row_id=hashed("i1", "parent_id")).drop("n"))
        parents = revisions[-1]["row_id"]
    made.table("critiques", pl.concat(critiques), "initial_responses", step="critique")
    revised = made.table("revisions", pl.concat(revisions), "initial_responses", "critiques", step="revision")
    data = revised.select("prompt_id", "round", "principle_id", "row_id", response="revision").with_columns(
        messages=MESSAGES, kind=pl.lit("red-team"))
    made.table("sl_dataset", data, "initial_responses", "revisions")
    made.checkpoint("sl_policy", data.height, "sl_dataset")
    ids = {f"row_{what}_{side}": hashed(tag + side, "n")
           for what, tag in (("key", "r1"), ("id", "i1")) for side in "ab"}
    asked = prompts.select("prompt_id", "kind", "messages").with_row_index("n")
    pairs = made.table("response_pairs", asked.with_columns(
        pair_id=pl.col("prompt_id") + "-0", response_a=text("a"), response_b=text("b"), error=pl.lit(None, pl.String),
        **ids).drop("n"), "initial_responses", "sl_policy", step="respond")
    labels = pairs.with_row_index("n").with_columns(
        principle_id=pl.format("p-{}", (pl.col("n").hash(9) % PRINCIPLES).cast(pl.String).str.zfill(2)),
        p_a=pl.lit(0.7), p_chosen=pl.lit(0.7), label=pl.lit("A"), chosen="response_a", rejected="response_b",
        row_id=hashed("i1", "row_id_a", "row_id_b"), row_key_first=hashed("r1", "pair_id")).drop("n")
    made.table("preference_pairs", labels, "response_pairs")
    made.checkpoint("reward_model", labels.height, "preference_pairs")
    made.checkpoint("rl_policy", n, "sl_policy", "reward_model", "response_pairs")
    return data.height


def backward(root: Path, _: int) -> int:
    found = trace(Layout(root), f"rl_policy@{version(root)}").lineage
    if found.influence is None:
        raise RuntimeError(found.problems)
    return sum(p.rows for p in found.influence.principles)


def listed(root: Path, _: int) -> int:
    return trace(Layout(root), f"rl_policy@{version(root)}", counted=False).source.read(0, 40).height


def all_listed(root: Path, _: int) -> int:
    return sum(part.height for part in batches(trace(Layout(root), f"rl_policy@{version(root)}", counted=False).source))


def one_chain(root: Path, _: int) -> int:
    return trace(Layout(root), f"sl_policy@{version(root)}", counted=False).source.chain(one_row(root)).height


def everywhere(root: Path, _: int) -> int:
    return row_chain(Layout(root), "prompt-7").height


def forward_principle(root: Path, _: int) -> int:
    return len(impact(Layout(root), Target(principle="p-03")))


def forward_prompt(root: Path, _: int) -> int:
    return len(impact(Layout(root), Target(row="prompt-7")))


def carried(root: Path, _: int) -> int:
    record = Records(Layout(root)).latest("rl_policy", version(root))
    folder = Layout(root).folder("work", "carried")
    write_lineage(folder, Layout(root), record.model_copy(update={"number": 0}))
    files = {p.name: digest_file(p) for p in folder.iterdir()}
    write_atomic(folder / "record.json", json.dumps({"files": files}).encode())
    return sum((folder / name).stat().st_size for name in files)


def folder_alone(root: Path, _: int) -> int:
    found = read_lineage(Layout(root).folder("work", "carried")).lineage.influence
    return 0 if found is None else len(found.principles)


def chain_of_folder(root: Path, _: int) -> int:
    return read_lineage(Layout(root).folder("work", "carried")).source.chain(one_row(root)).height


def one_row(root: Path) -> str:
    """The id of some training row."""
    (table,) = (root / "tables" / "sl_dataset").glob("*.parquet")
    return str(read_table(table, ["row_id"], pl.Series([7]))["row_id"][0])


def version(root: Path) -> str:
    return next((root / "constitutions").glob("*.json")).stem


STAGES: dict[str, Callable[[Path, int], int]] = {
    "write the history (training rows)": write, "trace (rows by principles)": backward,
    "trace --rows, the first 40 (rows)": listed, "trace --rows, all (rows)": all_listed,
    "trace --row (links)": one_chain, "trace PROMPT, all history (rows)": everywhere,
    "impact PRINCIPLE (checkpoints)": forward_principle, "impact --prompt (checkpoints)": forward_prompt,
    "write lineage into a checkpoint (bytes)": carried, "trace FOLDER (principles)": folder_alone,
    "trace FOLDER --row (links)": chain_of_folder,
}


def measure(work: Callable[[Path, int], int], root: Path, rows: int) -> dict[str, float]:
    """Run in a fresh process; return seconds, CPU seconds, its peak memory in GB, and what it found."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, root, rows))


def _measured(work: Callable[[Path, int], int], root: Path, rows: int) -> dict[str, float]:
    start, spent = time.monotonic(), time.process_time()
    found = work(root, rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    return {"seconds": round(time.monotonic() - start, 2), "cpu_seconds": round(time.process_time() - spent, 2),
            "peak_gb": round(peak, 2), "found": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="supervised training rows")
    parser.add_argument("--smallest", dest="rows", action="store_const", const=400, help="as the tests run it")
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result: dict[str, object] = {"rows": arguments.rows}
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="cai-trace-") as folder:
        for name, work in STAGES.items():
            result[name] = numbers = measure(work, Path(folder), arguments.rows)
            if not arguments.json:
                print(f"{name:42} " + " · ".join(f"{v:12} {k}" for k, v in numbers.items()), flush=True)
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()

"""The stress test in the graph: planted conflicts come out, a run stays within its plan, an edit costs its pairs."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from model_fixtures import prepared_model
from typer.testing import CliRunner

from cai_assets.cli import app
from cai_assets.constitution.model import Constitution, Principle
from cai_assets.defs.execute import materialize
from cai_assets.engines.protocol import Call, Engine, Request
from cai_assets.engines.scripted import Scripted
from cai_assets.lineage.trace import row_chain
from cai_assets.pipeline.context import Context
from cai_assets.pipeline.project import Project
from cai_assets.pipeline.stress import Stressed, stress
from cai_assets.plan.lines import Lines
from cai_assets.plan.stress import plan_stress
from cai_assets.reports.compare.sides import Side
from cai_assets.reports.version.answers import STRESS, answers
from cai_assets.reports.version.evidence import Evidence
from cai_assets.reports.version.figures import figures, numbers
from cai_assets.reports.version.page import render
from cai_assets.steps.complete import Completer
from cai_assets.steps.usage import Usage, total
from cai_assets.store.garbage import gc
from cai_assets.store.records import Record
from cai_assets.versions.snapshots import VERSIONS

TOLD = {"more-tea": "Does it praise tea?", "less-tea": "Does it spare people any tea?",
        "rain": "Does it speak of rain?"}
PER_PAIR, RESPONSES, PRINCIPLES = 28, 2, 2
ON = {"prompts_per_pair": PER_PAIR}


def constitution(**rubrics: str) -> Constitution:
    principles = [Principle(id=name, rubric=text, critique="Find what is wrong.", revision="Mend it.")
                  for name, text in (TOLD | rubrics).items()]
    mute = Principle(id="mute", critique="Find a fault.", revision="Mend it.")
    return Constitution(name="drinks", version="v1", principles=(*principles, mute))


def hashed(text: str, choices: int) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % choices


def reply(call: Call, request: Request) -> str:
    """Other words for a question; a prompt, every eighth of which is the same; a response of two traits."""
    text, mark = call.messages[-1]["content"], f"{request.seed:x}"
    if "in other words" in text:
        return f"In plain words: {text.splitlines()[0]}"
    if "one of two principles" in text:
        return "What do I drink?" if request.seed % 8 == 0 else f"{hashlib.sha256(mark.encode()).hexdigest()}?"
    return f"tea={hashed(mark + 'tea', 90)} rain={hashed(mark + 'rain', 90)}"


def score(call: Call, _: Request) -> tuple[float, ...]:
    """Yes by the trait that the question is about; about rain the other way round in other words."""
    text = call.messages[0]["content"]
    tea, rain = (int(re.findall(rf"{name}=(\d+)", text)[-1]) for name in ("tea", "rain"))
    told = text[text.rindex("Question about"):]
    p = (90 - tea if "any tea" in told else tea if "tea" in told else rain) / 100 + 0.05
    p = 1 - p if "rain" in told and "In plain words" in told else p
    return math.log(p), math.log(1 - p)


class World:
    """A version on its own, its settings, and what runs of two assets made of it."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.settings: dict[str, Any] = {
            "data_root": str(root / "data"), "models": {"generator": {"source": "any", "backend": "scripted"}},
            "written": {"style": "chat"}, "labels": {"style": "chat"},
            "stress": ON, "constitutions": str(root / "constitutions"), **settings}
        self.version = self.project.snapshots.register(constitution())

    @property
    def project(self) -> Any:
        return Project.open(self.settings)

    def run(self) -> Record:
        """In Dagster."""
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(VERSIONS, [self.version])
            assert materialize(instance, self.version, selection=("constitution", "stress"), overrides=self.settings
                               ).success
        record: Record = self.project.records.latest("stress", self.version)
        return record

    def stage(self, version: str = "") -> tuple[Stressed, Usage]:
        """What the stage makes, and what it took."""
        run = Counting(self.project, version or self.version)
        made = stress(run)
        run.project.close()
        return made, total(run.usage.values())

    def line(self, version: str = "") -> Any:
        plan = Lines(self.project, version or self.version)
        plan_stress(plan)
        return plan.lines[0]

    def cli(self, patch: pytest.MonkeyPatch, *arguments: str, code: int = 0) -> str:
        for name, value in self.settings.items():
            patch.setenv(f"CAI_{name.upper()}", value if isinstance(value, str) else json.dumps(value))
        result = CliRunner().invoke(app, ["stress", self.version, *arguments])
        assert result.exit_code == code, result.output
        return str(result.stdout if code == 0 else result.output)


class Counting(Context):
    """A context that counts its calls."""

    def __init__(self, project: Project, version: str) -> None:
        super().__init__(project, version)
        self.usage: dict[str, Usage] = {}

    def completer(self, who: str, engine: Engine | None) -> Completer:
        made = super().completer(who, engine)
        made.usage = self.usage
        return made


@pytest.fixture(scope="module")
def by_rule() -> Iterator[None]:
    plain = Scripted.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scripted, "__init__", lambda self, name="", **_: plain(self, name, reply, score))
        yield


@pytest.fixture(scope="module")
def world(by_rule: None, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("stress"))
    made.planned = made.line()  # type: ignore[attr-defined]
    made.record = made.run()  # type: ignore[attr-defined]
    return made


def test_a_run_stays_within_its_plan_and_a_second_one_asks_for_nothing(world: Any) -> None:
    pairs, drafts = 3, 3 * PER_PAIR
    readings = PRINCIPLES * 2 * (1 + 1)
    assert world.planned.generate_min == drafts + len(TOLD)  # the prompts, and the other words
    assert world.planned.generate_max == world.planned.generate_min + drafts * RESPONSES * (1 + readings)
    assert world.planned.generate_min <= world.record.generated <= world.planned.generate_max
    prompts = pl.read_parquet(world.project.layout.absolute(world.record.details["prompts"]))
    used = prompts.filter(pl.col("left_out").is_null())
    assert prompts.height == drafts
    assert set(prompts["left_out"].drop_nulls()) == {"nearly the same text as another prompt of the pair"}
    assert prompts.group_by("first", "second").len().height == pairs
    assert world.record.rows == used.height * RESPONSES
    assert any("trade-off prompts left out" in line for line in world.record.details["told"])
    assert any("mute" in line for line in world.record.details["told"])
    again = world.line()
    assert (again.generate_max, again.reuse) == (0, world.record.generated + world.record.reused)
    made, usage = world.stage()
    assert (usage.generated, usage.reused) == (0, again.reuse)
    assert made.rows.equals(world.project.records.table(world.record))
    assert gc(world.project.layout, world.project.records, apply=True, grace=0) == []  # its rows are named


def test_the_planted_conflict_and_the_unclear_principle_are_told(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = json.loads(world.cli(monkeypatch, "--json"))
    verdicts = {(p["first"], p["second"]): p["verdict"] for p in told["pairs"]}
    assert verdicts == {("less-tea", "more-tea"): "opposed", ("less-tea", "rain"): "no conflict seen",
                        ("more-tea", "rain"): "no conflict seen"}
    (opposed,) = (p for p in told["pairs"] if p["verdict"] == "opposed")
    for example in opposed["examples"]:
        teas = [int(re.findall(r"tea=(\d+)", example[f"kept_{side}"])[0]) for side in ("first", "second")]
        assert teas[0] < teas[1]
    words = {c["principle"]: c["other_words"]["value"] for c in told["principles"]}
    assert words == {"less-tea": 0, "more-tea": 0, "rain": 1}
    page = Path(world.cli(monkeypatch, "--out", str(Path(world.settings["data_root"]).parent / "page.html")).split(
        "Written to ")[1].strip()).read_text(encoding="utf-8")
    assert "less-tea and more-tea contradict each other" in page
    assert "rain is unclear to the labeler: its verdict turns with other words" in page
    evidence = of_record(world.project, world.record)
    (answer,) = (a for a in answers(evidence) if a.section == STRESS)
    assert answer.told
    assert answer.told.word == "some do"
    assert numbers(figures(evidence))["pairs_of_principles_opposed"] == 1
    assert "Share of opposed comparisons, as a matrix" in render(evidence)


def test_a_row_goes_back_to_the_call_that_wrote_its_prompt(world: Any) -> None:
    row = world.project.records.table(world.record).row(0, named=True)
    chain = row_chain(world.project.layout, row["row_id"])
    assert dict(chain.select("row_id", "parents").iter_rows()) == {
        row["row_id"]: [row["prompt_id"]], row["prompt_id"]: []}
    keys = dict(chain.select("row_id", "row_keys").iter_rows())
    assert keys == {row["prompt_id"]: [row["row_key_prompt"]], row["row_id"]: [row["row_key"], *row["row_keys"]]}
    assert set(chain["principle_ids"].explode().drop_nulls()) == {row["first"], row["second"]}


def test_an_edit_costs_the_pairs_of_its_principle(world: Any) -> None:
    edited = world.project.snapshots.register(constitution(rain="Does it speak of any rain?"))
    line = world.line(edited)
    made, usage = world.stage(edited)
    kept = world.project.records.table(world.record).filter(first="less-tea", second="more-tea")
    assert made.rows.filter(first="less-tea", second="more-tea").equals(kept)
    assert line.generate_min == 2 * PER_PAIR + 1
    assert 0 < line.reuse <= usage.reused
    assert line.generate_min < usage.generated <= line.generate_max


def test_reviewed_prompts_are_asked_in_place_of_written_ones(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                             ) -> None:
    file = tmp_path / "reviewed.jsonl"
    world.cli(monkeypatch, "--prompts", str(file))
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) * RESPONSES == world.record.rows
    more = [{"prompt": "Tea or rain?", "principles": ["rain", "mute"]}, {"prompt": "Tea?", "principles": "rain"}, {}]
    file.write_text("".join(json.dumps(r) + "\n" for r in (*rows[:4], *more)), encoding="utf-8")
    told = json.loads(world.cli(monkeypatch, "--json", "-s", f"stress.path={file}"))
    assert sum(pair["prompts"] for pair in told["pairs"]) == 4
    assert "3 of 7 trade-off prompts left out" in told["left_out"][0]
    assert "this version asks no question by mute" in told["left_out"][0]
    assert json.loads(world.cli(monkeypatch, "--json", "--plan", "-s", f"stress.path={file}"))["generate_max"] == 0
    world.cli(monkeypatch, "--prompts", str(file), code=2)


def test_off_it_asks_nobody_and_says_so(by_rule: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = World(tmp_path, stress={})
    assert (off.line().generate_max, off.line().reuse) == (0, 0)
    made, usage = off.stage()
    assert (made.rows.height, made.told, usage.generated) == (0, [], 0)
    assert "stress.prompts_per_pair is 0" in off.cli(monkeypatch, code=2)


def test_failed_calls_are_counted_and_no_verdict(by_rule: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                 ) -> None:
    broken = World(tmp_path, models={"generator": {"source": "any", "backend": "scripted"},
                                     "judge": {"source": "other", "backend": "scripted"}})
    served = Scripted.run

    def run(self: Scripted, requests: Any) -> Iterator[Any]:
        for result in served(self, requests):
            lost = hashed(result.row_key, 5) == 0
            yield result.model_copy(update={"error": "no memory", "text": ""}) if lost else result

    monkeypatch.setattr(Scripted, "run", run)
    (rows, prompts, *_), usage = broken.stage()
    assert usage.failed > 0
    assert "not written: no memory" in prompts["left_out"].to_list()
    lost = rows.filter(pl.col("response").is_null())
    assert lost.height
    assert set(lost["error"]) == {"no memory"}
    votes = rows.select(pl.concat_list("votes", "again").explode()).unnest("votes")
    assert votes.filter(pl.col("p_yes").is_null())["error"].null_count() == 0
    assert "second judge" in set(votes["by"])


def of_record(project: Any, record: Record) -> Evidence:
    """What a report page is made from, with one record."""
    version = str(record.partition)
    return Evidence(Side(version, version, project.snapshots.load(version), {"stress": record}, project.layout))


@pytest.mark.model
def test_the_real_model_is_stressed_in_dagster(tmp_path: Path) -> None:
    """Machinery alone: it writes, responds, and judges; the matrix has its pair, and the same again is reused."""
    world = World(tmp_path, models={"generator": {"source": str(prepared_model().path), "backend": "transformers"}},
                  generation={"max_tokens": 8}, written={"max_tokens": 32, "style": "plain"},
                  labels={"style": "plain"}, stress={"prompts_per_pair": 1, "paraphrases": 1})
    line, record = world.line(), world.run()
    assert line.generate_min <= record.generated <= line.generate_max
    rows = world.project.records.table(record)
    assert rows.height
    assert rows["votes"].list.len().to_list() == [PRINCIPLES] * rows.height
    votes = rows.select(pl.col("votes").explode()).unnest("votes")
    assert votes["p_yes"].is_between(0, 1).all()
    assert world.stage()[1].generated == 0

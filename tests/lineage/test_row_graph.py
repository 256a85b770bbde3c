"""Rows as numbers, against sets and loops over the same made-up tables."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cai_assets.assets import LABELS
from cai_assets.lineage.graph import Graph, Lookup, Numbers, ancestors, descendants, graph, spread
from cai_assets.lineage.shapes import Table
from cai_assets.lineage.sizes import lengths, measured, tokens
from cai_assets.store.layout import Layout
from cai_assets.store.parquet import parquet_bytes
from cai_assets.store.row_store import RowStore, StoredRow


def test_equal_ids_have_equal_numbers_whatever_else_is_forgotten() -> None:
    numbers = Numbers()
    first = numbers(pl.Series(["i1:a", "", None, "i1:b", "i1:a"])).to_list()
    assert first == [0, -1, -1, 1, 0]
    assert numbers(pl.Series(["i1:c", "i1:b"])).to_list() == [2, 1]
    assert numbers(pl.Series([], dtype=pl.String)).to_list() == []
    assert Numbers()(pl.Series(["i1:c"])).to_list() == [0]
    places = Lookup(numbers(pl.Series(["i1:c", "i1:a"])))
    assert places(numbers(pl.Series(["i1:a", "", None, "i1:new", "i1:c"]))).tolist() == [1, -1, -1, -1, 0]
    assert Lookup(pl.Series([], dtype=pl.Int32))(numbers(pl.Series(["i1:a", None]))).tolist() == [-1, -1]


class Made:
    """Random tables: prompts, responses, rounds of critiques and revisions that answer others', pairs and labels."""

    def __init__(self, root: Path, seed: int, *, prompts: int = 12, rounds: int = 3) -> None:
        self.layout, self.rng = Layout(root), random.Random(seed)
        self.parents: dict[str, set[str]] = {}
        self.principle: dict[str, set[str]] = {}
        self.text: dict[str, str] = {}
        names = [f"q{i}" for i in range(prompts)]
        last = {q: f"i1:{q}-response" for q in names}
        tables = {"prompts": [self.row(q, prompt_id=q) for q in names],
                  "initial_responses": [self.row(i, q, prompt_id=q) for q, i in last.items()]}
        critiques, revisions = [], []
        for number in range(rounds):
            said = {q: f"i1:{q}-c{number}" for q in names}
            critiques += [self.row(said[q], last[q], principle_id=self.drawn(), prompt_id=q) for q in names]
            for q in names:
                other = self.rng.choice([None, *names])
                exchanged = said[other] if other and other != q else None
                revised = f"i1:{q}-r{number}"
                revisions.append(self.row(revised, said[q], critique_id=exchanged, principle_id=self.drawn(),
                                          prompt_id=q))
                last[q] = revised
        pairs = [{"prompt_id": q, **{f"{c}_{s}": v for s in "ab" for c, v in (
            ("row_id", self.add(f"i1:{q}-{s}", {q})), ("row_key", f"r1:{q}-{s}"),
            ("response", self.text[f"i1:{q}-{s}"]))}} for q in names]
        labels = [self.label(p) for p in pairs]
        tables |= {"critiques": critiques, "revisions": revisions, "response_pairs": pairs, LABELS: labels}
        self.tables = [self.save(asset, rows) for asset, rows in tables.items()]

    def drawn(self) -> str:
        return f"p-{self.rng.randrange(70)}"  # more than fit into one word of bits

    def add(self, row_id: str, parents: set[str], principles: set[str] = frozenset()) -> str:  # type: ignore[assignment]
        self.parents[row_id], self.principle[row_id] = parents, set(principles)
        self.text[row_id] = f"{row_id} é" * self.rng.randint(1, 4)
        return row_id

    def row(
        self, row_id: str, parent: str | None = None, critique_id: str | None = None, **more: str
    ) -> dict[str, object]:
        self.add(row_id, {p for p in (parent, critique_id) if p}, {more[k] for k in ("principle_id",) if k in more})
        names = ("response", "critique", "revision")
        own = {} if parent is None else {"row_id": row_id, "parent_id": parent, "critique_id": critique_id,
                                         "row_key": row_id.replace("i1", "r1"),
                                         **dict.fromkeys(names, self.text[row_id])}
        return {**own, **more, "source": "made"}

    def label(self, pair: dict[str, str]) -> dict[str, object]:
        voters = self.rng.sample([f"p-{i}" for i in range(70)], self.rng.choice([0, 1, 3]))
        own = voters[0] if len(voters) == 1 else None
        row_id = self.add(f"i1:{pair['prompt_id']}-label", {pair["row_id_a"], pair["row_id_b"]}, set(voters))
        votes = [{"principle_id": v, "p_a": 0.6} for v in voters]
        return {**pair, "row_id": row_id, "principle_id": own, "votes": votes, "p_chosen": 0.7, "chosen": "x"}

    def save(self, asset: str, rows: list[dict[str, object]]) -> Table:
        path = self.layout.file("tables", asset, "made.parquet")
        path.write_bytes(parquet_bytes(pl.DataFrame(rows, infer_schema_length=None)))
        return Table(asset, path, "v1")

    def above(self, row_id: str) -> set[str]:
        return {row_id}.union(*(self.above(p) for p in self.parents[row_id]))


@pytest.fixture(params=[0, 1])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    return Made(tmp_path, request.param)


def ids(found: Graph, made: Made) -> list[str]:
    """Row ids by place."""
    every = list(made.parents)
    by_place = dict(zip(found.places(pl.Series(every)).tolist(), every, strict=True))
    assert -1 not in by_place
    return [by_place[i] for i in range(found.rows.height)]


def test_walks_up_and_down_are_those_of_sets(made: Made) -> None:
    found = graph(made.tables)
    names = ids(found, made)
    above = {i: made.above(i) for i in names}
    for start in names:
        at = found.places(pl.Series([start, "i1:unknown"]))
        assert at[1] == -1
        assert {names[i] for i in ancestors(at, found.parents)} == above[start]
        assert {names[i] for i in descendants(at, found.parents)} == {i for i in names if start in above[i]}


def test_principles_spread_over_all_that_came_from_their_rows(made: Made) -> None:
    found = graph(made.tables)
    names = ids(found, made)
    drawn = found.drawn()
    for name, expected in made.principle.items():
        place = int(found.places(pl.Series([name]))[0])
        assert set(drawn.filter(place=place)["principle"]) == expected
    own = np.zeros(len(names), dtype=np.uint64)
    own[found.places(pl.Series(["i1:q3-c0"]))] = np.uint64(1) << np.uint64(63)
    assert {names[i] for i in np.flatnonzero(spread(own, found.parents))} == {
        i for i in names if "i1:q3-c0" in made.above(i)}


def test_an_id_in_two_tables_is_one_row_as_the_first_has_it(made: Made) -> None:
    again = made.save("sl_dataset", [{"row_id": "i1:q1-r2", "prompt_id": "q1", "response": "other"},
                                     {"row_id": "i1:outside", "prompt_id": "g1", "response": "general"},
                                     {"row_id": "", "prompt_id": "g2", "response": "none"}])
    found = graph([again, *made.tables])
    assert found.rows.height == len(made.parents) + 1
    places = found.places(pl.Series(["i1:q1-r2", "i1:outside", ""]))
    assert lengths(found, np.sort(places[:2])).tolist() == [len(made.text["i1:q1-r2"]), len("general")]
    assert places[2] == -1


def test_sizes_are_counted_and_a_label_is_its_two_responses(made: Made) -> None:
    found, store = graph(made.tables), RowStore(made.layout)
    revised = [i for i in made.parents if "-r" in i and "response" not in i]
    pairs = [i for i in made.parents if i.endswith(("-a", "-b"))]
    with store.writer("revision") as writer:
        for i in revised:
            writer.add(StoredRow(i.replace("i1", "r1"), "{}", "", "stop", [], 1, len(i)))
    with store.writer("respond") as writer:
        for i in pairs[:-1]:
            writer.add(StoredRow(i.replace("i1", "r1"), "{}", "", "stop", [], 1, 100 + len(i)))
    labels = [f"i1:q{i}-label" for i in range(12)]
    places = np.sort(found.places(pl.Series([*revised, *labels])))
    names = ids(found, made)
    counted = dict(zip((names[i] for i in places), tokens(found, store, places).tolist(), strict=True))
    assert {i: counted[i] for i in revised} == {i: len(i) for i in revised}
    assert [counted[i] for i in labels] == [*(2 * (100 + len(f"i1:q{i}-a")) for i in range(11)), -1]
    texts = dict(zip((names[i] for i in places), lengths(found, places).tolist(), strict=True))
    for i in labels:
        assert texts[i] == sum(len(made.text[p]) for p in made.parents[i])
    assert measured(found, places, tokens(found, store, places))[0] == "characters"
    some = np.sort(found.places(pl.Series(revised)))
    unit, size = measured(found, some, tokens(found, store, some))
    assert (unit, int(size.sum())) == ("completion tokens", sum(map(len, revised)))

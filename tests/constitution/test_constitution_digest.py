"""A digest changes exactly when something changes that can change an output."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.constitution.digest import REQUESTS, content, digest, part_digest, partition_key, principle_digest
from cai_assets.constitution.load import load_file, parse
from cai_assets.constitution.model import Constitution, Use

slugs = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)
texts = st.text(st.characters(categories=["L", "N", "Po"]), min_size=1, max_size=20)
weights = st.floats(0.01, 1000)
shots: dict[str, Any] = {
    "revision": st.fixed_dictionaries(
        dict.fromkeys(("prompt", "response", "critique_request", "critique", "revision_request", "revision"), texts)),
    "preference": st.fixed_dictionaries(
        dict.fromkeys(("prompt", "a", "b", "request"), texts) | {"choice": st.sampled_from("AB")}),
}


@st.composite
def principles(draw: st.DrawFn) -> list[dict[str, Any]]:
    both = {"critique": texts, "revision": texts}
    labels, judging = {"preference": texts}, {"evaluation": texts}
    kinds = st.one_of(st.fixed_dictionaries(k) for k in (both, labels, judging, both | labels, both | labels | judging))
    ids = draw(st.lists(slugs, min_size=1, max_size=5, unique=True))
    return [{"id": i, "weight": draw(weights), **draw(kinds)} for i in ids]


files = st.fixed_dictionaries({
    "version": slugs,
    "principles": principles(),
    "few_shots": st.fixed_dictionaries({k: st.lists(s, max_size=3) for k, s in shots.items()}),
})


def read(file: dict[str, Any], name: str = "c") -> Constitution:
    return Constitution.model_validate(file | {"name": name})


def clone(file: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(file))


def as_yaml(value: Any, data: st.DataObject, indent: str = "") -> str:
    """Block style with shuffled keys and comments in between; lists keep their order."""
    if isinstance(value, dict) and value:
        keys = data.draw(st.permutations(list(value)))
        return "".join(f"\n{indent}# {k} follows\n{indent}{k}: {as_yaml(value[k], data, indent + '  ')}" for k in keys)
    if isinstance(value, list) and value:
        return "".join(f"\n{indent}- {as_yaml(x, data, indent + '  ')}" for x in value)
    return json.dumps(value, ensure_ascii=False)


@given(files, st.data())
def test_layout_labels_and_order_do_not_count(file: dict[str, Any], data: st.DataObject) -> None:
    shuffled = clone(file) | {"version": "other", "description": "Something else."}
    shuffled["principles"] = data.draw(st.permutations(shuffled["principles"]))
    for p in shuffled["principles"]:
        p |= {"name": "Display", "tags": ["do"], "source": "a book"}
    c = parse(as_yaml(shuffled, data), name="elsewhere")
    assert digest(c) == digest(read(file))
    for use in REQUESTS:
        assert part_digest(c, use) == part_digest(read(file), use)
        for p in c.principles:
            assert principle_digest(p, use) == principle_digest(read(file).principle(p.id), use)


@given(files, st.data())
def test_what_counts_changes_the_digest_and_only_its_part(file: dict[str, Any], data: st.DataObject) -> None:
    changed = clone(file)
    p = data.draw(st.sampled_from(changed["principles"]))
    field = data.draw(st.sampled_from([k for k in p if k not in ("id", "weight")]))
    p[field] += "!"
    before, after = read(file), read(changed)
    assert digest(before) != digest(after)
    uses: tuple[Use, ...] = ("critique", "preference", "evaluation")
    for use in uses:
        same = field not in REQUESTS[use]
        assert (part_digest(before, use) == part_digest(after, use)) == same
        principles_ = before.principle(p["id"]), after.principle(p["id"])
        assert (principle_digest(principles_[0], use) == principle_digest(principles_[1], use)) == same


@given(files, st.data())
def test_ids_weights_and_members_count(file: dict[str, Any], data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(file["principles"]) - 1))
    renamed, weighed, added, removed = (clone(file) for _ in range(4))
    renamed["principles"][i]["id"] += "-2x"
    weighed["principles"][i]["weight"] /= 2
    added["principles"].append({"id": "a-new-one-here", "preference": "x"})
    variants = [renamed, weighed, added]
    if len(file["principles"]) > 1:
        del removed["principles"][i]
        variants.append(removed)
    ids = [p["id"] for p in renamed["principles"]]
    digests = [digest(read(v)) for v in variants if v is not renamed or len(set(ids)) == len(ids)]
    assert len({digest(read(file)), *digests}) == len(digests) + 1


@given(files, st.data())
def test_few_shots_count_in_their_part_and_in_order(file: dict[str, Any], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["revision", "preference"]))
    changed = clone(file)
    block = changed["few_shots"][kind]
    block.append(data.draw(shots[kind]))
    read_by: Use = "critique" if kind == "revision" else "preference"
    assert digest(read(file)) != digest(read(changed))
    for use in REQUESTS:
        assert (part_digest(read(file), use) == part_digest(read(changed), use)) == (use != read_by)
    turned = clone(changed)
    turned["few_shots"][kind].reverse()
    assert (digest(read(turned)) == digest(read(changed))) == (turned == changed)


def test_every_field_of_a_shot_counts() -> None:
    base = {"version": "v1", "principles": [{"id": "a", "preference": "x"}]}
    shot = {"prompt": "p", "a": "x", "b": "y", "request": "r", "choice": "A"}
    seen = {digest(read(base | {"few_shots": {"preference": [shot]}}))}
    seen |= {digest(read(base | {"few_shots": {"preference": [shot | {f: "B"}]}})) for f in shot}
    assert len(seen) == len(shot) + 1


def test_the_weight_is_no_part_of_a_principle_digest() -> None:
    p = {"id": "a", "preference": "x"}
    light, heavy = (read({"version": "v1", "principles": [p | {"weight": w}]}) for w in (1, 2))
    assert principle_digest(light.principles[0], "preference") == principle_digest(heavy.principles[0], "preference")
    assert part_digest(light, "preference") != part_digest(heavy, "preference")


def test_the_digest_never_changes_by_accident() -> None:
    requests = {"critique": "Find \u00e9.", "revision": "Fix \u00e9."}
    c = read({"version": "v1", "principles": [{"id": "a"} | requests]})
    assert content(c) == {
        "principles": [{"id": "a", "weight": 1.0, "preference": None} | requests],
        "few_shots": {"revision": [], "preference": []},
    }
    assert digest(c) == "c1:daddad7c19edd76f5ef068edf78c15f7"
    judged = read({"version": "v1", "principles": [{"id": "a", "evaluation": "Which?"} | requests]})
    assert content(judged)["principles"] == [{"id": "a", "weight": 1.0, "preference": None, "evaluation": "Which?"}
                                             | requests]


BUNDLED = {  # digest, critique part and preference part before there were evaluation requests, reasons and checks
    "customer-service": ("71a9324a345cc026fd32974c0dd12c55", "c11b310ef85e2214a47ea92269cdd215",
                         "7189b5d2d09b8dfe1a5d111ca7f275ee"),
    "harmlessness": ("6fc0b71ae24ea3cc1498491e1151f29a", "8393d41fe70dce4c9fb5a6535beb448c",
                     "e2925547fc05c8e9497b005fe4109b2e"),
    "plain-speech": ("651fae2f4d1268845faf49bfe04b9456", "2e9d93e19391c00403ef86d860ba197d",
                     "c23a0b40444a5be1c9c2647498cb43bd"),
    "red-team": ("9fb1306a928ff10efd4a95bc80e9bff0", "30d7a9e03760781d49585d07fa1ebc51",
                 "f5304863405f1ec3b0ca8826162797a9"),
}


@pytest.mark.parametrize("name", BUNDLED)
def test_without_evaluation_requests_reasons_and_checks_digests_are_what_they_always_were(name: str) -> None:
    c = load_file(Path(__file__).parents[2] / "constitutions" / f"{name}.yaml")
    trains = tuple(p.model_copy(update={"evaluation": None, "check": None}) for p in c.principles
                   if p.critique or p.preference)
    shots = tuple(s.model_copy(update={"reasons": None}) for s in c.few_shots.preference)
    without = c.model_copy(update={
        "principles": trains, "few_shots": c.few_shots.model_copy(update={"preference": shots})})
    whole, critique, preference = BUNDLED[name]
    assert digest(without) == f"c1:{whole}"
    assert part_digest(without, "preference") == f"c1part:{preference}"
    assert part_digest(c, "critique") == part_digest(without, "critique") == f"c1part:{critique}"
    assert (part_digest(c, "preference") == part_digest(without, "preference")) == (name != "harmlessness")
    assert digest(c) != digest(without)


@given(files, slugs)
def test_partition_keys_are_readable_and_safe(file: dict[str, Any], name: str) -> None:
    c = read(file, name)
    key = partition_key(c)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,99}", key)
    assert key == f"{name}-{c.version}-{digest(c)[3:11]}"


def test_a_partition_key_has_at_most_100_characters() -> None:
    c = read({"version": "v" * 50, "principles": [{"id": "a", "preference": "x"}]}, "n" * 40)
    assert len(partition_key(c)) == 100
    with pytest.raises(ValueError, match="91 characters together but may have only 90"):
        partition_key(c.model_copy(update={"name": "n" * 41}))

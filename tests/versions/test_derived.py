"""Derived versions are recorded once, know where they come from, and disturb no other version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cai_assets.constitution.derive import again, only, without
from cai_assets.constitution.load import load_file
from cai_assets.constitution.model import Constitution
from cai_assets.lineage.verify import verify
from cai_assets.store.layout import Layout
from cai_assets.versions.archive import previous
from cai_assets.versions.derived import Derivations
from cai_assets.versions.snapshots import Snapshots, UnknownVersion

SERVICE = load_file(Path(__file__).parents[2] / "constitutions" / "customer-service.yaml")
EDITED = SERVICE.model_copy(update={"version": "v2", "principles": tuple(
    p.model_copy(update={"critique": "Another request."}) if p.id == "hand-over" else p for p in SERVICE.principles)})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_a_derived_version_is_registered_once_with_its_origin(layout: Layout) -> None:
    snapshots, derivations = Snapshots(layout), Derivations(layout)
    version = snapshots.register(SERVICE)
    derived = without(SERVICE, "hand-over", seed=1)
    key = derivations.register(version, derived)
    assert derivations.register(version, derived) == key == derived.key
    origin = derivations.origin(key)
    assert origin is not None
    assert (origin.version, origin.kind, origin.principle, origin.seed) == (version, "without", "hand-over", 1)
    assert derivations.origin(f"{key}-r2") == origin
    assert derivations.origin(version) is None
    assert derivations.among([version, key, f"{key}-r3", f"{version}-r2"]) == {key, f"{key}-r3"}
    assert snapshots.load(f"{key}-r2") == derived.constitution
    assert len(json.loads((layout.root / "constitutions-derived.json").read_text())) == 1
    with pytest.raises(UnknownVersion):
        derivations.register("nobody-v1-00000000", derived)


def test_the_version_before_another_is_never_a_derived_one(layout: Layout) -> None:
    snapshots, derivations = Snapshots(layout), Derivations(layout)
    first = snapshots.register(SERVICE)
    for derived in (without(SERVICE, "hand-over"), only(SERVICE, "hand-over"), again(SERVICE, 1)):
        derivations.register(first, derived)
    second = snapshots.register(EDITED)
    assert previous(second, snapshots) == first
    assert previous(first, snapshots) is None


def test_two_versions_may_share_a_derived_one(layout: Layout) -> None:
    snapshots, derivations = Snapshots(layout), Derivations(layout)
    same_label = EDITED.model_copy(update={"version": SERVICE.version})
    versions = [snapshots.register(c) for c in (SERVICE, same_label)]
    keys = {derivations.register(v, without(c, "hand-over"))
            for v, c in zip(versions, (SERVICE, same_label), strict=True)}
    assert len(keys) == 1
    assert [o.version for o in derivations.origins()] == versions


def test_a_version_that_a_person_registered_is_never_taken_for_a_derived_one(layout: Layout) -> None:
    snapshots, derivations = Snapshots(layout), Derivations(layout)
    version = snapshots.register(SERVICE)
    derived = without(SERVICE, "hand-over")
    own = snapshots.register(derived.constitution)
    assert derivations.register(version, derived) == own
    assert derivations.origin(own) is None


def test_verify_names_a_broken_list(layout: Layout) -> None:
    Derivations(layout).register(Snapshots(layout).register(SERVICE), without(SERVICE, "hand-over"))
    assert list(verify(layout)) == []
    (layout.root / "constitutions-derived.json").write_text("[{")
    assert ["constitutions-derived.json" in p.path for p in verify(layout)] == [True]


def test_a_later_text_has_a_derived_version_of_its_own() -> None:
    assert without(SERVICE, "solve-first").key != without(EDITED, "solve-first").key
    assert isinstance(without(EDITED, "solve-first").constitution, Constitution)

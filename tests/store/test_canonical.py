from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cai_assets.store.canonical import canonical_json, digest_lines, tagged_hash

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner))


@given(values)
def test_canonical_form_carries_the_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text("abc"), st.integers(), min_size=2))
def test_key_order_does_not_count(value: dict[str, int]) -> None:
    assert tagged_hash("x", value) == tagged_hash("x", dict(reversed(value.items())))


@pytest.mark.parametrize("bad", [{1: 2}, {"a": object()}, [b"x"], {"a": {1, 2}}])
def test_what_json_cannot_carry_is_refused(bad: object) -> None:
    with pytest.raises(TypeError, match=r"\$"):
        tagged_hash("x", bad)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))


def test_tag_is_part_of_the_hash_and_is_pinned() -> None:
    # Golden: if this changes, every stored key becomes unreachable.
    assert tagged_hash("r1", {"a": [1, "x", None]}) == "r1:ba2c6d96b0367f59796f79eb5213084b"
    assert tagged_hash("k1", {}).startswith("k1:")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.lists(st.text("ab")))
def test_line_digests_do_not_collide_by_joining(a: list[str], b: list[str]) -> None:
    assert (digest_lines("d", a) == digest_lines("d", b)) == (a == b)

"""What is taken out of settings before they leave."""

from __future__ import annotations

import pytest

from cai_assets.export.provenance import digest_set
from cai_assets.export.scrub import WITHHELD, scrub


@pytest.mark.parametrize(("text", "left"), [
    ("/home/me/models/base", "base"), ("/base", "base"), ("~/models/base/", "base"),
    ("scripted:/tmp/a b", "scripted:a b"), ("scripted:/srv/x/tiny", "scripted:tiny"), ("owner/name", "owner/name"),
    ("data/prompts.jsonl", "data/prompts.jsonl"),
    ("http://10.0.0.7:8000/v1", WITHHELD), ("refused by https://host.local/v1 twice", f"refused by {WITHHELD} twice"),
    ("1/2 and/or 3", "1/2 and/or 3"), ("k1:0123abcd", "k1:0123abcd"), ("cannot open /var/x/y.jsonl: gone",
                                                                       "cannot open y.jsonl: gone"),
])
def test_of_a_local_path_the_last_part_stays_and_addresses_go(text: str, left: str) -> None:
    assert scrub(text) == left


def test_everything_inside_is_scrubbed_and_numbers_stay() -> None:
    assert scrub({"a": ["/x/y", 1, None], "b": {"c": ("http://h/",)}, "d": 0.5}) == {
        "a": ["y", 1, None], "b": {"c": [WITHHELD]}, "d": 0.5}


def test_digests_keep_their_names() -> None:
    assert digest_set("sha256:" + "a" * 64) == {"sha256": "a" * 64}
    assert digest_set("t1:" + "b" * 32) == {"cai_t1": "b" * 32}
    assert digest_set("scripted:tiny") == {}

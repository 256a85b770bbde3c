"""A credential that a server needs is in nothing that is kept or shown, in no form in which a server may echo it."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from cai_assets.engines.served.mask import Mask
from cai_assets.lineage.verify import verify
from cai_assets.settings import Model, ServerAddress, SettingsError, load_settings
from cai_assets.store.layout import Layout
from cai_assets.store.records import Record, Records

pytestmark = pytest.mark.fault("credentials in addresses, echoes, settings and records")

PASSWORD, TOKEN, FRAGMENT = 'hunter2"/\\&é-canary', "tok+en/canary", "frag-canary"
ADDRESS = f"http://me:{quote(PASSWORD, safe='')}@host:8000/v1?token={quote(TOKEN)}&v=1#{FRAGMENT}"
SHOWN = "http://***@host:8000/v1?***"
ECHOES = {
    "as it is": lambda s: s, "in a URL": lambda s: quote(s, safe=""), "in a form": quote_plus, "in JSON": json.dumps,
    "in plain JSON": lambda s: json.dumps(s, ensure_ascii=False), "as Python shows it": repr,
    "alone in Base64": lambda s: b64encode(s.encode()).decode(),
    "after one byte": lambda s: b64encode(f"x{s}".encode()).decode(),
    "within two": lambda s: b64encode(f"xy{s}:z".encode()).decode(),
    "in Base64 for URLs": lambda s: urlsafe_b64encode(f"é?{s}>>".encode()).decode(),
    "in hexadecimal": lambda s: s.encode().hex(),
}


def test_an_address_shows_none_of_its_credentials_and_uses_all() -> None:
    address = ServerAddress(ADDRESS)
    assert {str(address), f"{address}", address.__repr__()[15:-2]} == {SHOWN}
    assert address.login == ("me", PASSWORD)
    assert address.endpoint("completions") == f"http://host:8000/v1/completions?token={quote(TOKEN)}&v=1"
    assert {PASSWORD, TOKEN, FRAGMENT, f"me:{PASSWORD}"} <= set(address.secrets)


def test_settings_hold_it_and_print_it_without() -> None:
    settings = load_settings(environment={"CAI_MODELS__GENERATOR": json.dumps({"base_urls": [ADDRESS]})})
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert SHOWN in text
        assert "canary" not in text
    assert settings.models.generator.base_urls[0].login == ("me", PASSWORD)
    assert Model(base_urls=("http://host:8000/v1/",)).model_dump_json(include={"base_urls"}) == (
        '{"base_urls":["http://host:8000/v1/"]}')


def test_models_whose_credentials_differ_are_two() -> None:
    one, two = (Model(base_urls=(f"http://me:{p}@h/v1",)) for p in ("a", "b"))
    assert one != two
    assert one.model_dump() == two.model_dump()


@pytest.mark.parametrize("override", [
    {"models": {"generator": {"base_urls": [ADDRESS]}}}, {"models": {"critic": {"base_urls": ["http://h/v1?key=canary"]}}},
    {"evaluation": {"others": {"x": {"source": "m", "base_urls": ["https://canary@h/v1"]}}}},
    {"models": {"judge": {"base_urls": "http://h/v1#canary"}}},
])
def test_a_run_does_not_take_one_because_it_would_be_kept_with_it(override: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="api_key_env") as caught:
        load_settings(override, environment={})
    assert "canary" not in str(caught.value)
    with pytest.raises(SettingsError, match="kept with this run already, so change it") as caught:
        load_settings(run_config=override, environment={})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("wrong", [
    "me:canary@host/v1", "ftp://me:canary@host/v1", "http://me:can/ary@host:8000/v1", "http://me:canary@host:99999/v1",
    "http://me:canary@/v1", "http://me:canary @h/v1", "http://h\n/v1", "", "h:8000", "http://***@h/v1"])
def test_what_is_no_address_is_named_without_what_may_be_a_credential(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"models\.generator\.base_urls") as caught:
        load_settings(environment={"CAI_MODELS__GENERATOR": json.dumps({"base_urls": [wrong]})})
    assert "can" not in str(caught.value).replace("cannot", "").partition("'cai settings'")[0]


def test_the_command_line_says_so_in_one_line_and_keeps_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cai_assets.cli", "plan", "x", "-s", f"models.generator={{base_urls: ['{ADDRESS}']}}"],
        capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "canary" not in done.stdout + done.stderr
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("secret", [PASSWORD, TOKEN, "sk-canary-123456"])
def test_every_echo_of_one_is_hidden_and_is_no_answer(secret: str, echo: object) -> None:
    mask = Mask("sk-canary-123456", *ServerAddress(ADDRESS).secrets)
    said = f"you sent {echo(secret)}, thanks"  # type: ignore[operator]
    core = {e(secret)[2:-3] for e in ECHOES.values()}  # type: ignore[no-untyped-call]
    assert not any(c in mask(said) for c in core)
    assert mask.told_in(said)
    assert not mask.told_in("an ordinary answer about passwords and tokens")


def test_ordinary_words_are_no_credentials() -> None:
    mask = Mask("none", "EMPTY", "1")
    assert not mask.told_in("The set is EMPTY: 1, none.")
    assert mask("none of 1") == "none of 1"


@pytest.mark.parametrize(("settings", "details"), [
    ({"models": {"generator": {"base_urls": [ADDRESS]}}}, {}),
    ({"models": {"judge": {"base_urls": ["http://h/v1?token=canary"]}}}, {}),
    ({}, {"errors": {"status 400: Authorization: Basic bWU6aHVudGVyMi1jYW5hcnk=": 3}}),
    ({}, {"plan": {"causes": ["models.generator.base_urls: ['http://me:canary@h/v1'] -> ()"]}}),
])
def test_records_that_hold_one_are_named_with_the_remedy(
    settings: dict[str, object], details: dict[str, object], tmp_path: Path
) -> None:
    layout = Layout(tmp_path)
    whole = Record(asset="constitution", partition="v", digest="c", path="constitutions/v.json")
    Records(layout).add(whole.model_copy(update={"settings": settings, "details": details}))
    Records(layout).add(whole.model_copy(update={"details": {"judge": {"url": "http://h/v1?page=1"}}}))
    (problem,) = [p for p in verify(layout) if p.kind == "record"]
    assert "000001" in problem.path
    assert "change that credential" in problem.todo
    assert "canary" not in str(problem)

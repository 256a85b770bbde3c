"""Model cards: readable front matter, everything said, nothing live, no local path."""

import dataclasses

import pytest
import yaml
from markdown_it import MarkdownIt

from cai_assets.evals.statistics import Estimate
from cai_assets.reports.cards import CardInput, PrincipleUse, model_card

CARD = CardInput(
    kind="reinforcement", key="checkpoint:0123", base="owner/small-model", base_digest="weights:ab",
    license="apache-2.0", constitution="harmlessness-v2-db7bdcf1",
    rows={"prompts": 1200, "held out": 30}, created="2030-01-02T03:04:05Z",
    code="abc123", settings={"learning_rate": 1e-6, "beta": 0.05},
    principles=[PrincipleUse("rare", "Be kind.", 3), PrincipleUse("often", "Do no $harm | [x](http://e.example)", 40)],
    metrics={"harmlessness win rate": Estimate(0.61, 200, 0.54, 0.68), "kl": 2.5, "agreement": None},
)


def split(card):
    text = model_card(card)
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def change(**values):
    return dataclasses.replace(CARD, **values)


def test_the_front_matter_is_what_the_hub_reads():
    front, _ = split(CARD)
    assert front == {"library_name": "transformers", "base_model": "owner/small-model", "license": "apache-2.0",
                     "pipeline_tag": "text-generation", "tags": ["constitutional-ai", "cai-assets", "trl", "ppo"]}


def test_the_hub_library_accepts_it():
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(model_card(CARD)).data
    assert data.base_model == "owner/small-model"
    assert data.pipeline_tag == "text-generation"


def test_a_reward_model_loads_as_a_classifier():
    front, body = split(change(kind="reward"))
    assert front["pipeline_tag"] == "text-classification"
    assert "AutoModelForSequenceClassification.from_pretrained" in body
    assert "AutoModelForCausalLM.from_pretrained" in split(change(kind="supervised"))[1]


@pytest.mark.parametrize("base", ["/secret/place/small-model", "C:\\secret\\small-model", "small-model"])
def test_a_local_base_shows_its_name_and_no_path(base):
    front, body = split(change(base=base))
    assert "base_model" not in front
    assert "secret" not in body
    assert "small-model" in body


def test_an_unknown_license_is_left_out():
    assert "license" not in split(change(license=None))[0]


def test_rows_principles_settings_metrics_and_origin_are_all_there():
    _, body = split(CARD)
    for text in ("1,230 rows", "| prompts | 1,200 |", "harmlessness-v2-db7bdcf1", r"learning\_rate", "1e-06",
                 r"0.61 \[0.54, 0.68\] (n = 200)", "| kl | 2.5 |", "| agreement | unknown |", "checkpoint:0123",
                 "weights:ab", "abc123", "2030-01-02", "## Limits",
                 "Nothing here shows that the model is safe to deploy"):
        assert text in body, text
    assert body.index("| often |") < body.index("| rare |")


def test_texts_of_principles_are_shown_and_never_live():
    _, body = split(CARD)
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    children = [c for t in tokens for c in t.children or []]
    links = [c.attrs["href"] for c in children if c.type == "link_open"]
    assert links == ["#provenance"]
    assert any("Do no $harm | [x](http://e.example)" in "".join(c.content for c in t.children or []) for t in tokens)


def test_what_is_missing_is_said():
    _, body = split(change(constitution=None, principles=(), metrics={}, settings={}))
    assert "No constitution was involved." in body
    assert "Nothing was measured on this checkpoint." in body
    assert "None recorded." in body


def test_the_loading_code_compiles():
    _, body = split(CARD)
    code = body.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")


def test_making_a_card_needs_no_torch():
    import subprocess
    import sys

    program = "import sys, cai_assets.reports.cards, cai_assets.reports.charts, cai_assets.evals.evaluate; " \
              "sys.exit(bool({'torch', 'transformers', 'vllm', 'trl', 'dagster'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

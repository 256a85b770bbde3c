"""Response pairs: two samples of the SL policy for each training prompt (Bai et al. 2022, section 4.1)."""

from __future__ import annotations

import polars as pl

from cai_assets.engines.protocol import Call, Sampling
from cai_assets.lineage.keys import row_id
from cai_assets.settings import Pairs
from cai_assets.steps.complete import Completer
from cai_assets.steps.respond import RESPOND

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "pair_id": pl.String, "prompt_id": pl.String, "kind": pl.String, "category": pl.String,
    "messages": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
    "response_a": pl.String, "response_b": pl.String, "identical": pl.Boolean, "error": pl.String,
    "row_key_a": pl.String, "row_key_b": pl.String, "row_id_a": pl.String, "row_id_b": pl.String,
}


def pair_responses(prompts: pl.DataFrame, *, complete: Completer, settings: Pairs, max_tokens: int) -> pl.DataFrame:
    """``per_prompt`` pairs for each prompt; identical ones are marked, failed ones carry the reason."""
    sampling = Sampling(temperature=settings.temperatures[0], top_p=settings.top_p, max_tokens=max_tokens)
    wanted = [(p, n) for p in prompts.sort("prompt_id").iter_rows(named=True) for n in range(settings.candidates // 2)]
    calls = [Call(messages=tuple(p["messages"]), sampling=sampling, sample=2 * n + side)
             for p, n in wanted for side in (0, 1)]
    rows = complete(RESPOND, calls, what="response pairs")
    pairs = []
    for i, (prompt, number) in enumerate(wanted):
        a, b = rows[2 * i], rows[2 * i + 1]
        texts = [None if r.text is None else r.text.strip() for r in (a, b)]
        error = next((f"response {side}: {r.error or 'empty'}" for side, r, t in zip("AB", (a, b), texts, strict=True)
                      if not t), None)
        pairs.append({
            "pair_id": f"{prompt['prompt_id']}-{number}", "prompt_id": prompt["prompt_id"], "kind": prompt["kind"],
            "category": prompt["category"], "messages": prompt["messages"],
            "response_a": texts[0], "response_b": texts[1], "identical": texts[0] == texts[1], "error": error,
            "row_key_a": a.row_key, "row_key_b": b.row_key,
            "row_id_a": row_id(a.row_key, a.text, [prompt["prompt_id"]]),
            "row_id_b": row_id(b.row_key, b.text, [prompt["prompt_id"]]),
        })
    return pl.DataFrame(pairs, schema=SCHEMA)

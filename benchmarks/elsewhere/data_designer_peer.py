"""The calls of ``benchmarks/peers.py`` by NeMo Data Designer, in an environment of its own: a column for each kind.

A column has one prompt: the turns of a conversation are joined.
"""

import json
import os
import resource
import sys
import time

os.environ["NEMO_TELEMETRY_ENABLED"] = "false"

import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner


def main() -> None:
    asked = json.load(sys.stdin)
    provider = dd.ModelProvider(name="here", endpoint=asked["url"], provider_type="openai", api_key="none")
    begun = time.perf_counter()
    answers = sum(answered(provider, calls, asked["in_flight"], i) for i, calls in enumerate(asked["kinds"]))
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"calls": answers, "seconds": seconds, "peak": peak}))


def answered(provider: dd.ModelProvider, calls: list, in_flight: int, number: int) -> int:
    """The number of calls that got an answer."""
    first = calls[0]
    model = dd.ModelConfig(alias="m", model="m", provider="here", inference_parameters=dd.ChatCompletionInferenceParams(
        max_tokens=first["max_tokens"], temperature=first["temperature"], top_p=first["top_p"],
        max_parallel_requests=in_flight))
    prompts = ["\n\n".join(message["content"] for message in call["messages"]) for call in calls]
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.DataFrameSeedSource(df=pd.DataFrame({"given": prompts})))
    builder.add_column(dd.LLMTextColumnConfig(name="answer", model_alias="m", prompt="{{ given }}"))
    made = DataDesigner(artifact_path="artifacts", model_providers=[provider]).create(
        builder, num_records=len(calls), dataset_name=f"kind{number}")
    return len(made.load_dataset())


if __name__ == "__main__":
    main()

"""The calls of ``benchmarks/peers.py`` by distilabel, in an environment of its own: a pipeline for each kind."""

import json
import resource
import sys
import time

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import ChatGeneration


def main() -> None:
    asked = json.load(sys.stdin)
    begun = time.perf_counter()
    answers = sum(answered(asked["url"], calls, asked["in_flight"], str(i)) for i, calls in enumerate(asked["kinds"]))
    seconds = time.perf_counter() - begun
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024
    print(json.dumps({"calls": answers, "seconds": seconds, "peak": peak}))


def answered(url: str, calls: list, in_flight: int, name: str) -> int:
    """The number of calls that got an answer."""
    first = calls[0]
    with Pipeline(name=name) as pipeline:
        given = LoadDataFromDicts(data=[{"messages": call["messages"]} for call in calls], batch_size=in_flight)
        ask = ChatGeneration(input_batch_size=in_flight, llm=OpenAILLM(
            model="m", base_url=url, api_key="none", timeout=3600, generation_kwargs={
                "max_new_tokens": first["max_tokens"], "temperature": first["temperature"], "top_p": first["top_p"]}))
        given >> ask
    rows = pipeline.run(use_cache=False)["default"]["train"]
    return sum(generation is not None for generation in rows["generation"])


if __name__ == "__main__":
    main()

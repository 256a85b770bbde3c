"""The model provider ``cai``: ``cai/rl_policy@VERSION``, ``cai/base``, ``cai/judge``, a checkpoint's key or folder.

Every answer is a row of the project's store, under the key it has in ``suite_results``. What a row needs and Inspect
has no name for is passed as follows: the sample's index as ``seed``, the answers to score as
``extra_body={"answers": [...]}``; the row comes back in the output's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from cai_assets.engines.protocol import Call, Message, Sampling, Style
from cai_assets.errors import CaiError
from cai_assets.inspect_bridge.rows import Answers
from cai_assets.steps.complete import Row

AT_ONCE = 1000  # samples in flight: the engine batches calls that arrive together
STOPPED = {"stop": "stop", "length": "max_tokens", "score": "stop"}


class RowFailed(CaiError):
    """A call that came back as a failed row."""


@modelapi(name="cai")
class CaiAPI(ModelAPI):  # type: ignore[misc]
    """Answers through the project's engines. ``settings``: as for ``--set``, such as ``{"scale": "small"}``."""

    def __init__(
        self, model_name: str, base_url: str | None = None, api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(), settings: dict[str, Any] | None = None,  # noqa: B008
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.answers = Answers(settings or {}, model_name)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One row. Raise ValueError for what the engines cannot do, RowFailed for a failed row."""
        if tools or (config.num_choices or 1) > 1:
            raise ValueError("cai models take no tools and give one answer; ask for more by 'seed', the sample's index")
        row = await self.answers.row(self._call(input, config))
        if row.error is not None or row.text is None:
            raise RowFailed(row.error or "no text came back")
        return _output(self.model_name, row)

    def max_connections(self) -> int:
        """As many as the engine can batch."""
        return AT_ONCE

    def max_tokens(self) -> int:
        """From the project's settings, if a task names none."""
        return self.answers.project.settings.generation.max_tokens

    def should_retry(self, ex: BaseException) -> bool:
        """Never: engines retry whatever can be retried."""
        return False

    def _call(self, input: Sequence[ChatMessage], config: GenerateConfig) -> Call:
        g, more = self.answers.project.settings.generation, config.extra_body or {}
        style: Style = more.get("style", "chat")
        messages = tuple(Message(role=m.role, content=m.text) for m in input)
        if "answers" in more:
            return Call(messages=messages, style=style, answers=tuple(more["answers"]))
        sampling = Sampling(
            temperature=g.temperature if config.temperature is None else config.temperature,
            top_p=g.top_p if config.top_p is None else config.top_p,
            max_tokens=config.max_tokens or g.max_tokens, stop=tuple(config.stop_seqs or ()))
        return Call(messages=messages, style=style, sampling=sampling, sample=config.seed or 0)


def call_config(call: Call) -> GenerateConfig:
    """A scoring call as Inspect carries it."""
    return GenerateConfig(extra_body={"answers": list(call.answers), "style": call.style})


def row_of(output: ModelOutput) -> Row:
    """The row behind an output. Raise RowFailed for an output of another provider."""
    facts = output.metadata or {}
    if "row_key" not in facts:
        raise RowFailed(f"{output.model} gives no exact probabilities: use a cai model, such as cai/judge")
    return Row(facts["row_key"], facts["status"], output.completion, facts["finish"], tuple(facts["logprobs"]))


def _output(model: str, row: Row) -> ModelOutput:
    new = row.status == "generated"  # a reused row costs nothing
    read, written = (row.prompt_tokens, row.completion_tokens) if new else (0, 0)
    facts = {"row_key": row.row_key, "status": row.status, "finish": row.finish, "logprobs": list(row.logprobs)}
    message = ChatMessageAssistant(content=row.text or "", model=model, source="generate")
    return ModelOutput(
        model=model, choices=[ChatCompletionChoice(message=message, stop_reason=STOPPED.get(row.finish, "stop"))],
        usage=ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written), metadata=facts)

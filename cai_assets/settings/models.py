"""Settings of models: what they are, where they are served, who does what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from cai_assets.registry.engines import AUTO, BACKENDS
from cai_assets.settings.address import ServerAddress
from cai_assets.settings.base import Group

BackendName = Annotated[str, AfterValidator(lambda name: BACKENDS.check(name, AUTO))]
Role = Literal["generator", "critic", "labeller", "judge", "policy", "writer"]
BUILTIN_MODEL = "smollm2-135m-instruct"


class Server(Group):
    """OpenAI-compatible servers that share the work, and the environment variable that holds their key."""

    base_urls: tuple[ServerAddress, ...] = ()
    """Addresses such as http://host:8000/v1. Several share the work."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key. The key itself is never written down."""


class Model(Group):
    """One model. A name alone stands for its ``source``. ``server: NAME`` stands for the ``base_urls`` and
    ``api_key_env`` that the setting ``servers`` has under that name."""

    source: str = BUILTIN_MODEL
    """'smollm2-135m-instruct' (ships as a Python package), a local folder, a Hub ID, or the name under which a server
    knows the model."""
    revision: str | None = None
    """Commit or tag of a Hub ID."""
    backend: BackendName = AUTO
    """Engine that runs it: vllm, transformers, scripted, openai, or one of your own. 'auto' chooses."""
    base_urls: tuple[ServerAddress, ...] = ()
    """Addresses of OpenAI-compatible servers. With one, the model does not run here."""
    tokenizer: str | None = None
    """Local tokenizer of a served model: prompts are then sent as token IDs."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the servers' key."""
    served_as: tuple[str, ...] = ()
    """Other names by which a server may answer as this model, such as the dated name behind an alias."""
    answer_samples: int | None = Field(default=None, ge=2, le=1024)
    """For a server without log-probabilities: how often each question with fixed answers is asked. The share of the
    replies stands for the probability of an answer."""
    answer_tokens: int = Field(default=16, ge=1)
    """Most tokens of each of these replies. A model that reasons first needs many."""
    thinking: Literal["off", "keep", "budget"] = "off"
    """Of a model that thinks before it answers: 'off' (it is told not to, or refused if nothing tells it), 'keep'
    (thoughts are kept beside answers, and both share the tokens that an answer may have), or 'budget' (a thought
    has thinking_tokens of its own, and is ended there)."""
    thinking_tokens: int = Field(default=1024, ge=1)
    """With 'budget': most tokens of a thought."""
    price_input: float | None = Field(default=None, ge=0)
    """US dollars for a million tokens that a served model reads. It affects only reports."""
    price_output: float | None = Field(default=None, ge=0)
    """US dollars for a million tokens that a served model writes. It affects only reports."""

    @model_validator(mode="before")
    @classmethod
    def _named_server(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, Mapping) or "server" not in value:
            return value
        rest = {key: part for key, part in value.items() if key != "server"}
        servers = info.context if isinstance(info.context, Mapping) else {}
        return rest if value["server"] is None else {**rest, **_server(str(value["server"]), rest, servers)}

    @model_validator(mode="after")
    def _budget_by_tokens(self) -> Model:
        if self.thinking == "budget" and self.base_urls and self.tokenizer is None:
            raise ValueError("thinking=budget ends a thought in the prompt that the server goes on from: name the "
                             "model's tokenizer, or set thinking=keep and limit thoughts at the server")
        return self

    @property
    def server(self) -> Server:
        """Where it is served, and with which key."""
        return Server(base_urls=self.base_urls, api_key_env=self.api_key_env)


def _server(name: str, rest: Mapping[str, Any], servers: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the setting ``servers``, not yet checked, has under a name."""
    both = sorted(rest.keys() & Server.model_fields.keys())
    if both:
        raise ValueError(f"server {name!r} brings its own {' and '.join(both)}; leave one of both out")
    if name not in servers:
        raise ValueError(f"no server {name!r}; add it to the setting 'servers', which has "
                         + (", ".join(map(repr, servers)) or "none"))
    return servers[name] if isinstance(servers[name], Mapping) else {}


class Models(Group):
    """Who does what. Everything but the generator defaults to the generator."""

    generator: Model = Model()
    """Writes the responses, and plays every role that is not set."""
    critic: Model | None = None
    """Writes critiques and revisions. Default: the generator."""
    labeller: Model | None = None
    """Labels preferences. Default: the generator."""
    judge: Model | None = None
    """Judges finished policies. Default: the generator."""
    policy: Model | None = None
    """Is trained. It must run here. Default: the generator."""
    writer: Model | None = None
    """Writes prompts, where any are written. Default: the generator."""

    @field_validator("*", mode="before")
    @classmethod
    def _a_name_is_enough(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    def role(self, name: Role) -> Model:
        """The model that plays a role."""
        model: Model | None = getattr(self, name)
        return model or self.generator

"""Who samples the responses that reinforcement learning learns from: vLLM through TRL, or transformers' ``generate``.

vLLM shares the GPUs of the training ('colocated'; asleep while the policy is updated), or is a server on GPUs of its
own. It gets the policy's weights after each step; what its numbers differ in is corrected by TRL's importance weights.
transformers samples with the model that is trained: always there, one batch after the other, and many times slower.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from cai_assets.engines.models import context_length
from cai_assets.engines.number_format import device
from cai_assets.engines.templating import Templater, load_tokenizer
from cai_assets.engines.vllm_environment import prepare_environment
from cai_assets.registry.algorithms import ALGORITHMS
from cai_assets.settings import Reinforcement
from cai_assets.train.job import Job
from cai_assets.train.problems import TrainingProblem
from cai_assets.train.processes import processes


def by_vllm(settings: Reinforcement) -> bool:
    """Whether vLLM samples: if asked for, and by itself where it is installed and there is a GPU or a server of it.

    Raise TrainingProblem if it is asked for and cannot.
    """
    if not ALGORITHMS[settings.algorithm].online or settings.sampler == "transformers":
        return False
    installed, usable = find_spec("vllm") is not None, device().accelerator or settings.vllm.server is not None
    if settings.sampler == "vllm" and not installed:
        raise TrainingProblem("rl.sampler is 'vllm', but vLLM is not installed: install cai-assets[gpu], or set "
                              "rl.sampler='auto'")
    if settings.sampler == "vllm" and not usable:
        raise TrainingProblem("rl.sampler is 'vllm', but there is no GPU here, and vLLM takes no new weights on a CPU: "
                              "name a server of it in rl.vllm.server, or set rl.sampler='auto'")
    return installed and usable


def choose(job: Job) -> str:
    """Prepare this process, in which nothing has imported TRL yet, for the job's sampler. Return what to say of it."""
    settings = Reinforcement.model_validate(job.settings) if job.kind == "reinforcement" else None
    if settings is None or not by_vllm(settings):
        # TRL imports vLLM wherever it is installed, which would waste seconds and memory here.
        sys.modules["vllm"] = None  # type: ignore[assignment]
        return ""
    prepare_environment()
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM versions")
    where = "a server" if settings.vllm.server else "these GPUs"
    return f"responses are sampled by vLLM on {where}"


def vllm_arguments(job: Job, settings: Reinforcement) -> dict[str, Any]:
    """Arguments of TRL's online configurations; empty where transformers samples."""
    if not by_vllm(settings):
        return {}
    given = settings.vllm
    stops = Templater(load_tokenizer(job.base)).stop_token_ids
    common = {"use_vllm": True, "generation_kwargs": {"stop_token_ids": list(stops)}}
    if given.server is not None:
        return {**common, "vllm_mode": "server", "vllm_server_base_url": given.server.endpoint("").rstrip("/")}
    if processes() % given.tensor_parallel_size:
        raise TrainingProblem(f"rl.vllm.tensor_parallel_size={given.tensor_parallel_size} must divide rl.processes="
                              f"{processes()}: colocated vLLM runs on the GPUs of the training")
    return {**common, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": given.gpu_memory_utilization,
            "vllm_tensor_parallel_size": given.tensor_parallel_size, "vllm_enable_sleep_mode": given.sleep,
            "vllm_max_model_length": context_length(job.base, settings.max_length)}


def sampled(trainer: Any, prompts: Sequence[list[int]]) -> list[list[int]]:
    """One response of the policy as it is now to each prompt, by the trainer's vLLM; the same list in every process.

    A colocated vLLM draws from this process's random numbers. Each process samples an equal share.
    """
    from accelerate.utils import gather_object

    vllm, accelerator = trainer.vllm_generation, trainer.accelerator
    if not (vllm.mode == "colocate" and vllm.enable_sleep_mode):  # else it fetches the weights when it wakes
        vllm.sync_weights()
    share = -(-len(prompts) // accelerator.num_processes)
    first = share * accelerator.process_index
    mine = [prompts[i % len(prompts)] for i in range(first, first + share)]
    responses: list[list[int]] = gather_object([list(ids) for ids in vllm.generate(mine, None, 1)[1]])
    return responses[: len(prompts)]

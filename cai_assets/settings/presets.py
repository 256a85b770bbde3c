"""What each scale sets; everything else keeps its default."""

from __future__ import annotations

from typing import Any

# 'smoke' shows the machinery in minutes on two cores: with so few steps a smaller learning rate changes weights by less
# than bfloat16 can tell, so that the published policy would be the one it started from. 'full' has the proportions of
# Bai et al. 2022 (182,831 red-team and 135,296 helpful prompts, 4 revisions, all kept; sampling at temperature 1).
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "engine": {"max_model_len": 2048},
        "written": {"style": "plain"},
        "documents": {"style": "plain", "max_tokens": 64},
        "mid": {"learning_rate": 2e-5, "max_length": 256},
        "generation": {"max_tokens": 64},
        "critique": {"rounds": 2, "style": "plain"},
        "labels": {"style": "plain"},
        "sl": {"learning_rate": 2e-5, "max_length": 256},
        "reward": {"learning_rate": 2e-5, "max_length": 256, "epochs": 2},
        "rl": {"learning_rate": 2e-5, "ppo_epochs": 1, "max_length": 256, "max_tokens": 32},
        "evaluation": {"max_tokens": 64, "suite_cases": 2, "round_chains": 8},
        "gate": {"enforce": False, "pairs": 24},
        "monitors": {"general_texts": 4},
    },
    "small": {
        "prompts": {"red_team": 2000, "helpful": 1000, "eval_red_team": 200, "eval_helpful": 200},
        "engine": {"max_model_len": 4096},
        "critique": {"rounds": 4},
        "mid": {"batch_size": 16, "max_length": 1024, "warmup_ratio": 0.05},
        "sl": {"batch_size": 16, "gradient_accumulation": 2, "max_length": 1024, "warmup_ratio": 0.05},
        "reward": {"batch_size": 16, "gradient_accumulation": 4, "max_length": 1024},
        "rl": {"learning_rate": 1e-6, "steps": 200, "rollouts": 64, "batch_size": 16, "max_length": 1024,
               "max_tokens": 256},
    },
    "full": {
        "prompts": {"red_team": 182_831, "helpful": 135_296, "eval_red_team": 1000, "eval_helpful": 1000},
        "engine": {"max_model_len": 8192},
        "generation": {"temperature": 1.0, "max_tokens": 512},
        "critique": {"rounds": 4},
        "mid": {"batch_size": 16, "gradient_accumulation": 16, "max_length": 2048, "save_every": 200},
        "sl": {"batch_size": 16, "gradient_accumulation": 64, "max_length": 2048, "save_every": 200},
        "reward": {"batch_size": 16, "gradient_accumulation": 16, "max_length": 2048, "save_every": 200},
        "rl": {"learning_rate": 1e-6, "steps": 2000, "rollouts": 256, "batch_size": 16, "max_length": 2048,
               "max_tokens": 512, "save_every": 100},
        "evaluation": {"max_tokens": 512},
    },
}

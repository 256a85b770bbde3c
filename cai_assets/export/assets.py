"""What each asset is, in one sentence, for the formats that leave the house."""

from __future__ import annotations

ABOUT = {
    "prompts": "Red-team and helpful prompts; train and evaluation splits never overlap.",
    "initial_responses": "The generator's response to every prompt.",
    "constitution": "The principles of one constitution version, with their few-shot examples, as registered.",
    "starting_responses": "The responses that this round improves on.",
    "critiques": "Each round's critique of the newest text, by the principle that the chain drew.",
    "revisions": "Each round's revision in answer to its critique.",
    "sl_dataset": "What the SL policy is trained on: revised responses, helpful ones, and general ones if set.",
    "sl_policy": "The policy after supervised training on the revisions (SL-CAI).",
    "sft_baseline": "Plain supervised fine-tuning on initial responses, without a constitution.",
    "response_pairs": "Two responses to each training prompt.",
    "preference_pairs": "AI labels: which response the constitution prefers, asked in both orders.",
    "reward_model": "A scalar model trained to prefer what the labels prefer.",
    "rl_policy": "The policy after reinforcement learning from AI feedback (RL-CAI).",
    "evaluation": "Every policy on the same held-apart prompts; each rate with its count and interval.",
    "suite_results": "Every policy on suites: attack success, over-refusal, help and ability, against the base model.",
    "constitution_tests": "What the constitution's author expects of each principle, and whether it holds.",
    "round_quality": "What each critique-revision round gains, judged in both orders, and where it stops paying.",
    "attribution": "What leaving out one principle at a time changes, with intervals.",
    "report": "The headline figures of a version, with intervals and counts, and the page that shows them.",
    "comparison": "The newest evaluation of every version, side by side.",
}

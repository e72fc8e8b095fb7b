"""What the gate compares: tasks, limits, samples."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import FP8_BLOCK, LLAMA, quantized

PREQUANTIZED = ("quantize={method: prequantized}", "quantize.format=null")

FIRES = (
    Fires(
        "gate-task-name",
        ("gate.tasks=[{task: 'gsm8k, mmlu'}]",),
        "gate.tasks[0].task",
        "'gsm8k, mmlu' is not one name of a task",
        hint="Write one entry for each task",
    ),
    Fires(
        "gate-task-name",
        ("gate.tasks=[{task: gsm8k}, {task: 'mmlu_*'}]",),
        "gate.tasks[1].task",
        "'mmlu_*' is not one name of a task",
        hint="Write the name of one lm-eval task",
    ),
    Fires(
        "gate-task-name",
        ("gate.tasks=[{task: tasks/mine.yaml}]",),
        "gate.tasks[0].task",
        "'tasks/mine.yaml' is no name of a task",
        hint="Write file://tasks/mine.yaml for a task file",
    ),
    Fires(
        "gate-task-file",
        ("gate.tasks=[{task: 'file://nonesuch.yaml'}]",),
        "gate.tasks[0].task",
        "there is no task file <tmp>/nonesuch.yaml",
        hint="Check the path; it starts at the recipe's directory",
    ),
    Fires(
        "gate-task-file",
        ("gate.tasks=[{task: 'file://calib.jsonl'}]",),
        "gate.tasks[0].task",
        "<tmp>/calib.jsonl:1: the document is empty",
        hint="Write one lm-eval task as YAML",
    ),
    Fires(
        "gate-task-file",
        ("gate.tasks=[{task: 'file://heads/config.json'}]",),
        "gate.tasks[0].task",
        "it lacks task, dataset_path, output_type, doc_to_text, doc_to_target, test_split",
        hint="See lm-eval's guide to task files",
    ),
    Fires(
        "gate-task-twice",
        ("gate.tasks=[{task: gsm8k}, {task: mmlu}, {task: gsm8k, margin: 3.0}]",),
        "gate.tasks[2].task",
        "gsm8k is asked already by gate.tasks[0]",
        "warning",
        hint="Remove one of the two, or name another metric",
    ),
    Fires(
        "gate-nothing-to-compare",
        (*PREQUANTIZED, "gate.max_kl_divergence=0.1"),
        "gate.max_kl_divergence",
        "a prequantized source comes without the model that it was made from, so there is nothing to compare "
        "it with",
        hint="Name that model as gate.reference, or remove this limit",
        config=quantized(LLAMA, **FP8_BLOCK),
    ),
    Fires(
        "gate-no-weight-error",
        (*PREQUANTIZED, "gate={max_bits_per_weight: 9, max_weight_error: 0.2}"),
        "gate.max_weight_error",
        "weights of a prequantized source are held against no others, so this limit holds nothing",
        hint="Remove it, and limit what gate.reference is compared on",
        config=quantized(LLAMA, **FP8_BLOCK),
    ),
    Fires(
        "gate-reference-unused",
        (f"gate.reference=hf://a/b@{'a' * 40}",),
        "gate.reference",
        "the checkpoint of this recipe is compared with model.source",
        hint="Remove it; it is for method prequantized",
    ),
    Fires(
        "gate-nothing-to-compare",
        (*PREQUANTIZED, "gate.tasks=[{task: gsm8k}]"),
        "gate.tasks",
        "a prequantized source comes without the model that it was made from, so there is nothing to compare "
        "it with",
        config=quantized(LLAMA, **FP8_BLOCK),
    ),
    Fires(
        "gate-few-samples",
        ("gate={min_top1_agreement: 0.8, evaluation: {samples: 7}}",),
        "gate.evaluation.samples",
        "7 sequences give no interval, so every verdict on text is inconclusive",
        "warning",
        hint="Set gate.evaluation.samples: 8 or more",
    ),
    Fires(
        "gate-few-questions",
        ("gate.tasks=[{task: aime24, limit: 30}]",),
        "gate.tasks[0].limit",
        "30 questions cannot tell a loss of 1.5 points from chance: a checkpoint that loses nothing would "
        "need about 602",
        "warning",
        hint="Set limit: 602 or more, or a wider margin",
    ),
    Fires(
        "gate-limit-exact",
        ("gate.min_top1_agreement=1.0",),
        "gate.min_top1_agreement",
        "a quantized checkpoint is never wholly the same, so this limit fails or stays inconclusive",
        "warning",
        hint="Allow a little, for example 0.95",
    ),
    Fires(
        "gate-limit-exact",
        ("gate.max_perplexity_increase=0.0",),
        "gate.max_perplexity_increase",
        "a quantized checkpoint is never wholly the same, so this limit fails or stays inconclusive",
        "warning",
        hint="Allow a little, for example 0.01",
    ),
    Fires(
        "gate-setting-unused",
        ("gate={inconclusive: fail, max_weight_error: 0.2}",),
        "gate.inconclusive",
        "no limit of this gate rests on samples, so no verdict can be inconclusive",
        "warning",
        hint="Remove it, or set a limit such as gate.max_perplexity_increase",
    ),
)
SILENT = (
    Silent("gate-task-name", ("gate.tasks=[{task: mmlu_pro-plus.v2}, {task: 'file://a b.yaml'}]",)),
    Silent("gate-task-file", ("gate.tasks=[{task: gsm8k}]",)),
    Silent(
        "gate-task-twice",
        ("gate.tasks=[{task: gsm8k, metric: 'exact_match,strict-match'}, {task: gsm8k}]",),
    ),
    Silent("gate-lm-eval-missing", ("gate.max_kl_divergence=0.1",)),
    Silent("gate-task-unknown", ("gate.tasks=[{task: 'file://mine.yaml'}]",)),
    Silent(
        "gate-nothing-to-compare",
        (*PREQUANTIZED, "gate.max_bits_per_weight=9"),
        config=quantized(LLAMA, **FP8_BLOCK),
    ),
    Silent(
        "gate-nothing-to-compare",
        (*PREQUANTIZED, f"gate={{max_kl_divergence: 0.1, reference: 'hf://a/b@{'a' * 40}'}}"),
        config=quantized(LLAMA, **FP8_BLOCK),
    ),
    Silent("gate-no-weight-error", ("gate.max_weight_error=0.2",)),
    Silent(
        "gate-reference-unused",
        (*PREQUANTIZED, f"gate.reference=hf://a/b@{'a' * 40}"),
        config=quantized(LLAMA, **FP8_BLOCK),
    ),
    Silent("gate-nothing-to-compare", ("gate.max_kl_divergence=0.1",)),
    Silent("gate-few-samples", ("gate={min_top1_agreement: 0.8, evaluation: {samples: 8}}",)),
    Silent("gate-few-samples", ("gate={max_weight_error: 0.2, evaluation: {samples: 1}}",)),
    Silent("gate-few-questions", ("gate.tasks=[{task: gsm8k, limit: 602}, {task: aime24}]",)),
    Silent("gate-limit-exact", ("gate={min_top1_agreement: 0.99, max_perplexity_increase: 0.001}",)),
    Silent(
        "gate-limit-exact", ("quantize={method: none}", "quantize.format=null", "gate.min_top1_agreement=1.0")
    ),
    Silent("gate-setting-unused", ("gate={inconclusive: fail, max_kl_divergence: 0.1}",)),
    Silent("gate-setting-unused", ("gate.inconclusive=pass",)),
)

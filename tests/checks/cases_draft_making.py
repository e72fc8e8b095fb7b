"""Drafts that are trained or measured, and draft lengths that are left to a measurement."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

DRAFT = "draft: 'hf://a/b@0123456789abcdef0123456789abcdef01234567'"
R1 = "model.source=hf://deepseek-ai/DeepSeek-R1@0123456789abcdef0123456789abcdef01234567"
V13 = "engine.tensorrt_llm='1.3.0rc20'"
TRAINED = "speculative={method: eagle3, train: {}}"
GIVEN = "data: 'file://calib.jsonl', answers: given"
AUTO = "speculative={method: eagle3, train: {}, draft_len: auto}"
ARGUMENT = "engine.llm_args.speculative_config"
SCHEDULED = (
    f"{ARGUMENT}={{decoding_type: Eagle, speculative_model: /d, max_draft_len: 3, "
    "draft_len_schedule: {1: 3, 8: 1}}"
)
IGNORED = (
    "TensorRT-LLM 1.2.1 accepts lengths by batch size and, with draft and model in one, "
    "drafts the first at every size"
)

FIRES = (
    Fires(
        "speculative-two-drafts",
        (f"speculative={{method: eagle3, {DRAFT}, train: {{}}}}",),
        "speculative.draft",
        "a draft is named and one is trained; only one of them can be served",
        hint="Remove it, or remove train",
    ),
    Fires(
        "speculative-untrainable",
        ("speculative={method: mtp, train: {}}", R1),
        "speculative.train",
        "only EAGLE-3 drafts are trained; with method mtp the model's own layers draft",
        hint="Remove it, or set speculative.method: eagle3",
    ),
    Fires(
        "speculative-untrainable",
        ("speculative={method: medusa, train: {}}", "engine.backend=tensorrt"),
        "speculative.train",
        "only EAGLE-3 drafts are trained; with method medusa heads are trained by their authors",
    ),
    Fires(
        "speculative-unmeasurable",
        ("speculative={method: eagle, measure: {}}", "engine.backend=tensorrt"),
        "speculative.measure",
        "eagle heads run inside an engine, where this build cannot measure them",
        hint="Remove measure and write draft_len as a number",
    ),
    Fires(
        "speculative-unmeasurable",
        ("speculative={method: medusa, draft_len: auto}", "engine.backend=tensorrt"),
        "speculative.draft_len",
        "medusa heads run inside an engine, where this build cannot measure them",
    ),
    Fires(
        "speculative-unmeasurable",
        ("speculative={method: eagle3, draft_len: auto}", f"{ARGUMENT}={{speculative_model: /d}}"),
        "speculative.draft_len",
        "the draft that llm_args names is not in the build, so that it cannot be measured",
        hint="Name it as speculative.draft",
    ),
    Fires(
        "speculative-auto-and-given",
        (AUTO, f"{ARGUMENT}={{draft_len_schedule: {{1: 3}}}}"),
        f"{ARGUMENT}.draft_len_schedule",
        "draft_len: auto writes the lengths by batch size itself, so that draft_len_schedule contradicts it",
        hint="Remove it, or write draft_len as a number",
    ),
    Fires(
        "speculative-auto-and-given",
        (AUTO, f"{ARGUMENT}={{max_concurrency: 4}}"),
        f"{ARGUMENT}.max_concurrency",
        "draft_len: auto writes the lengths by batch size itself, so that max_concurrency contradicts it",
    ),
    Fires(
        "speculative-contradiction",
        (AUTO, f"{ARGUMENT}={{max_draft_len: 4}}"),
        f"{ARGUMENT}.max_draft_len",
        "max_draft_len 4 contradicts speculative.draft_len: auto",
    ),
    Fires(
        "speculative-draft-cache",
        (AUTO,),
        "speculative.draft_len",
        "TensorRT-LLM 1.2.1 sizes the draft's KV cache for 8 layers, one for each drafted token, "
        "where the draft has 1",
        "warning",
    ),
    Fires(
        "speculative-schedule-one-model",
        (AUTO,),
        "speculative.draft_len",
        IGNORED,
        "info",
        hint="Set engine.tensorrt_llm: 1.3 or later to have them used",
    ),
    Fires(
        "speculative-schedule-one-model",
        (SCHEDULED,),
        f"{ARGUMENT}.draft_len_schedule",
        IGNORED,
        "info",
    ),
    Fires(
        "speculative-captured-layers",
        ("speculative={method: eagle3, train: {hidden_layers: [1, 7, 16]}}",),
        "speculative.train.hidden_layers",
        "there is no layer 16: the model has layers 0 to 15",
        hint="Name a low, a middle and a high layer, for example 1, n/2-1 and n-4",
    ),
    Fires(
        "speculative-captured-layers",
        ("speculative={method: eagle3, train: {hidden_layers: [7, 1, 12]}}",),
        "speculative.train.hidden_layers",
        "[7, 1, 12] is not ascending",
        hint="Write [1, 7, 12]: the runtime joins them in this order",
    ),
    Fires(
        "speculative-draft-vocabulary",
        ("speculative={method: eagle3, train: {draft_vocab: 128257}}",),
        "speculative.train.draft_vocab",
        "the draft cannot propose 128257 tokens of a vocabulary of 128256",
        hint="Remove it for the whole vocabulary, or write 32000 or another part of it",
    ),
    Fires(
        "speculative-training-settings",
        ("speculative={method: eagle3, train: {batch_size: 30, gpus: 4}}",),
        "speculative.train.batch_size",
        "30 sequences cannot be shared evenly by 4 GPUs",
        hint="Write a multiple of 4",
    ),
    Fires(
        "speculative-training-settings",
        ("speculative={method: eagle3, train: {temperature: 0, answers_per_prompt: 3}}",),
        "speculative.train.answers_per_prompt",
        "with temperature 0 all 3 answers to a prompt are the same",
        hint="Write answers_per_prompt: 1, or a temperature above 0",
    ),
    Fires(
        "speculative-training-settings",
        ("speculative={method: eagle3, train: {prompts: 1}}",),
        "speculative.train.prompts",
        "a single prompt cannot be trained on and held out",
        hint="Write 2 at least; thousands train a useful draft",
    ),
    Fires(
        "speculative-several-layers",
        ("speculative={method: eagle3, train: {layers: 2}}",),
        "speculative.train.layers",
        "a draft of 2 layers: ModelOpt and TensorRT-LLM name the norms of later layers differently",
        "warning",
        hint="Train one layer and widen it with ffn_width",
    ),
    Fires(
        "speculative-text",
        ("speculative={method: eagle3, train: {data: 'builtin://python-topics'}}",),
        "speculative.train.data",
        "'builtin://python-topics' holds no prompts",
        hint="Write builtin://chat-prompts or file://X.jsonl",
    ),
    Fires(
        "speculative-text",
        ("speculative={method: eagle3, train: {}, measure: {prompts: 'file://weights.bin'}}",),
        "speculative.measure.prompts",
        "'file://<tmp>/weights.bin' holds no prompts",
        hint="Write builtin://workloads or file://X.jsonl",
    ),
    Fires(
        "source-file-missing",
        ("speculative={method: eagle3, train: {data: 'file://none.jsonl'}}",),
        "speculative.train.data",
        "there is nothing at <tmp>/none.jsonl",
    ),
    Fires(
        "source-dataset-form",
        ("quantize={method: qat, format: nvfp4, training: {dataset: 'file://weights.bin'}}",),
        "quantize.training.dataset",
        "'file://<tmp>/weights.bin' is not a text source",
    ),
    Fires(
        "speculative-given-answers",
        ("speculative={method: eagle3, train: {answers: given}}",),
        "speculative.train.answers",
        "the built-in prompts have no answers",
        hint="Write answers: target, or data: file://X.jsonl with conversations (messages)",
    ),
    Fires(
        "speculative-limit-unused",
        ("gate.min_acceptance_length=2.0",),
        "gate.min_acceptance_length",
        "no draft is measured, so that this limit is never applied",
        hint="Remove it, or add a section speculative",
    ),
    Fires(
        "speculative-limit-unused",
        (TRAINED, "gate.min_acceptance_length=2.0"),
        "gate.min_acceptance_length",
        "no draft is measured, so that this limit is never applied",
        hint="Add speculative.measure: {}",
    ),
    Fires(
        "speculative-limit-unused",
        ("speculative={method: eagle3, train: {}, measure: {}}", "gate.min_acceptance_length=4.5"),
        "gate.min_acceptance_length",
        "a step that drafts 3 tokens gains 4 at most, never 4.5",
        hint="Write a number from 1 to the draft length and one",
    ),
    Fires(
        "speculative-not-served",
        (TRAINED, "serve.runtime=reference"),
        "serve.runtime",
        "the runtime reference answers without drafts: they are made and measured, not used",
        "info",
        hint="Set serve.runtime: tensorrt_llm to draft",
    ),
)
SILENT = (
    Silent("speculative-two-drafts", (TRAINED,)),
    Silent("speculative-draft-missing", (TRAINED,)),
    Silent("speculative-untrainable", (TRAINED,)),
    Silent("speculative-unmeasurable", (AUTO,)),
    Silent("speculative-unmeasurable", ("speculative={method: mtp, measure: {}}", R1)),
    Silent("speculative-unmeasurable", ("speculative={method: eagle3, measure: {}}",)),
    Silent("speculative-contradiction", (AUTO,)),
    Silent("speculative-auto-and-given", (AUTO, f"{ARGUMENT}={{eagle3_one_model: true}}")),
    Silent("speculative-schedule-start", (AUTO,)),
    Silent("speculative-schedule-one-model", (TRAINED,)),
    Silent("speculative-schedule-one-model", (AUTO, V13)),
    Silent("speculative-schedule-one-model", (AUTO, f"{ARGUMENT}={{eagle3_one_model: false}}")),
    Silent(
        "speculative-captured-layers", ("speculative={method: eagle3, train: {hidden_layers: [1, 7, 15]}}",)
    ),
    Silent("speculative-draft-vocabulary", ("speculative={method: eagle3, train: {draft_vocab: 128256}}",)),
    Silent("speculative-training-settings", (TRAINED,)),
    Silent(
        "speculative-training-settings",
        (f"speculative={{method: eagle3, train: {{{GIVEN}, temperature: 0}}}}",),
    ),
    Silent("speculative-several-layers", (TRAINED,)),
    Silent(
        "speculative-text",
        ("speculative={method: eagle3, train: {data: 'file://calib.jsonl', answers: given}, measure: {}}",),
    ),
    Silent(
        "speculative-given-answers",
        ("speculative={method: eagle3, train: {data: 'file://calib.jsonl', answers: given}}",),
    ),
    Silent("speculative-limit-unused", (AUTO, "gate.min_acceptance_length=9")),
    Silent("speculative-not-served", (TRAINED,)),
    Silent("speculative-not-served", ("serve.runtime=reference",)),
)

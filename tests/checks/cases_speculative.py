"""Speculative decoding."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import SMALL_LLAMA

EAGLE = "speculative={method: eagle3, draft: 'hf://a/b@0123456789abcdef0123456789abcdef01234567'}"
V13 = "engine.tensorrt_llm='1.3.0rc20'"
TRT = "engine.backend=tensorrt"
CONVERTER = "engine.converter=tensorrt_llm"
PLAIN = "quantize={method: none, format: null}"
WITH_HEADS = "quantize={method: prequantized, format: null}"
HEADS = "speculative={method: eagle, draft: 'file://model', draft_len: 5}"
R1 = "model.source=hf://deepseek-ai/DeepSeek-R1@0123456789abcdef0123456789abcdef01234567"
HYBRID = {**SMALL_LLAMA, "mamba_num_heads": 64}
MEDUSA = {
    **SMALL_LLAMA,
    "medusa": {"num_medusa_heads": 4, "num_medusa_layers": 1},
    "quantization_config": {"quant_algo": "FP8", "quant_method": "modelopt"},
}
OTHER_MTP_KEY = {**SMALL_LLAMA, "mtp_num_hidden_layers": 1}

FIRES = (
    Fires(
        "speculative-dynamic-tree",
        (
            V13,
            (
                "engine.llm_args={speculative_config: {decoding_type: Eagle3, max_draft_len: 3, "
                "speculative_model: m, use_dynamic_tree: true, max_total_draft_tokens: 60}}"
            ),
        ),
        "engine.llm_args.speculative_config.use_dynamic_tree",
        "a dynamic tree needs to know how many candidates each step keeps",
        hint="Add dynamic_tree_max_topK: 20",
    ),
    Fires(
        "speculative-schedule-start",
        (
            (
                "engine.llm_args={speculative_config: {decoding_type: MTP, num_nextn_predict_layers: 3, "
                "draft_len_schedule: {8: 5}}}"
            ),
        ),
        "engine.llm_args.speculative_config.draft_len_schedule",
        "key 1 is missing: in TensorRT-LLM 1.2.1 a key is the smallest batch size of its draft length",
        hint="Write draft_len_schedule: {1: 3, 8: 3}",
    ),
    Fires(
        "speculative-contradiction",
        (EAGLE, "engine.llm_args.speculative_config={decoding_type: MTP}"),
        "engine.llm_args.speculative_config.decoding_type",
        "decoding_type MTP contradicts speculative.method: eagle3",
        hint="Remove it; speculative.method decides",
    ),
    Fires(
        "speculative-contradiction",
        (EAGLE, "engine.llm_args.speculative_config={decoding_type: Eagle, max_draft_len: 4}"),
        "engine.llm_args.speculative_config.max_draft_len",
        "max_draft_len 4 contradicts speculative.draft_len: 3",
        hint="Remove it; speculative.draft_len decides",
    ),
    Fires(
        "speculative-contradiction",
        ("speculative={method: mtp}", "engine.llm_args.speculative_config={num_nextn_predict_layers: 1}", R1),
        "engine.llm_args.speculative_config.num_nextn_predict_layers",
        "num_nextn_predict_layers 1 contradicts speculative.draft_len: 3",
        hint="Remove it; speculative.draft_len decides",
    ),
    Fires(
        "speculative-contradiction",
        (EAGLE, "engine.llm_args.speculative_config={speculative_model: /models/draft}"),
        "engine.llm_args.speculative_config.speculative_model",
        "speculative_model names another draft than speculative.draft",
        hint="Remove it; speculative.draft decides",
    ),
    Fires(
        "speculative-draft-missing",
        ("speculative={method: eagle3}",),
        "speculative",
        "EAGLE-3 needs a draft model, and none is named",
        hint="Add draft: hf://org/draft@<40-hex revision> or file://DIR, or train: {} to make one",
    ),
    Fires(
        "speculative-draft-missing",
        ("engine.llm_args.speculative_config={decoding_type: Eagle, max_draft_len: 3}",),
        "engine.llm_args.speculative_config",
        "Eagle needs a draft model, and none is named",
        hint="Write the section speculative: {method: eagle3, draft: hf://org/draft@<40-hex revision>}",
    ),
    Fires(
        "speculative-draft-missing",
        ("engine.llm_args.speculative_config={decoding_type: DraftTarget, max_draft_len: 3}",),
        "engine.llm_args.speculative_config",
        "DraftTarget needs a draft model, and none is named",
        hint="Add speculative_model",
    ),
    Fires(
        "speculative-draft-length",
        ("engine.llm_args.speculative_config={decoding_type: Eagle, speculative_model: /d}",),
        "engine.llm_args.speculative_config",
        "Eagle needs max_draft_len, and none is given",
        hint="Add max_draft_len: 3",
    ),
    Fires(
        "speculative-draft-length",
        (
            (
                "engine.llm_args.speculative_config={decoding_type: Eagle, speculative_model: /d, "
                "max_draft_len: 0}"
            ),
        ),
        "engine.llm_args.speculative_config.max_draft_len",
        "Eagle cannot draft 0 tokens",
        hint="Write max_draft_len: 3, or remove the section",
    ),
    Fires(
        "speculative-mtp-missing",
        ("speculative={method: mtp}",),
        "speculative.method",
        "LlamaForCausalLM has no multi-token prediction layers (by its <tmp>/model/config.json)",
        hint="Use method: eagle3 with a draft trained for this model, or do not draft",
    ),
    Fires(
        "speculative-mtp-missing",
        ("engine.llm_args.speculative_config={decoding_type: MTP, num_nextn_predict_layers: 3}",),
        "engine.llm_args.speculative_config.decoding_type",
        "LlamaForCausalLM has no multi-token prediction layers (by its <tmp>/model/config.json)",
        hint="Use method: eagle3 with a draft trained for this model, or do not draft",
    ),
    Fires(
        "speculative-setting-unused",
        ("speculative={method: mtp, draft: 'hf://a/b@0123456789abcdef0123456789abcdef01234567'}", R1),
        "speculative.draft",
        "MTP drafts with the model's own layers, so that this draft is not used",
        hint="Remove it, or set speculative.method: eagle3",
    ),
    Fires(
        "speculative-setting-unused",
        ("speculative={method: mtp}", "engine.llm_args.speculative_config={relaxed_topk: 10}", R1),
        "engine.llm_args.speculative_config.relaxed_topk",
        "relaxed_topk has no effect without use_relaxed_acceptance_for_thinking",
        hint="Add use_relaxed_acceptance_for_thinking: true, or remove it",
    ),
    Fires(
        "speculative-setting-unused",
        (EAGLE, "engine.llm_args.speculative_config={dynamic_tree_max_topK: 10}"),
        "engine.llm_args.speculative_config.dynamic_tree_max_topK",
        "dynamic_tree_max_topK has no effect without use_dynamic_tree",
        hint="Add use_dynamic_tree: true, or remove it",
    ),
    Fires(
        "speculative-schedule-key",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {1: 3, many: 1}}"),
        "engine.llm_args.speculative_config.draft_len_schedule.many",
        "'many' is not a batch size",
        hint="Use whole numbers from 1 as keys, for example {1: 3, 8: 1}",
    ),
    Fires(
        "speculative-schedule-key",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {0: 3, 1: 3}}"),
        "engine.llm_args.speculative_config.draft_len_schedule.0",
        "'0' is not a batch size",
        hint="Use whole numbers from 1 as keys, for example {1: 3, 8: 1}",
    ),
    Fires(
        "speculative-schedule-start",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {4: 3, 8: 1}}"),
        "engine.llm_args.speculative_config.draft_len_schedule",
        "key 1 is missing: in TensorRT-LLM 1.2.1 a key is the smallest batch size of its draft length",
        hint="Write draft_len_schedule: {1: 3, 4: 3, 8: 1}",
    ),
    Fires(
        "speculative-schedule-start",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {1: 2, 8: 1}}"),
        "engine.llm_args.speculative_config.draft_len_schedule",
        (
            "the first length, 2, is not the draft length 3 (in TensorRT-LLM 1.2.1 a key is the "
            "smallest batch size of its draft length)"
        ),
        hint="Write draft_len_schedule: {1: 3, 8: 1}",
    ),
    Fires(
        "speculative-schedule-start",
        (V13, EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {4: 2, 8: 1}}"),
        "engine.llm_args.speculative_config.draft_len_schedule",
        (
            "the first length, 2, is not the draft length 3 (in TensorRT-LLM 1.3.0rc20 a key is "
            "the largest batch size of its draft length)"
        ),
        hint="Write draft_len_schedule: {4: 3, 8: 1}",
    ),
    Fires(
        "speculative-schedule-length",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {1: 3, 8: 5}}"),
        "engine.llm_args.speculative_config.draft_len_schedule",
        "draft length 5 at batch size 8 is outside 0 to 3",
        hint="Write a length from 0 to 3",
    ),
    Fires(
        "speculative-schedule-rises",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {1: 3, 8: 1, 16: 2}}"),
        "engine.llm_args.speculative_config.draft_len_schedule",
        "the draft grows from 1 to 2 tokens at batch size 16",
        "warning",
        hint="Let lengths fall as batches grow, for example {1: 3, 8: 1}",
    ),
    Fires(
        "speculative-schedule-and-concurrency",
        (
            V13,
            EAGLE,
            "engine.llm_args.speculative_config={draft_len_schedule: {4: 3, 8: 1}, max_concurrency: 8}",
        ),
        "engine.llm_args.speculative_config.max_concurrency",
        "max_concurrency 8 and draft_len_schedule both decide when drafting stops",
        hint="Keep one: max_concurrency 8 means draft_len_schedule: {8: 3}",
    ),
    Fires(
        "speculative-dynamic-tree",
        (EAGLE, "engine.llm_args.speculative_config={use_dynamic_tree: true}"),
        "engine.llm_args.speculative_config.use_dynamic_tree",
        "a dynamic tree needs to know how many candidates each step keeps",
        hint="Add dynamic_tree_max_topK: 10",
    ),
    Fires(
        "speculative-dynamic-tree",
        (
            EAGLE,
            (
                "engine.llm_args.speculative_config={use_dynamic_tree: true, "
                "dynamic_tree_max_topK: 10, max_total_draft_tokens: 63}"
            ),
        ),
        "engine.llm_args.speculative_config.max_total_draft_tokens",
        (
            "max_total_draft_tokens 63 is outside 3 (the draft length) to 30 "
            "(dynamic_tree_max_topK 10 times the draft length)"
        ),
        "warning",
        hint="Write max_total_draft_tokens from 3 to 30",
    ),
    Fires(
        "speculative-dynamic-tree",
        (
            V13,
            EAGLE,
            (
                "engine.llm_args.speculative_config={use_dynamic_tree: true, "
                "dynamic_tree_max_topK: 10, max_total_draft_tokens: 63}"
            ),
        ),
        "engine.llm_args.speculative_config.max_total_draft_tokens",
        (
            "max_total_draft_tokens 63 is outside 3 (the draft length) to 30 "
            "(dynamic_tree_max_topK 10 times the draft length)"
        ),
        hint="Write max_total_draft_tokens from 3 to 30",
    ),
    Fires(
        "speculative-hybrid-model",
        (EAGLE,),
        "speculative.method",
        (
            "an EAGLE-3 draft on a hybrid model (Mamba or linear attention layers): sizing the KV "
            "cache fails at start, seen with 1.3.0rc24"
        ),
        hint=(
            "Use method: mtp if the model has such layers, or llm_args.speculative_config: "
            "{decoding_type: NGram}"
        ),
        config=HYBRID,
    ),
    Fires(
        "speculative-draft-cache",
        (EAGLE,),
        "speculative.draft_len",
        (
            "TensorRT-LLM 1.2.1 sizes the draft's KV cache for 3 layers, one for each drafted "
            "token, where such a draft usually has 1"
        ),
        "warning",
        hint="Leave room for it, or set engine.tensorrt_llm: 1.3.0rc19 or later",
    ),
    Fires(
        "speculative-two-models",
        (EAGLE, "engine.llm_args.speculative_config={eagle3_one_model: false}"),
        "engine.llm_args.speculative_config.eagle3_one_model",
        "drafting with two separate models is deprecated and leaves in 1.4",
        "warning",
        hint="Remove it; one model is the default",
    ),
    Fires(
        "speculative-two-models",
        ("speculative={method: mtp}", "engine.llm_args.speculative_config={mtp_eagle_one_model: false}", R1),
        "engine.llm_args.speculative_config.mtp_eagle_one_model",
        "drafting with two separate models is deprecated and leaves in 1.4",
        "warning",
        hint="Remove it; one model is the default",
    ),
    Fires(
        "speculative-relaxed-acceptance",
        (
            "speculative={method: mtp}",
            "engine.llm_args.speculative_config={use_relaxed_acceptance_for_thinking: true}",
            R1,
        ),
        "engine.llm_args.speculative_config.use_relaxed_acceptance_for_thinking",
        (
            "tokens are accepted that the model would not have chosen: MMLU-Pro of DeepSeek-R1 "
            "fell from 84.0 to 81.2"
        ),
        "warning",
        hint="Measure the served answers before release and set a limit in gate, or remove it",
    ),
    Fires(
        "speculative-relaxed-acceptance",
        (
            "speculative={method: mtp}",
            "gate.max_perplexity_increase=0.1",
            "engine.llm_args.speculative_config={use_relaxed_acceptance_for_thinking: true}",
            R1,
        ),
        "engine.llm_args.speculative_config.use_relaxed_acceptance_for_thinking",
        (
            "tokens are accepted that the model would not have chosen: MMLU-Pro of DeepSeek-R1 "
            "fell from 84.0 to 81.2"
        ),
        "info",
        hint="Measure the served answers before release and set a limit in gate, or remove it",
    ),
    Fires(
        "speculative-ngram-size",
        ("engine.llm_args.speculative_config={decoding_type: NGram, max_draft_len: 4}",),
        "engine.llm_args.speculative_config",
        "the default of max_matching_ngram_size in 1.2.1 is 0, which it refuses",
        hint="Add max_matching_ngram_size: 2",
    ),
    Fires(
        "speculative-ngram-size",
        (V13, "engine.llm_args.speculative_config={decoding_type: SA, max_matching_ngram_size: 65}"),
        "engine.llm_args.speculative_config.max_matching_ngram_size",
        "an n-gram of 65 tokens does not exist",
        hint="Write -1 (any length) or a number from 1 to 64",
    ),
    Fires(
        "speculative-pool-size",
        (
            V13,
            (
                "engine.llm_args.speculative_config={decoding_type: SA, enable_global_pool: true, "
                "global_pool_size: 8}"
            ),
        ),
        "engine.llm_args.speculative_config.global_pool_size",
        "a pool of 8 for 64 requests (engine.max_batch_size)",
        hint="Raise it to 64 or more",
    ),
    Fires(
        "speculative-vocabulary",
        (R1, "speculative={method: eagle3, draft: 'file://model'}"),
        "speculative.draft",
        "the draft's vocabulary has 128256 tokens, the model's 129280",
        hint="Name a draft that was trained for this model",
    ),
    Fires(
        "speculative-other-text",
        (EAGLE, "expect={record: {metric: tokens_per_s_per_user, value: 1000, source: 'https://x'}}"),
        "speculative",
        "how many drafted tokens are accepted depends on the text; record of expect had its own",
        "info",
        hint="Measure acceptance on your own prompts before you promise a speed",
    ),
    Fires(
        "speculative-on-engines",
        (TRT, EAGLE),
        "speculative.method",
        "EAGLE-3 runs with the PyTorch backend only",
        hint=(
            "Set engine.backend: pytorch, or write method: eagle (Llama models) or medusa and "
            "draft: file://DIR with heads of that kind"
        ),
    ),
    Fires(
        "speculative-on-engines",
        (TRT, "speculative={method: mtp}", R1),
        "speculative.method",
        "MTP runs with the PyTorch backend only",
        hint=(
            "Set engine.backend: pytorch, or write method: eagle (Llama models) or medusa and "
            "draft: file://DIR with heads of that kind"
        ),
    ),
    Fires(
        "speculative-engine-heads",
        ("speculative={method: eagle, draft: 'file://model'}",),
        "speculative.method",
        "EAGLE-1 heads are built into engines, and the PyTorch backend has none",
        hint="Write method: eagle3 with an EAGLE-3 draft, or remove the section and draft with "
        "llm_args.speculative_config: {decoding_type: NGram}; or set engine.backend: tensorrt",
    ),
    Fires(
        "speculative-heads-source",
        (TRT, "speculative={method: eagle, draft: 'file://model'}", PLAIN),
        "engine.converter",
        "ModelOpt converts no EAGLE-1 heads, the scripts of TensorRT-LLM do",
        hint="Set engine.converter: tensorrt_llm",
    ),
    Fires(
        "speculative-heads-source",
        (TRT, CONVERTER, "speculative={method: medusa}", PLAIN),
        "speculative",
        "Medusa needs heads trained for the model, and none are named",
        hint="Add draft: file://DIR",
    ),
    Fires(
        "speculative-heads-source",
        (TRT, CONVERTER, EAGLE.replace("eagle3", "eagle"), PLAIN),
        "speculative.draft",
        "the converter reads the heads from a directory, and does not download them",
        hint="Download them (hf download a/b --local-dir heads) and write draft: file://heads",
    ),
    Fires(
        "speculative-heads-weights",
        (TRT, CONVERTER, "speculative={method: medusa, draft: 'file://heads'}", PLAIN),
        "speculative.draft",
        "the converter opens medusa_lm_head.pt, a pickled file, which can hold code",
        "warning",
        hint="Convert it to .safetensors, or make sure that you trust its author",
    ),
    Fires(
        "speculative-heads-weights",
        (TRT, CONVERTER, "speculative={method: medusa, draft: 'file://bare'}", PLAIN),
        "speculative.draft",
        "<tmp>/bare holds no medusa_lm_head.safetensors or medusa_lm_head.pt: enough to check and plan, "
        "not to build",
        "warning",
        hint="Add the weights of the heads before you build",
    ),
    Fires(
        "speculative-heads-source",
        (TRT, CONVERTER, "speculative={method: medusa, draft: 'file://model', draft_len: 4}", WITH_HEADS),
        "speculative.draft",
        "the source brings its own Medusa heads, so that these are not used",
        hint="Remove it, or name the unquantized model as model.source",
        config=MEDUSA,
    ),
    Fires(
        "speculative-heads-source",
        (TRT, CONVERTER, "speculative={method: eagle, draft: 'file://model'}", WITH_HEADS),
        "quantize.method",
        "EAGLE-1 heads of their own are converted with an unquantized model only",
        hint="Name the unquantized model and set quantize: {method: none}",
        config=MEDUSA,
    ),
    Fires(
        "speculative-draft-tree",
        (TRT, CONVERTER, HEADS.replace("5", "17"), PLAIN),
        "speculative.draft_len",
        "17 tokens one after the other, above the 16 levels that TensorRT-LLM knows",
        hint="Write 16 or less, or 63 for TensorRT-LLM's own tree of 4 levels; "
        "serve.engine_parameters.eagle_choices gives another tree",
    ),
    Fires(
        "speculative-draft-tree",
        (TRT, CONVERTER, "speculative={method: medusa, draft_len: 5}", WITH_HEADS),
        "speculative.draft_len",
        "5 tokens one after the other, above the 4 heads of the source",
        config=MEDUSA,
    ),
    Fires(
        "speculative-draft-tree",
        (TRT, CONVERTER, HEADS.replace("5", "2"), "serve.engine_parameters={eagle_choices: [[0], [1], [2]]}"),
        "serve.engine_parameters.eagle_choices",
        "a tree of 3 tokens, and the engine takes 2",
        hint="Raise the draft length to 3, or cut the tree",
    ),
    Fires(
        "speculative-draft-tree",
        (TRT, CONVERTER, HEADS, "serve.engine_parameters={eagle_choices: [[0], [1, 0]]}"),
        "serve.engine_parameters.eagle_choices",
        "[1, 0] stands without [1]",
        hint="Add [1], or remove it",
    ),
    Fires(
        "speculative-eagle-batch",
        (TRT, CONVERTER, HEADS, "engine.max_batch_size=513"),
        "engine.max_batch_size",
        "an engine with EAGLE heads takes 512 requests at once",
        hint="Write 512 or less",
    ),
)
SILENT = (
    Silent("speculative-engine-heads", (TRT, HEADS)),
    Silent("speculative-heads-source", (TRT, CONVERTER, HEADS, PLAIN)),
    Silent(
        "speculative-heads-source", (TRT, CONVERTER, "speculative={method: eagle, draft: 'file://x'}", PLAIN)
    ),
    Silent(
        "speculative-heads-source",
        (TRT, CONVERTER, "speculative={method: medusa, draft_len: 4}", WITH_HEADS),
        config=MEDUSA,
    ),
    Silent("speculative-heads-weights", (TRT, CONVERTER, HEADS, PLAIN)),
    Silent("source-without-weights", (TRT, CONVERTER, "speculative={method: medusa, draft: 'file://heads'}")),
    Silent("speculative-draft-tree", (TRT, CONVERTER, HEADS.replace("5", "16"))),
    Silent("speculative-draft-tree", (TRT, CONVERTER, HEADS.replace("5", "63"))),
    Silent(
        "speculative-draft-tree",
        (TRT, CONVERTER, HEADS, "serve.engine_parameters={eagle_choices: [[0], [1]]}"),
    ),
    Silent("speculative-eagle-batch", (TRT, CONVERTER, HEADS, "engine.max_batch_size=512")),
    Silent("speculative-on-engines", (TRT, HEADS)),
    Silent(
        "speculative-draft-missing",
        (
            (
                "engine.llm_args={speculative_config: {decoding_type: Eagle, max_draft_len: 3, "
                "pytorch_weights_path: m}}"
            ),
        ),
    ),
    Silent(
        "speculative-contradiction",
        (EAGLE, "engine.llm_args.speculative_config={decoding_type: Eagle, max_draft_len: 3}"),
    ),
    Silent("speculative-draft-missing", (EAGLE,)),
    Silent(
        "speculative-draft-missing",
        (
            (
                "engine.llm_args.speculative_config={decoding_type: Eagle, max_draft_len: 3, "
                "speculative_model_dir: /d}"
            ),
        ),
    ),
    Silent(
        "speculative-draft-length",
        (
            (
                "engine.llm_args.speculative_config={decoding_type: Eagle, max_draft_len: 1, "
                "speculative_model: /d}"
            ),
        ),
    ),
    Silent("speculative-mtp-missing", ("speculative={method: mtp}", R1)),
    Silent("speculative-mtp-missing", ("speculative={method: mtp}",), config=OTHER_MTP_KEY),
    Silent(
        "speculative-setting-unused",
        (
            "speculative={method: mtp}",
            (
                "engine.llm_args.speculative_config={relaxed_topk: 10, "
                "use_relaxed_acceptance_for_thinking: true}"
            ),
            R1,
        ),
    ),
    Silent(
        "speculative-schedule-key",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {1: 3, '8': 1}}"),
    ),
    Silent(
        "speculative-schedule-start",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {1: 3, 8: 1}}"),
    ),
    Silent(
        "speculative-schedule-start",
        (V13, EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {4: 3, 8: 1}}"),
    ),
    Silent(
        "speculative-schedule-length",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {1: 3, 8: 0}}"),
    ),
    Silent(
        "speculative-schedule-rises",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {1: 3, 4: 3, 8: 1}}"),
    ),
    Silent(
        "speculative-schedule-and-concurrency",
        (EAGLE, "engine.llm_args.speculative_config={draft_len_schedule: {1: 3, 8: 1}, max_concurrency: 8}"),
    ),
    Silent(
        "speculative-dynamic-tree",
        (
            EAGLE,
            (
                "engine.llm_args.speculative_config={use_dynamic_tree: true, "
                "dynamic_tree_max_topK: 10, max_total_draft_tokens: 30}"
            ),
        ),
    ),
    Silent(
        "speculative-hybrid-model",
        (EAGLE, "layout={attention_dp: true, gpus_per_node: 2, tp: 2}"),
        config=HYBRID,
    ),
    Silent("speculative-hybrid-model", (EAGLE,)),
    Silent("speculative-draft-cache", ("engine.tensorrt_llm='1.3.0rc19'", EAGLE)),
    Silent(
        "speculative-draft-cache",
        (
            (
                "speculative={method: eagle3, draft: "
                "'hf://a/b@0123456789abcdef0123456789abcdef01234567', draft_len: 1}"
            ),
        ),
    ),
    Silent("speculative-two-models", (EAGLE, "engine.llm_args.speculative_config={eagle3_one_model: true}")),
    Silent(
        "speculative-relaxed-acceptance",
        (
            "speculative={method: mtp}",
            "engine.llm_args.speculative_config={use_relaxed_acceptance_for_thinking: false}",
            R1,
        ),
    ),
    Silent(
        "speculative-ngram-size",
        (V13, "engine.llm_args.speculative_config={decoding_type: NGram, max_draft_len: 4}"),
    ),
    Silent(
        "speculative-ngram-size",
        (V13, "engine.llm_args.speculative_config={decoding_type: SA, max_matching_ngram_size: 64}"),
    ),
    Silent(
        "speculative-pool-size",
        (
            V13,
            (
                "engine.llm_args.speculative_config={decoding_type: SA, enable_global_pool: true, "
                "global_pool_size: 64}"
            ),
        ),
    ),
    Silent("speculative-vocabulary", ("speculative={method: eagle3, draft: 'file://model'}",)),
    Silent(
        "speculative-other-text",
        ("expect={record: {metric: tokens_per_s_per_user, value: 1000, source: 'https://x'}}",),
    ),
    Silent("speculative-on-engines", (TRT,)),
)

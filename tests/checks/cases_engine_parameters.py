"""Parameters of the Triton models that serve an engine."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

TRT = "engine.backend=tensorrt"
AT = "serve.engine_parameters"
MEDUSA = "engine.build_flags={speculative_decoding_mode: medusa, max_draft_len: 4}"
LOOKAHEAD = "engine.build_flags={speculative_decoding_mode: lookahead_decoding, max_draft_len: 4}"

FIRES = (
    Fires(
        "engine-parameter-backend",
        ("serve.engine_parameters={max_beam_width: 2}",),
        AT,
        "no engine is served by Triton, so that these parameters have no effect",
        "warning",
        hint="Remove them, or set engine.backend: tensorrt",
    ),
    Fires(
        "engine-parameter-backend",
        (TRT, "serve={runtime: reference, engine_parameters: {stats_check_period_ms: 5}}"),
        AT,
        "no engine is served by Triton, so that these parameters have no effect",
        "warning",
    ),
    Fires(
        "engine-parameter-unknown",
        (TRT, "serve.engine_parameters={kv_cache_free_gpu_memory_fraction: 0.8}"),
        f"{AT}.kv_cache_free_gpu_memory_fraction",
        "the Triton models of an engine have no kv_cache_free_gpu_memory_fraction",
        hint="Did you mean kv_cache_free_gpu_mem_fraction",
    ),
    Fires(
        "engine-parameter-removed",
        (TRT, "serve.engine_parameters={enable_trt_overlap: true}"),
        f"{AT}.enable_trt_overlap",
        "older templates had this key; the models that are written do not",
        hint="Remove it; it has no effect any more",
    ),
    Fires(
        "engine-parameter-type",
        (TRT, "serve.engine_parameters={kv_cache_free_gpu_mem_fraction: 90}"),
        f"{AT}.kv_cache_free_gpu_mem_fraction",
        "expected a number above 0 and at most 1, got the number 90",
        hint="Share of the memory left after loading that the KV cache takes; unset means 0.9",
    ),
    Fires(
        "engine-parameter-type",
        (TRT, "serve.engine_parameters={enable_kv_cache_reuse: 'True'}"),
        f"{AT}.enable_kv_cache_reuse",
        "expected true or false, got the text 'True'",
        hint="Write true without quotes",
    ),
    Fires(
        "engine-parameter-type",
        (TRT, "serve.engine_parameters={gpu_device_ids: '0,1'}"),
        f"{AT}.gpu_device_ids",
        "expected a list of whole numbers, or a list of such lists, got the text '0,1'",
        hint="Write a list, for example [0, 1]",
    ),
    Fires(
        "engine-parameter-type",
        (TRT, "serve.engine_parameters={bls_instance_count: '4'}"),
        f"{AT}.bls_instance_count",
        "expected a whole number from 1 to 1024, got the text '4'",
        hint="Write 4 without quotes",
    ),
    Fires(
        "engine-parameter-type",
        (TRT, MEDUSA, "serve.engine_parameters={medusa_choices: '{0}, {0, 1}'}"),
        f"{AT}.medusa_choices",
        "expected a list of lists of whole numbers, got the text '{0}, {0, 1}'",
        hint="Write lists, for example [[0, 0], [0, 1]]",
    ),
    Fires(
        "engine-parameter-choice",
        (TRT, "serve.engine_parameters={batch_scheduler_policy: guaranteed_no_evicts}"),
        f"{AT}.batch_scheduler_policy",
        "the text 'guaranteed_no_evicts' is not one of: guaranteed_no_evict, max_utilization",
        hint="Did you mean guaranteed_no_evict",
    ),
    Fires(
        "engine-parameter-choice",
        (TRT, "serve.engine_parameters={decoding_mode: 3}"),
        f"{AT}.decoding_mode",
        "the number 3 is not one of: top_k, top_p, top_k_top_p, beam_search, medusa, redrafter, lookahead, "
        "eagle",
    ),
    Fires(
        "engine-parameter-said-elsewhere",
        (TRT, "serve.engine_parameters={decoupled_mode: false}"),
        f"{AT}.decoupled_mode",
        "the recipe says this at serve.streaming",
        hint="Remove it here, and set it there",
    ),
    Fires(
        "engine-parameter-said-elsewhere",
        (TRT, "serve.engine_parameters={max_queue_size: 9}"),
        f"{AT}.max_queue_size",
        "the recipe says this at serve.max_queued",
    ),
    Fires(
        "engine-parameter-fixed",
        (TRT, "serve.engine_parameters={triton_backend: python}"),
        f"{AT}.triton_backend",
        "the repository is written with the C++ backend under its own name, not python",
        hint="Remove it, or write tensorrtllm",
    ),
    Fires(
        "engine-parameter-pictures",
        (TRT, "serve.engine_parameters={max_num_images: 1}"),
        f"{AT}.max_num_images",
        "preprocessing takes text only: no vision encoder is served",
    ),
    Fires(
        "engine-parameter-batch",
        (TRT, "serve.engine_parameters={triton_max_batch_size: 65}"),
        f"{AT}.triton_max_batch_size",
        "Triton would hand over 65 requests at once, and the engine runs 64",
        "warning",
        hint="Set it to 64, or remove it",
    ),
    Fires(
        "engine-parameter-decoding",
        (TRT, "serve.engine_parameters={decoding_mode: medusa}"),
        f"{AT}.decoding_mode",
        "the engine is built without drafts, not for medusa",
        hint="Remove it, or set speculative.method: medusa",
    ),
    Fires(
        "engine-parameter-decoding",
        (TRT, MEDUSA, "serve.engine_parameters={eagle_choices: [[0]]}"),
        f"{AT}.eagle_choices",
        "the engine is built for medusa, and has no such tree",
    ),
    Fires(
        "engine-parameter-lookahead",
        (TRT, LOOKAHEAD, "serve.engine_parameters={lookahead_window_size: 7}"),
        AT,
        "lookahead decoding needs lookahead_ngram_size, lookahead_verification_set_size",
    ),
    Fires(
        "engine-parameter-launch",
        (TRT, "serve.engine_parameters={participant_ids: [0, 1], speculative_decoding_fast_logits: false}"),
        f"{AT}.participant_ids",
        "this is for an orchestrator that starts no workers; both launch modes start theirs",
        "warning",
    ),
    Fires(
        "engine-launch-one-rank",
        (TRT, "serve.launch_mode=orchestrator"),
        "serve.launch_mode",
        "the engine has one rank, which needs no orchestrator",
        "warning",
    ),
    Fires(
        "engine-model-name",
        (TRT, "serve.model_name=llama"),
        "serve.model_name",
        "the models of an engine have fixed names: clients ask ensemble or tensorrt_llm_bls, not llama",
        "warning",
        hint="Remove it",
    ),
    Fires(
        "engine-queue-unlimited",
        (TRT, "serve.max_queued=0"),
        "serve.max_queued",
        "Triton takes 0 for no limit, so that 1 is written",
        "warning",
    ),
)
SILENT = (
    Silent("engine-parameter-backend", (TRT, "serve.engine_parameters={stats_check_period_ms: 5}")),
    Silent("engine-parameter-backend", ()),
    Silent("engine-parameter-unknown", (TRT, "serve.engine_parameters={recv_poll_period_ms: 5}")),
    Silent("engine-parameter-removed", (TRT, "serve.engine_parameters={enable_chunked_context: true}")),
    Silent(
        "engine-parameter-type",
        (
            TRT,
            (
                "serve.engine_parameters={kv_cache_free_gpu_mem_fraction: 1, gpu_device_ids: [[0, 1], [2]], "
                "max_attention_window_size: 4096, lora_prefetch_dir: /adapters, normalize_log_probs: false}"
            ),
        ),
    ),
    Silent("engine-parameter-choice", (TRT, "serve.engine_parameters={batching_strategy: V1}")),
    Silent("engine-parameter-said-elsewhere", (TRT, "serve.engine_parameters={engine_dir: /srv/engine}")),
    Silent("engine-parameter-fixed", (TRT, "serve.engine_parameters={triton_backend: tensorrtllm}")),
    Silent("engine-parameter-pictures", (TRT, "serve.engine_parameters={add_special_tokens: false}")),
    Silent(
        "engine-parameter-launch", (TRT, "serve.engine_parameters={speculative_decoding_fast_logits: false}")
    ),
    Silent("engine-parameter-batch", (TRT, "serve.engine_parameters={triton_max_batch_size: 64}")),
    Silent("engine-parameter-decoding", (TRT, MEDUSA, "serve.engine_parameters={decoding_mode: medusa}")),
    Silent("engine-parameter-decoding", (TRT, "serve.engine_parameters={decoding_mode: beam_search}")),
    Silent(
        "engine-parameter-lookahead",
        (
            TRT,
            LOOKAHEAD,
            (
                "serve.engine_parameters={lookahead_window_size: 7, lookahead_ngram_size: 7, "
                "lookahead_verification_set_size: 7}"
            ),
        ),
    ),
    Silent(
        "engine-launch-one-rank", (TRT, "serve.launch_mode=orchestrator", "layout={gpus_per_node: 2, tp: 2}")
    ),
    Silent("engine-model-name", (TRT, "serve.model_name=tensorrt_llm")),
    Silent("engine-model-name", ("serve.model_name=llama",)),
    Silent("engine-queue-unlimited", (TRT, "serve.max_queued=1")),
)

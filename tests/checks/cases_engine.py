"""Engine sizes, CUDA graphs and LLM API arguments."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

EAGLE = "speculative={method: eagle3, draft: 'hf://a/b@0123456789abcdef0123456789abcdef01234567'}"
V13 = "engine.tensorrt_llm='1.3.0rc20'"
TRT = "engine.backend=tensorrt"
R1 = "model.source=hf://deepseek-ai/DeepSeek-R1@0123456789abcdef0123456789abcdef01234567"

FIRES = (
    Fires(
        "engine-kv-fraction",
        ("engine.llm_args={kv_cache_config: {free_gpu_memory_fraction: 90}}",),
        "engine.llm_args.kv_cache_config.free_gpu_memory_fraction",
        "90 cannot be a share of the memory that is left after weights and profiling",
        hint="Write 0.9",
    ),
    Fires(
        "llm-args-said-elsewhere",
        ("engine.llm_args={ep_size: 8}",),
        "engine.llm_args.ep_size",
        "the recipe says this at layout.ep",
        hint="Remove it here, and set layout.ep if 8 is what you want",
    ),
    Fires(
        "llm-args-renamed",
        ("engine.llm_args={moe_backend: TRTLLM}",),
        "engine.llm_args.moe_backend",
        "TensorRT-LLM 1.2.1 has another key for this",
        hint="Use moe_config.backend",
    ),
    Fires(
        "llm-args-renamed",
        ("engine.llm_args={kv_cache_config: {kv_cache_dtype: fp8}}",),
        "engine.llm_args.kv_cache_config.kv_cache_dtype",
        "TensorRT-LLM 1.2.1 has another key for this",
        hint="Use kv_cache_config.dtype",
    ),
    Fires(
        "llm-args-refused",
        ("engine.llm_args={speculative_config: {decoding_type: UserProvided}}",),
        "engine.llm_args.speculative_config",
        (
            "this needs drafter, which is not allowed in a recipe: it would run Python code that the "
            "recipe names"
        ),
        hint="Remove speculative_config",
    ),
    Fires(
        "engine-version-unknown",
        ("engine.tensorrt_llm='1.1.0'",),
        "engine.tensorrt_llm",
        "the arguments of TensorRT-LLM 1.1.0 are not known",
        hint="Known: 1.2.x, 1.3.x and 1.4.x",
    ),
    Fires(
        "engine-version-unknown",
        ("engine.tensorrt_llm='1.2.11'",),
        "engine.tensorrt_llm",
        "there is no TensorRT-LLM 1.2.11, as far as is known (2026-11)",
        hint="Did you mean 1.2.1; known: 1.2.x, 1.3.x and 1.4.x",
    ),
    Fires(
        "engine-version-unknown",
        ("engine.tensorrt_llm='12.1'",),
        "engine.tensorrt_llm",
        "the arguments of TensorRT-LLM 12.1 are not known",
        hint="Did you mean 1.2.1; known: 1.2.x, 1.3.x and 1.4.x",
    ),
    Fires(
        "engine-version-unknown",
        ("engine.tensorrt_llm='1.3.0rc99'",),
        "engine.tensorrt_llm",
        "there is no TensorRT-LLM 1.3.0rc99, as far as is known (2026-11)",
        hint="Did you mean 1.3.0rc9; known: 1.2.x, 1.3.x and 1.4.x",
    ),
    Fires(
        "engine-version-approximate",
        ("engine.tensorrt_llm='1.2.0'",),
        "engine.tensorrt_llm",
        "arguments of 1.2.0 are checked against the list of 1.2.1",
        "warning",
        hint="Install that tensorrt_llm to check against its own list",
    ),
    Fires(
        "engine-tokens-below-batch",
        ("engine.max_num_tokens=8",),
        "engine.max_num_tokens",
        "fewer tokens in a step than max_batch_size 64: the token limit binds first",
        "warning",
        hint="Raise it to 64 or more",
    ),
    Fires(
        "engine-tokens-below-prompt",
        ("engine.max_num_tokens=4096",),
        "engine.max_num_tokens",
        "prompts longer than 4096 tokens will be refused (max_seq_len is 8192)",
        "warning",
        hint="Raise it, or set engine.llm_args.enable_chunked_prefill: true",
    ),
    Fires(
        "engine-tokens-below-prompt",
        ("engine.max_num_tokens=4096", "engine.llm_args={max_input_len: 5000}"),
        "engine.max_num_tokens",
        "prompts longer than 4096 tokens will be refused (max_input_len is 5000)",
        hint="Raise it to 5000, or set engine.llm_args.enable_chunked_prefill: true",
    ),
    Fires(
        "engine-tokens-below-prompt",
        (TRT, "engine.max_num_tokens=4096", "engine.build_flags={max_input_len: 5000}"),
        "engine.max_num_tokens",
        "prompts longer than 4096 tokens will be refused (max_input_len is 5000)",
        hint="Raise it to 5000",
    ),
    Fires(
        "engine-input-beyond-sequence",
        ("engine.llm_args={max_input_len: 8192}",),
        "engine.llm_args.max_input_len",
        "prompt and answer share max_seq_len 8192, so that no such prompt is answered",
        "warning",
        hint="Write less than 8192",
    ),
    Fires(
        "engine-input-beyond-sequence",
        (TRT, "engine.build_flags={max_input_len: 9000}"),
        "engine.build_flags.max_input_len",
        "prompt and answer share max_seq_len 8192, so that no such prompt is answered",
        "warning",
        hint="Write less than 8192",
    ),
    Fires(
        "engine-transceiver-buffer",
        ("engine.llm_args={cache_transceiver_config: {backend: UCX, max_tokens_in_buffer: 2048}}",),
        "engine.llm_args.cache_transceiver_config.max_tokens_in_buffer",
        "a buffer of 2048 tokens is smaller than the longest prompt (engine.max_seq_len 8192)",
        "warning",
        hint="Raise it to 8192, in steps of 32",
    ),
    Fires(
        "engine-transceiver-buffer",
        (
            (
                "engine.llm_args={max_input_len: 4096, cache_transceiver_config: {backend: UCX, "
                "max_tokens_in_buffer: 2048}}"
            ),
        ),
        "engine.llm_args.cache_transceiver_config.max_tokens_in_buffer",
        "a buffer of 2048 tokens is smaller than the longest prompt (max_input_len 4096)",
        hint="Raise it to 4096, in steps of 32",
    ),
    Fires(
        "engine-kv-fraction",
        ("engine.llm_args={kv_cache_config: {free_gpu_memory_fraction: 0.99}}",),
        "engine.llm_args.kv_cache_config.free_gpu_memory_fraction",
        "0.99 is the share of the memory that is left after weights and profiling",
        "warning",
        hint="Stay at or below 0.95, or expect to run out of memory",
    ),
    Fires(
        "engine-kv-fraction",
        ("engine.llm_args={kv_cache_config: {free_gpu_memory_fraction: 0}}",),
        "engine.llm_args.kv_cache_config.free_gpu_memory_fraction",
        "0 cannot be a share of the memory that is left after weights and profiling",
        hint="Choose a value above 0 and at most 1",
    ),
    Fires(
        "engine-graph-sizes",
        ("engine.llm_args={cuda_graph_config: {batch_sizes: [1, 128]}}",),
        "engine.llm_args.cuda_graph_config.batch_sizes",
        "CUDA graphs for 128 requests, but engine.max_batch_size is 64",
        hint="Cut it to 64",
    ),
    Fires(
        "engine-graph-sizes",
        ("engine.llm_args={cuda_graph_config: {batch_sizes: [1, 8], max_batch_size: 4}}",),
        "engine.llm_args.cuda_graph_config.max_batch_size",
        "max_batch_size 4 is not the largest of batch_sizes, 8",
        hint="Set it to 8 or leave it out",
    ),
    Fires(
        "engine-graph-sizes",
        ("engine.llm_args={cuda_graph_config: {max_batch_size: 65}}",),
        "engine.llm_args.cuda_graph_config.max_batch_size",
        "CUDA graphs for 65 requests, but engine.max_batch_size is 64",
        hint="Cut it to 64",
    ),
    Fires(
        "engine-graph-sizes",
        ("engine.llm_args={cuda_graph_config: {batch_sizes: [0, 1]}}",),
        "engine.llm_args.cuda_graph_config.batch_sizes",
        "there is no batch of 0 requests",
        hint="Write sizes of 1 or more",
    ),
    Fires(
        "engine-graph-gaps",
        ("engine.llm_args={cuda_graph_config: {batch_sizes: [1, 2, 8, 64]}}",),
        "engine.llm_args.cuda_graph_config.batch_sizes",
        "batches of 3 to 7 requests have no graph of their own and run without one",
        "warning",
        hint="Add enable_padding: true, or list every size",
    ),
    Fires(
        "engine-graph-coverage",
        ("engine.max_batch_size=256",),
        "engine.llm_args.cuda_graph_config",
        "CUDA graphs end at 128 requests; batches of 129 to 256 run without",
        "info",
        hint="Set cuda_graph_config: {max_batch_size: 256, enable_padding: true}; a graph takes up to 200 MB",
    ),
    Fires(
        "engine-save-state",
        (
            (
                "engine.llm_args={speculative_config: {decoding_type: SaveState, output_directory: "
                "/x}, disable_overlap_scheduler: true, cuda_graph_config: null}"
            ),
        ),
        "engine.max_batch_size",
        "hidden states are saved for one request at a time: TensorRT-LLM forces 1",
        hint="Write max_batch_size: 1",
    ),
    Fires(
        "engine-save-state",
        (
            "engine.max_batch_size=1",
            (
                "engine.llm_args={speculative_config: {decoding_type: SaveState, output_directory: "
                "/x}, cuda_graph_config: null}"
            ),
        ),
        "engine.llm_args.speculative_config",
        (
            "hidden states are saved for one request at a time: TensorRT-LLM switches the overlap "
            "scheduler off"
        ),
        hint="Add engine.llm_args.disable_overlap_scheduler: true",
    ),
    Fires(
        "engine-save-state",
        (
            "engine.max_batch_size=1",
            (
                "engine.llm_args={speculative_config: {decoding_type: SaveState, output_directory: "
                "/x}, disable_overlap_scheduler: true}"
            ),
        ),
        "engine.llm_args.speculative_config",
        "hidden states are saved for one request at a time: TensorRT-LLM switches CUDA graphs off",
        hint="Write engine.llm_args.cuda_graph_config: null",
    ),
    Fires(
        "llm-args-unknown-key",
        ("engine.llm_args={enable_chunked_prefil: true}",),
        "engine.llm_args.enable_chunked_prefil",
        "TensorRT-LLM 1.2.1 has no argument enable_chunked_prefil",
        hint="Did you mean enable_chunked_prefill",
    ),
    Fires(
        "llm-args-renamed",
        ("engine.llm_args={kv_cache_dtype: fp8}",),
        "engine.llm_args.kv_cache_dtype",
        "TensorRT-LLM 1.2.1 has another key for this",
        hint="Use kv_cache_config.dtype",
    ),
    Fires(
        "llm-args-renamed",
        ("engine.llm_args={build_config: {max_batch_size: 8}}",),
        "engine.llm_args.build_config",
        "TensorRT-LLM 1.2.1 has another key for this: sizes stand at the top level since 1.1",
        hint=(
            "Use the same keys without build_config, sizes as engine.max_batch_size, "
            "engine.max_num_tokens and engine.max_seq_len"
        ),
    ),
    Fires(
        "llm-args-renamed",
        ("engine.llm_args={moe_config: {backend: AUTO}}",),
        "engine.llm_args.moe_config.backend",
        "TensorRT-LLM 1.2.1 does not want AUTO here",
        hint="Write CUTLASS, or the backend that your GPU allows",
    ),
    Fires(
        "llm-args-renamed",
        (
            (
                "engine.llm_args.speculative_config={decoding_type: Eagle3, max_draft_len: 3, "
                "speculative_model: /d}"
            ),
        ),
        "engine.llm_args.speculative_config.decoding_type",
        "TensorRT-LLM 1.2.1 does not want Eagle3 here",
        hint="Write Eagle",
    ),
    Fires(
        "llm-args-renamed",
        ("engine.llm_args.speculative_config={decoding_type: MTP, max_draft_len: 3}", R1),
        "engine.llm_args.speculative_config.max_draft_len",
        (
            "TensorRT-LLM 1.2.1 has another key for this: up to 1.2 MTP overwrites max_draft_len "
            "with num_nextn_predict_layers, by default 1"
        ),
        hint="Use speculative_config.num_nextn_predict_layers",
    ),
    Fires(
        "llm-args-renamed",
        ("speculative={method: mtp}", "engine.llm_args.speculative_config={max_draft_len: 3}", R1),
        "engine.llm_args.speculative_config.max_draft_len",
        (
            "TensorRT-LLM 1.2.1 has another key for this: up to 1.2 MTP overwrites max_draft_len "
            "with num_nextn_predict_layers, by default 1"
        ),
        hint="Use speculative_config.num_nextn_predict_layers",
    ),
    Fires(
        "llm-args-renamed",
        (V13, "engine.llm_args.speculative_config={decoding_type: MTP, num_nextn_predict_layers: 3}", R1),
        "engine.llm_args.speculative_config.num_nextn_predict_layers",
        "TensorRT-LLM 1.3.0rc20 has another key for this: deprecated and remapped",
        "warning",
        hint="Use speculative_config.max_draft_len",
    ),
    Fires(
        "llm-args-renamed",
        (EAGLE, "engine.llm_args.speculative_config={eagle_choices: [[0]]}"),
        "engine.llm_args.speculative_config.eagle_choices",
        (
            "TensorRT-LLM 1.2.1 has no use for this key: static trees give wrong acceptance "
            "(https://github.com/NVIDIA/TensorRT-LLM/issues/10343)"
        ),
        hint="Remove it",
    ),
    Fires(
        "llm-args-renamed",
        (
            "engine.tensorrt_llm='1.3.0rc27'",
            EAGLE,
            "engine.llm_args.speculative_config={greedy_sampling: true}",
        ),
        "engine.llm_args.speculative_config.greedy_sampling",
        "TensorRT-LLM 1.3.0rc27 has no use for this key",
        hint="Remove it",
    ),
    Fires(
        "llm-args-wrong-type",
        ("engine.llm_args={enable_autotuner: 1}",),
        "engine.llm_args.enable_autotuner",
        "expected true or false, got the number 1 (TensorRT-LLM 1.2.1)",
        hint="Write true or false",
    ),
    Fires(
        "llm-args-not-a-choice",
        ("engine.llm_args={moe_config: {backend: DENSEGEMM}}",),
        "engine.llm_args.moe_config.backend",
        (
            "the text 'DENSEGEMM' is not one of: CUTLASS, CUTEDSL, WIDEEP, TRTLLM, DEEPGEMM, "
            "VANILLA, TRITON (TensorRT-LLM 1.2.1)"
        ),
        hint=(
            "TensorRT-LLM 1.3 has it; here choose one of: CUTLASS, CUTEDSL, WIDEEP, TRTLLM, DEEPGEMM, "
            "VANILLA, TRITON"
        ),
    ),
    Fires(
        "llm-args-unlisted-value",
        ("engine.llm_args={attn_backend: FLASHINFR}",),
        "engine.llm_args.attn_backend",
        "the text 'FLASHINFR' is not among the known values (TensorRT-LLM 1.2.1)",
        "warning",
        hint="Did you mean FLASHINFER",
    ),
    Fires(
        "llm-args-out-of-bounds",
        ("engine.llm_args={stream_interval: 0}",),
        "engine.llm_args.stream_interval",
        "expected at least 1, got the number 0 (TensorRT-LLM 1.2.1)",
        hint="Choose a value within the bounds",
    ),
    Fires(
        "llm-args-missing-key",
        ("engine.llm_args.speculative_config={max_draft_len: 3}",),
        "engine.llm_args.speculative_config",
        "the key decoding_type is missing (TensorRT-LLM 1.2.1)",
        hint=(
            "Add decoding_type, one of: DraftTarget, Eagle, Lookahead, Medusa, MTP, NGram, "
            "UserProvided, SaveState, AUTO"
        ),
    ),
    Fires(
        "llm-args-deprecated",
        (V13, "engine.llm_args={sampler_type: auto}"),
        "engine.llm_args.sampler_type",
        "upstream has deprecated this key (TensorRT-LLM 1.3)",
        "warning",
        hint="Remove it",
    ),
    Fires(
        "llm-args-engine-only",
        ("engine.llm_args={fast_build: true}",),
        "engine.llm_args.fast_build",
        "only the engine backend has this key",
        hint="Remove it; engine.backend: pytorch does not use it",
    ),
    Fires(
        "llm-args-engine-only",
        ("engine.llm_args.speculative_config={decoding_type: Medusa}",),
        "engine.llm_args.speculative_config.decoding_type",
        "Medusa exists for the engine backend only (TensorRT-LLM 1.2.1)",
        hint=(
            "Choose one that the PyTorch backend has: DraftTarget, Eagle, MTP, NGram, UserProvided, "
            "SaveState, AUTO"
        ),
    ),
    Fires(
        "llm-args-said-elsewhere",
        ("engine.llm_args={tensor_parallel_size: 8}",),
        "engine.llm_args.tensor_parallel_size",
        "the recipe says this at layout.tp",
        hint="Remove it here, and set layout.tp if 8 is what you want",
    ),
    Fires(
        "llm-args-refused",
        ("engine.llm_args={env_overrides: {LD_PRELOAD: x.so}}",),
        "engine.llm_args.env_overrides",
        "not allowed in a recipe: it would change the environment that the server runs in",
        hint="Remove it",
    ),
    Fires(
        "llm-args-names-host",
        ("engine.llm_args={otlp_traces_endpoint: 'http://x'}",),
        "engine.llm_args.otlp_traces_endpoint",
        "this names a file or an address of the machine that serves",
        "warning",
        hint="Make sure that you know and want it",
    ),
)
SILENT = (
    Silent(
        "llm-args-out-of-bounds",
        ("engine.llm_args={kv_cache_config: {free_gpu_memory_fraction: 1.2}}",),
    ),  # engine-kv-fraction says it
    Silent(
        "engine-tokens-below-prompt",
        ("engine.max_num_tokens=1024", "engine.llm_args={enable_chunked_prefill: 'true'}"),
    ),
    Silent("engine-version-installed", ()),
    Silent("engine-version-unknown", ("engine.tensorrt_llm='1.3.0rc30'",)),
    Silent("engine-version-unknown", ("engine.tensorrt_llm='1.1.0'", "engine.backend=tensorrt")),
    Silent("engine-version-approximate", ()),
    Silent("engine-tokens-below-batch", ("engine.max_num_tokens=64",)),
    Silent(
        "engine-tokens-below-prompt",
        ("engine.max_num_tokens=4096", "engine.llm_args={enable_chunked_prefill: true}"),
    ),
    Silent(
        "engine-tokens-below-prompt", ("engine.max_num_tokens=4096", "engine.llm_args={max_input_len: 4096}")
    ),
    Silent("engine-input-beyond-sequence", ("engine.llm_args={max_input_len: 8191}",)),
    Silent(
        "engine-transceiver-buffer",
        ("engine.llm_args={cache_transceiver_config: {backend: UCX, max_tokens_in_buffer: 8192}}",),
    ),
    Silent("engine-kv-fraction", ("engine.llm_args={kv_cache_config: {free_gpu_memory_fraction: 0.95}}",)),
    Silent(
        "engine-graph-sizes",
        ("engine.llm_args={cuda_graph_config: {batch_sizes: [1, 64], max_batch_size: 64}}",),
    ),
    Silent(
        "engine-graph-gaps",
        ("engine.llm_args={cuda_graph_config: {batch_sizes: [1, 2, 8, 64], enable_padding: true}}",),
    ),
    Silent("engine-graph-gaps", ("engine.llm_args={cuda_graph_config: {batch_sizes: [1, 2, 3, 4]}}",)),
    Silent(
        "engine-graph-coverage", ("engine.max_batch_size=256", "engine.llm_args={cuda_graph_config: null}")
    ),
    Silent("engine-graph-coverage", ("engine.max_batch_size=128",)),
    Silent(
        "engine-save-state",
        (
            "engine.max_batch_size=1",
            (
                "engine.llm_args={speculative_config: {decoding_type: SaveState, output_directory: "
                "/x}, disable_overlap_scheduler: true, cuda_graph_config: null}"
            ),
        ),
    ),
    Silent("llm-args-unknown-key", ("engine.llm_args={enable_chunked_prefill: true}",)),
    Silent("llm-args-unknown-key", (TRT, "engine.llm_args={zzz: true}")),
    Silent("llm-args-renamed", ("engine.llm_args={kv_cache_config: {dtype: fp8}}",)),
    Silent("llm-args-wrong-type", ("engine.llm_args={enable_autotuner: true}",)),
    Silent("llm-args-not-a-choice", (V13, "engine.llm_args={moe_config: {backend: DENSEGEMM}}")),
    Silent("llm-args-unlisted-value", ("engine.llm_args={attn_backend: FLASHINFER}",)),
    Silent("llm-args-out-of-bounds", ("engine.llm_args={stream_interval: 1}",)),
    Silent("llm-args-missing-key", (EAGLE, "engine.llm_args.speculative_config={greedy_sampling: true}")),
    Silent("llm-args-deprecated", ("engine.llm_args={sampler_type: auto}",)),
    Silent("llm-args-engine-only", (EAGLE,)),
    Silent("llm-args-said-elsewhere", ("layout={gpus_per_node: 2, tp: 2}",)),
    Silent("llm-args-refused", ("engine.llm_args={custom_tokenizer: deepseek_v32}",)),
    Silent("llm-args-names-host", ("engine.llm_args={return_perf_metrics: true}",)),
)

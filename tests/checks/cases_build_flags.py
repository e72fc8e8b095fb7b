"""Options of trtllm-build."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import SMALL_LLAMA

TRT = "engine.backend=tensorrt"
GPT_OSS = "model.source=hf://openai/gpt-oss-120b@0123456789abcdef0123456789abcdef01234567"
AWQ = {**SMALL_LLAMA, "quantization_config": {"quant_algo": "W4A16_AWQ", "quant_method": "awq"}}
MIXTRAL = {
    **SMALL_LLAMA,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
QWEN = {**SMALL_LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
HEADS = "speculative={method: eagle, draft: 'file://model', draft_len: 5}"

FIRES = (
    Fires(
        "build-flag-streamingllm",
        (TRT, "engine.build_flags={streamingllm: true}"),
        "engine.build_flags.streamingllm",
        "support for StreamingLLM has ended: trtllm-build stops on an assertion",
        hint="Remove it",
    ),
    Fires(
        "build-flag-model-class",
        (TRT, "engine.build_flags={model_cls_file: m.py}"),
        "engine.build_flags.model_cls_file",
        "model_cls_file needs model_cls_name beside it",
        hint="Add model_cls_name",
    ),
    Fires(
        "build-flag-eagle-model",
        (TRT, "engine.build_flags={speculative_decoding_mode: EAGLE-3, max_draft_len: 3}"),
        "engine.build_flags.speculative_decoding_mode",
        "EAGLE-3 runs with the PyTorch backend only",
        hint="Set engine.backend: pytorch and draft with the section speculative",
    ),
    Fires(
        "build-flag-unknown",
        (TRT, "engine.build_flags={max_output_len: 512}"),
        "engine.build_flags.max_output_len",
        "trtllm-build has no option --max_output_len",
        hint="Remove it, and set engine.max_seq_len (prompt plus answer)",
    ),
    Fires(
        "build-flag-backend",
        ("engine.build_flags={gemm_plugin: auto}",),
        "engine.build_flags",
        "no engine is built with backend pytorch, so that these options have no effect",
        "warning",
        hint="Remove them, or set engine.backend: tensorrt with engine.tensorrt_llm: 1.2.1",
    ),
    Fires(
        "build-flag-llm-args",
        (TRT, "engine.llm_args={enable_chunked_prefill: true}"),
        "engine.llm_args.enable_chunked_prefill",
        "an engine does not read LLM API arguments, so that this one has no effect",
        "warning",
        hint="Remove it, or set engine.backend: pytorch",
    ),
    Fires(
        "build-flag-llm-args",
        (TRT, "engine.llm_args={max_input_len: 4096}"),
        "engine.llm_args.max_input_len",
        "an engine does not read LLM API arguments, so that this one has no effect",
        "warning",
        hint="Write it as engine.build_flags.max_input_len",
    ),
    Fires(
        "build-flag-unknown",
        (TRT, "engine.build_flags={gemm_plugn: auto}"),
        "engine.build_flags.gemm_plugn",
        "trtllm-build has no option --gemm_plugn",
        hint="Did you mean gemm_plugin",
    ),
    Fires(
        "build-flag-unknown",
        (TRT, "engine.build_flags={'--use-paged-context-fmha': enable}"),
        "engine.build_flags.--use-paged-context-fmha",
        "trtllm-build has no option --use-paged-context-fmha",
        hint="Did you mean use_paged_context_fmha",
    ),
    Fires(
        "build-flag-unknown",
        (TRT, "engine.build_flags={zzz: 1}"),
        "engine.build_flags.zzz",
        "trtllm-build has no option --zzz",
        hint="Remove it, or look it up in trtllm-build --help",
    ),
    Fires(
        "build-flag-removed",
        (TRT, "engine.build_flags={auto_parallel: 8}"),
        "engine.build_flags.auto_parallel",
        "TensorRT-LLM 1.2.1 has no --auto_parallel; 1.0 was the last with it",
        hint="Remove it; the section layout says what it said",
    ),
    Fires(
        "build-flag-layout",
        (TRT, "engine.build_flags={tp_size: 8}"),
        "engine.build_flags.tp_size",
        "trtllm-build has no such option: the layout is fixed when the checkpoint is converted",
        hint="Remove it, and set layout.tp",
    ),
    Fires(
        "build-flag-said-elsewhere",
        (TRT, "engine.build_flags={max_batch_size: 8}"),
        "engine.build_flags.max_batch_size",
        "the recipe says this at engine.max_batch_size",
        hint="Remove it here, and set it there",
    ),
    Fires(
        "build-flag-said-elsewhere",
        (TRT, "engine.build_flags={checkpoint_dir: /x}"),
        "engine.build_flags.checkpoint_dir",
        "the recipe says this at model.source and quantize",
        hint="Remove it here, and set it there",
    ),
    Fires(
        "build-flag-type",
        (TRT, "engine.build_flags={tokens_per_block: '32'}"),
        "engine.build_flags.tokens_per_block",
        "expected a whole number of 0 or more, got the text '32'",
        hint="Write 32 without quotes",
    ),
    Fires(
        "build-flag-type",
        (TRT, "engine.build_flags={strip_plan: enable}"),
        "engine.build_flags.strip_plan",
        "expected true or false, got the text 'enable'",
        hint="Write true",
    ),
    Fires(
        "build-flag-type",
        (TRT, "engine.build_flags={reduce_fusion: true}"),
        "engine.build_flags.reduce_fusion",
        "expected one of enable, disable, got true",
        hint="Write enable",
    ),
    Fires(
        "build-flag-type",
        (TRT, "engine.build_flags={lora_plugin: auto, lora_target_modules: attn_q}"),
        "engine.build_flags.lora_target_modules",
        "expected a list of names, got the text 'attn_q'",
        hint="Write [attn_q]",
    ),
    Fires(
        "build-flag-choice",
        (TRT, "engine.build_flags={gemm_plugin: nvpf4}"),
        "engine.build_flags.gemm_plugin",
        "the text 'nvpf4' is not one of: auto, float16, float32, bfloat16, int32, fp8, nvfp4, disable",
        hint="Did you mean nvfp4",
    ),
    Fires(
        "build-flag-choice",
        (TRT, "engine.build_flags={kv_cache_type: x}"),
        "engine.build_flags.kv_cache_type",
        "the text 'x' is not one of: continuous, paged, disabled",
        hint="Choose one of: continuous, paged, disabled",
    ),
    Fires(
        "build-flag-banned-on-gpu",
        (TRT, "layout.gpu=B200", "engine.build_flags={gemm_swiglu_plugin: fp8}"),
        "engine.build_flags.gemm_swiglu_plugin",
        "on B200 (SM100) TensorRT-LLM refuses it (NotImplementedError)",
        hint="Write disable, or remove it",
    ),
    Fires(
        "build-flag-banned-on-gpu",
        (TRT, "layout.gpu=RTX5090", "engine.build_flags={low_latency_gemm_plugin: fp8}"),
        "engine.build_flags.low_latency_gemm_plugin",
        "on RTX5090 (SM120) no kernel of it is known",
        hint="Write disable, or remove it",
    ),
    Fires(
        "build-flag-profiles",
        (TRT, "engine.build_flags={multiple_profiles: enable, opt_num_tokens: 64}"),
        "engine.build_flags.opt_num_tokens",
        ("several profiles have an optimum each, so that opt_num_tokens is refused with multiple_profiles"),
        hint="Remove one of the two",
    ),
    Fires(
        "build-flag-context-logits",
        (
            TRT,
            (
                "engine.build_flags={gather_context_logits: true, max_draft_len: 3, "
                "speculative_decoding_mode: medusa}"
            ),
        ),
        "engine.build_flags.gather_context_logits",
        "logits of the prompt cannot be kept with max_draft_len 3",
        hint="Remove it, or set max_draft_len: 0",
    ),
    Fires(
        "build-flag-streamingllm",
        (TRT, "engine.build_flags={streamingllm: enable}"),
        "engine.build_flags.streamingllm",
        "support for StreamingLLM has ended: trtllm-build stops on an assertion",
        hint="Remove it",
    ),
    Fires(
        "build-flag-pp-reduce-scatter",
        (TRT, "engine.build_flags={pp_reduce_scatter: enable}"),
        "engine.build_flags.pp_reduce_scatter",
        "only Mixtral has it; this model is LlamaForCausalLM",
        hint="Remove it, or write disable",
    ),
    Fires(
        "build-flag-architecture",
        (TRT, GPT_OSS),
        "engine.backend",
        "trtllm-build has no model class for GptOssForCausalLM",
        hint="Set engine.backend: pytorch, or give build_flags model_cls_file and model_cls_name",
    ),
    Fires(
        "build-flag-user-buffer",
        (TRT, "quantize.format=fp8", "engine.build_flags={user_buffer: enable}"),
        "engine.build_flags.user_buffer",
        "user_buffer needs reduce_fusion",
        hint="Add reduce_fusion: enable, or remove it",
    ),
    Fires(
        "build-flag-user-buffer",
        (TRT, "engine.build_flags={user_buffer: enable, reduce_fusion: enable}"),
        "engine.build_flags.user_buffer",
        "only FP8 Llama models have it; this one is NVFP4 LlamaForCausalLM",
        hint="Remove it",
    ),
    Fires(
        "build-flag-weight-streaming",
        (TRT, "quantize.format=fp8", "engine.build_flags={weight_streaming: true, gemm_plugin: auto}"),
        "engine.build_flags.weight_streaming",
        "weights cannot be streamed with the GEMM plugin on (gemm_plugin: auto)",
        hint="Write gemm_plugin: disable, or remove it",
    ),
    Fires(
        "build-flag-weight-streaming",
        (TRT, "engine.build_flags={weight_streaming: true}"),
        "engine.build_flags.weight_streaming",
        (
            "weights cannot be streamed with the GEMM plugin on (gemm_plugin: nvfp4, the default "
            "of an NVFP4 checkpoint)"
        ),
        hint="Write gemm_plugin: disable, or remove it",
    ),
    Fires(
        "build-flag-fused-mlp",
        (TRT, "engine.build_flags={use_fused_mlp: enable}"),
        "engine.build_flags.use_fused_mlp",
        "trtllm-build switches it off for NVFP4; only FP8 and mixed precision keep it",
        "info",
        hint="Remove it, so that the recipe says what happens",
    ),
    Fires(
        "build-flag-gemm-plugin",
        (TRT,),
        "engine.build_flags",
        "unset on an NVFP4 checkpoint, gemm_plugin becomes nvfp4",
        "info",
        hint="Write gemm_plugin: nvfp4 to say so, or disable",
    ),
    Fires(
        "build-flag-gemm-plugin",
        (TRT, "engine.build_flags={gemm_plugin: auto}"),
        "engine.build_flags.gemm_plugin",
        "auto becomes nvfp4 on an NVFP4 checkpoint; only disable stays",
        "info",
        hint="Write nvfp4",
    ),
    Fires(
        "build-flag-workers",
        (TRT, "engine.build_flags={workers: 4}"),
        "engine.build_flags.workers",
        "4 workers for 1 visible GPUs (layout.gpus_per_node): capped at 1",
        "warning",
        hint="Write 1",
    ),
    Fires(
        "build-flag-lora",
        (TRT, "engine.build_flags={lora_target_modules: [attn_q]}"),
        "engine.build_flags.lora_target_modules",
        "without lora_plugin the engine takes no adapters, so that this has no effect",
        hint="Add lora_plugin: auto, or remove it",
    ),
    Fires(
        "build-flag-fast-build",
        (TRT, "quantize={method: prequantized, format: null}", "engine.build_flags={fast_build: true}"),
        "engine.build_flags.fast_build",
        "fast_build does not fit W4A16_AWQ weights without plugins",
        "warning",
        hint="Add gemm_plugin: auto, or remove it",
        config=AWQ,
    ),
    Fires(
        "build-flag-draft-length",
        (TRT, "engine.build_flags={speculative_decoding_mode: draft_tokens_external}"),
        "engine.build_flags.speculative_decoding_mode",
        (
            "draft_tokens_external with max_draft_len 0: the engine refuses every request that "
            "carries drafted tokens"
        ),
        hint="Add max_draft_len, for example 3",
    ),
    Fires(
        "build-flag-eagle-model",
        (TRT, "engine.build_flags={speculative_decoding_mode: eagle, max_draft_len: 3}"),
        "engine.build_flags.speculative_decoding_mode",
        "EAGLE of the engine backend knows Llama models only; this one is Qwen2ForCausalLM",
        hint="Set engine.backend: pytorch, and draft there with method: eagle3",
        config=QWEN,
    ),
    Fires(
        "build-flag-eagle-model",
        (TRT, HEADS),
        "speculative.method",
        "EAGLE of the engine backend knows Llama models only; this one is Qwen2ForCausalLM",
        config=QWEN,
    ),
    Fires(
        "build-flag-said-elsewhere",
        (TRT, HEADS, "engine.build_flags={speculative_decoding_mode: eagle}"),
        "engine.build_flags.speculative_decoding_mode",
        "the recipe says this at speculative.method",
        hint="Remove it here, and set it there",
    ),
    Fires(
        "build-flag-said-elsewhere",
        (TRT, HEADS, "engine.build_flags={max_draft_len: 5}"),
        "engine.build_flags.max_draft_len",
        "the recipe says this at speculative.draft_len",
    ),
    Fires(
        "build-flag-context-logits",
        (TRT, HEADS, "engine.build_flags={gather_context_logits: true}"),
        "engine.build_flags.gather_context_logits",
        "logits of the prompt cannot be kept with max_draft_len 5",
    ),
    Fires(
        "build-flag-tokens",
        (TRT, HEADS, "engine.max_batch_size=8", "engine.max_num_tokens=47"),
        "engine.max_num_tokens",
        "47 tokens, but 8 requests with 5 drafts each have 48: trtllm-build raises it to that",
        "warning",
        hint="Write 48, or lower engine.max_batch_size",
    ),
    Fires(
        "build-flag-without-effect",
        (TRT, "engine.build_flags={gather_generation_logits: true}"),
        "engine.build_flags.gather_generation_logits",
        "no effect: requests decide this at run time now",
        "warning",
        hint="Remove it",
    ),
    Fires(
        "build-flag-without-effect",
        (TRT, "engine.build_flags={max_input_len: 4096}"),
        "engine.build_flags.max_input_len",
        "no effect: with padding removed and paged attention only max_num_tokens bounds prompts",
        "warning",
        hint="Remove it",
    ),
    Fires(
        "build-flag-without-effect",
        (TRT, "engine.build_flags={nccl_plugin: auto}"),
        "engine.build_flags.nccl_plugin",
        "no effect: with one rank trtllm-build switches it off",
        "warning",
        hint="Remove it",
    ),
    Fires(
        "build-flag-unknown",
        (TRT, "engine.build_flags={use_custom_all_reduce: enable}"),
        "engine.build_flags.use_custom_all_reduce",
        "trtllm-build has no option --use_custom_all_reduce",
        hint="Remove it: removed in 0.12; the runtime chooses the all-reduce kernel",
    ),
    Fires(
        "build-flag-unknown",
        (TRT, "engine.build_flags={enable_context_fmha: enable}"),
        "engine.build_flags.enable_context_fmha",
        "trtllm-build has no option --enable_context_fmha",
        hint="Write context_fmha",
    ),
    Fires(
        "build-flag-type",
        (TRT, "engine.build_flags={model_cls_name: --oops, model_cls_file: /x.py}"),
        "engine.build_flags.model_cls_name",
        "expected text that does not begin with -, got the text '--oops'",
    ),
    Fires(
        "build-flag-choice",
        (TRT, "engine.build_flags={lora_plugin: auto, lora_target_modules: [attn_q, attn_z]}"),
        "engine.build_flags.lora_target_modules",
        "the text 'attn_z' is not one of: attn_qkv, attn_q, attn_k, attn_v, attn_dense, mlp_h_to_4h, "
        "mlp_4h_to_h, mlp_gate, cross_attn_qkv, cross_attn_q, cross_attn_k, cross_attn_v, cross_attn_dense, "
        "moe_h_to_4h, moe_4h_to_h, moe_gate, moe_router, mlp_router, mlp_gate_up",
        hint="Did you mean attn_v",
    ),
    Fires(
        "build-flag-kv-layout",
        (TRT, "engine.build_flags={paged_kv_cache: disable}"),
        "engine.build_flags.paged_kv_cache",
        "deprecated: it is the old spelling of kv_cache_type",
        "warning",
        hint="Write kv_cache_type: continuous",
    ),
    Fires(
        "build-flag-kv-layout",
        (TRT, "engine.build_flags={paged_kv_cache: disable, kv_cache_type: paged}"),
        "engine.build_flags.paged_kv_cache",
        "disable contradicts kv_cache_type: paged",
        hint="Remove paged_kv_cache",
    ),
    Fires(
        "build-flag-fused-swiglu",
        (TRT, "engine.build_flags={gemm_swiglu_plugin: fp8, use_fused_mlp: disable}"),
        "engine.build_flags.gemm_swiglu_plugin",
        "gemm_swiglu_plugin works on the fused MLP, which use_fused_mlp: disable takes away",
        hint="Remove one of the two",
    ),
    Fires(
        "build-flag-twice",
        (TRT, "engine.build_flags={max_multimodal_len: 8, max_prompt_embedding_table_size: 16}"),
        "engine.build_flags.max_multimodal_len",
        "it is another name of max_prompt_embedding_table_size, which is given too",
        hint="Remove one",
    ),
    Fires(
        "build-flag-tokens",
        (TRT, "engine.max_batch_size=2", "engine.max_seq_len=64", "engine.max_num_tokens=4096"),
        "engine.max_num_tokens",
        "4096 tokens, but 2 requests of 64 have 128: trtllm-build lowers it to that",
        "warning",
        hint="Write 128, or raise engine.max_batch_size",
    ),
    Fires(
        "build-flag-path",
        (TRT, "engine.build_flags={model_cls_file: m.py, model_cls_name: M}"),
        "engine.build_flags.model_cls_file",
        "'m.py' is not a whole path: trtllm-build runs in a directory of its own",
        hint="Write it from the root on, for example <tmp>/m.py",
    ),
    Fires(
        "build-flag-path",
        (TRT, "engine.build_flags={lora_plugin: auto, lora_dir: [/nowhere/adapter]}"),
        "engine.build_flags.lora_dir",
        "there is nothing at /nowhere/adapter",
        hint="Check the path",
    ),
    Fires(
        "build-flag-path",
        (TRT, "engine.build_flags={input_timing_cache: /nowhere/model.cache}"),
        "engine.build_flags.input_timing_cache",
        "there is nothing at /nowhere/model.cache",
    ),
    Fires(
        "build-flag-path",
        (TRT, "engine.build_flags={output_timing_cache: /nowhere/model.cache}"),
        "engine.build_flags.output_timing_cache",
        "there is no directory /nowhere",
        hint="Make it, or name another one",
    ),
    Fires(
        "build-flag-adapter",
        (TRT, "engine.build_flags={lora_plugin: auto, lora_dir: [/usr]}"),
        "engine.build_flags.lora_dir",
        "/usr holds no adapter_config.json",
        hint="Name a directory that PEFT saved an adapter to",
    ),
    Fires(
        "build-flag-too-new",
        (TRT, "engine.tensorrt_llm=0.17.0", "engine.build_flags={fuse_fp4_quant: enable}"),
        "engine.build_flags.fuse_fp4_quant",
        "TensorRT-LLM 0.17.0 has no --fuse_fp4_quant; it came after 0.17",
        hint="Remove it, or set engine.tensorrt_llm: 1.2.1",
    ),
    Fires(
        "build-flag-without-engine",
        (TRT, "engine.build_flags={dry_run: true}"),
        "engine.build_flags.dry_run",
        "a dry run writes no engine, so that there would be nothing to serve",
        hint="Remove it; bwdeploy plan shows the command line",
    ),
    Fires(
        "build-flag-without-engine",
        (TRT, "engine.build_flags={strip_plan: true}"),
        "engine.build_flags.strip_plan",
        "the engine has no weights in it, and bwdeploy does not refit them",
        "warning",
        hint="Remove it, or run trtllm-refit yourself",
    ),
)
SILENT = (
    Silent("build-flag-llm-args", (TRT, "engine.llm_args={kv_cache_config: {dtype: fp8}}")),
    Silent("build-flag-model-class", (TRT, "engine.build_flags={model_cls_file: m.py, model_cls_name: M}")),
    Silent("build-flag-choice", (TRT, "engine.build_flags={speculative_decoding_mode: eagle3}")),
    Silent("build-flag-backend", (TRT, "engine.build_flags={gemm_plugin: nvfp4}")),
    Silent("build-flag-llm-args", ("engine.llm_args={enable_chunked_prefill: true}",)),
    Silent(
        "build-flag-unknown",
        (TRT, "engine.build_flags={use_paged_context_fmha: enable, max_multimodal_len: 8}"),
    ),
    Silent("build-flag-removed", (TRT, "engine.build_flags={workers: 1}")),
    Silent("build-flag-layout", (TRT, "layout={gpus_per_node: 2, tp: 2}")),
    Silent("build-flag-said-elsewhere", (TRT, "engine.build_flags={max_beam_width: 4}")),
    Silent(
        "build-flag-type",
        (TRT, "engine.build_flags={tokens_per_block: 32, strip_plan: true, reduce_fusion: enable}"),
    ),
    Silent("build-flag-choice", (TRT, "engine.build_flags={gemm_plugin: nvfp4, kv_cache_type: paged}")),
    Silent(
        "build-flag-banned-on-gpu", (TRT, "layout.gpu=H100", "engine.build_flags={gemm_swiglu_plugin: fp8}")
    ),
    Silent(
        "build-flag-banned-on-gpu",
        (TRT, "layout.gpu=B200", "engine.build_flags={gemm_swiglu_plugin: disable}"),
    ),
    Silent(
        "build-flag-profiles", (TRT, "engine.build_flags={multiple_profiles: disable, opt_num_tokens: 64}")
    ),
    Silent("build-flag-context-logits", (TRT, "engine.build_flags={gather_context_logits: true}")),
    Silent("build-flag-streamingllm", (TRT, "engine.build_flags={streamingllm: disable}")),
    Silent(
        "build-flag-pp-reduce-scatter",
        (TRT, "engine.build_flags={pp_reduce_scatter: enable}"),
        config=MIXTRAL,
    ),
    Silent("build-flag-architecture", (TRT,)),
    Silent(
        "build-flag-architecture",
        (TRT, "engine.build_flags={model_cls_file: m.py, model_cls_name: M}", GPT_OSS),
    ),
    Silent(
        "build-flag-user-buffer",
        (TRT, "quantize.format=fp8", "engine.build_flags={user_buffer: enable, reduce_fusion: enable}"),
    ),
    Silent(
        "build-flag-weight-streaming",
        (TRT, "engine.build_flags={weight_streaming: true, gemm_plugin: disable}"),
    ),
    Silent(
        "build-flag-fused-mlp", (TRT, "quantize.format=fp8", "engine.build_flags={use_fused_mlp: enable}")
    ),
    Silent("build-flag-gemm-plugin", (TRT, "engine.build_flags={gemm_plugin: nvfp4}")),
    Silent("build-flag-gemm-plugin", (TRT, "quantize.format=fp8")),
    Silent(
        "build-flag-workers", (TRT, "layout={gpus_per_node: 4, tp: 4}", "engine.build_flags={workers: 4}")
    ),
    Silent("build-flag-lora", (TRT, "engine.build_flags={lora_target_modules: [attn_q], lora_plugin: auto}")),
    Silent("build-flag-fast-build", (TRT, "engine.build_flags={fast_build: true}")),
    Silent(
        "build-flag-draft-length",
        (TRT, "engine.build_flags={speculative_decoding_mode: draft_tokens_external, max_draft_len: 4}"),
    ),
    Silent(
        "build-flag-draft-length", (TRT, "engine.build_flags={speculative_decoding_mode: lookahead_decoding}")
    ),
    Silent(
        "build-flag-eagle-model",
        (TRT, "engine.build_flags={speculative_decoding_mode: eagle, max_draft_len: 3}"),
    ),
    Silent(
        "build-flag-without-effect",
        (TRT, "layout={gpus_per_node: 2, tp: 2}", "engine.build_flags={nccl_plugin: auto}"),
    ),
    Silent(
        "build-flag-without-effect",
        (TRT, "engine.build_flags={max_input_len: 4096, use_paged_context_fmha: disable}"),
    ),
    Silent("build-flag-kv-layout", (TRT, "engine.build_flags={paged_kv_cache: x, kv_cache_type: paged}")),
    Silent("build-flag-kv-layout", (TRT, "engine.build_flags={kv_cache_type: continuous}")),
    Silent("build-flag-fused-swiglu", (TRT, "engine.build_flags={gemm_swiglu_plugin: fp8}")),
    Silent("build-flag-twice", (TRT, "engine.build_flags={max_multimodal_len: 8}")),
    Silent("build-flag-tokens", (TRT, "engine.max_num_tokens=8192")),
    Silent("build-flag-tokens", (TRT, HEADS, "engine.max_batch_size=8", "engine.max_num_tokens=48")),
    Silent("build-flag-said-elsewhere", (TRT, "engine.build_flags={max_draft_len: 5}")),
    Silent("build-flag-draft-length", (TRT, HEADS)),
    Silent("build-flag-eagle-model", (TRT, HEADS)),
    Silent(
        "build-flag-tokens",
        ("engine.max_batch_size=1", "engine.max_seq_len=64", "engine.max_num_tokens=4096"),
    ),
    Silent("build-flag-path", (TRT, "engine.build_flags={output_timing_cache: model.cache}")),
    Silent("build-flag-path", (TRT, "engine.build_flags={lora_plugin: auto, lora_dir: [/usr]}")),
    Silent(
        "build-flag-adapter",
        (TRT, "engine.build_flags={lora_plugin: auto, lora_ckpt_source: nemo, lora_dir: [/usr]}"),
    ),
    Silent(
        "build-flag-too-new",
        (TRT, "engine.tensorrt_llm=0.18.0", "engine.build_flags={fuse_fp4_quant: enable}"),
    ),
    Silent("build-flag-without-engine", (TRT, "engine.build_flags={dry_run: false, strip_plan: false}")),
)

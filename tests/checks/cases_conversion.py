"""Who makes the checkpoint that trtllm-build reads."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import SMALL_LLAMA

TRT, CONVERTER = "engine.backend=tensorrt", "engine.converter=tensorrt_llm"
TEXT = "quantize.calibration.dataset=file://calib.jsonl"
PLAIN = "quantize={method: none, format: null}"
QUANTIZED = "quantize={method: prequantized, format: null}"
PHI = {**SMALL_LLAMA, "architectures": ["Phi3ForCausalLM"], "model_type": "phi3"}
FALCON = {**SMALL_LLAMA, "architectures": ["FalconForCausalLM"], "model_type": "llama"}
QWEN_FP8 = {
    **SMALL_LLAMA,
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "quantization_config": {"quant_algo": "FP8", "quant_method": "modelopt"},
}
MEDUSA = {
    **SMALL_LLAMA,
    "medusa": {"num_medusa_heads": 4, "num_medusa_layers": 1},
    "quantization_config": {"quant_algo": "FP8", "quant_method": "modelopt"},
}
MODE = "engine.build_flags={speculative_decoding_mode: %s, max_draft_len: 5}"

EAGLE = "speculative={method: eagle, draft: 'file://model', draft_len: 5}"

FIRES = (
    Fires(
        "conversion-without-effect",
        (CONVERTER,),
        "engine.converter",
        "the PyTorch backend reads no TensorRT-LLM checkpoint, so that nothing is converted",
        hint="Remove it, or set engine.backend: tensorrt",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, TEXT, "quantize.format=nvfp4_mlp_only"),
        "quantize.format",
        "quantize.py has no nvfp4_mlp_only",
        hint="Choose one of: nvfp4, fp8, fp8_per_channel_per_token; or set engine.converter: modelopt, "
        "which has it",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER),
        "quantize.calibration.dataset",
        "quantize.py reads text from a file only, not from builtin://python-topics",
        hint="Write file://X.jsonl with the texts under the key text, or set engine.converter: modelopt",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, TEXT, "quantize.calibration.text_field=body"),
        "quantize.calibration.text_field",
        "quantize.py reads the column text, not body",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, TEXT, "quantize.calibration.chat_template=true"),
        "quantize.calibration.chat_template",
        "quantize.py takes texts as they are, without a chat template",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, TEXT, "quantize.overrides=[{modules: '*.0.*', format: none}]"),
        "quantize.overrides",
        "quantize.py quantizes all modules alike",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, TEXT, "quantize.kv_cache=nvfp4"),
        "quantize.kv_cache",
        "quantize.py has no NVFP4 cache",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, PLAIN),
        "engine.converter",
        "no convert_checkpoint.py is known for FalconForCausalLM",
        hint="Set engine.converter: modelopt",
        config=FALCON,
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, PLAIN, "layout={gpus_per_node: 2, pp: 2}"),
        "layout.pp",
        "models/core/phi/convert_checkpoint.py cuts no pipeline stages",
        config=PHI,
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, QUANTIZED),
        "quantize.method",
        "models/core/qwen/convert_checkpoint.py does not read a source quantized with FP8",
        config=QWEN_FP8,
    ),
    Fires(
        "conversion-draft-heads",
        (TRT, MODE % "eagle"),
        "engine.build_flags.speculative_decoding_mode",
        "EAGLE heads must be in the checkpoint, and none that is made here has them",
        hint="Write speculative: {method: eagle, draft: file://DIR} instead, and set engine.converter: "
        "tensorrt_llm",
    ),
    Fires(
        "conversion-draft-heads",
        (TRT, MODE % "medusa", QUANTIZED),
        "engine.build_flags.speculative_decoding_mode",
        "Medusa heads must be in the checkpoint, and none that is made here has them",
        hint="Write speculative: {method: medusa, draft: file://DIR} instead, and set engine.converter: "
        "tensorrt_llm",
        config=MEDUSA,
    ),
    Fires(
        "conversion-draft-heads",
        (TRT, MODE % "explicit_draft_tokens"),
        "engine.build_flags.speculative_decoding_mode",
        "ReDrafter heads must be in the checkpoint, and none that is made here has them",
        hint="Draft_tokens_external and lookahead_decoding need none; or set engine.backend: pytorch",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, TEXT, EAGLE),
        "quantize.method",
        "EAGLE heads are converted with an unquantized model, or with one quantized together with them",
        hint="Set quantize: {method: none}, or name a source that ModelOpt quantized with its heads and "
        "method: prequantized",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, "quantize={method: none, format: null, kv_cache: fp8}", EAGLE),
        "quantize.kv_cache",
        "EAGLE heads are converted with an unquantized model, or with one quantized together with them",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, PLAIN, EAGLE, "layout={gpus_per_node: 2, pp: 2}"),
        "layout.pp",
        "eagle/convert_checkpoint.py cuts no pipeline stages",
    ),
    Fires(
        "conversion-impossible",
        (TRT, CONVERTER, PLAIN, EAGLE.replace("eagle", "medusa"), "layout={gpus_per_node: 2, tp: 2}"),
        "layout.tp",
        "medusa/convert_checkpoint.py does not cut Qwen2 models into ranks",
        config={**SMALL_LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    ),
)
SILENT = (
    Silent("conversion-without-effect", (TRT, CONVERTER)),
    Silent("conversion-impossible", (TRT, CONVERTER, TEXT)),
    Silent("conversion-impossible", (TRT, CONVERTER, TEXT, "quantize.kv_cache=fp8")),
    Silent("conversion-impossible", (TRT,)),
    Silent("conversion-impossible", (TRT, CONVERTER, PLAIN, "layout={gpus_per_node: 2, pp: 2}")),
    Silent("conversion-draft-heads", (TRT, MODE % "draft_tokens_external")),
    Silent("conversion-draft-heads", (TRT, MODE % "lookahead_decoding")),
    Silent("conversion-draft-heads", (TRT, CONVERTER, QUANTIZED, MODE % "medusa"), config=MEDUSA),
    Silent("conversion-draft-heads", (TRT, CONVERTER, PLAIN, EAGLE)),
    Silent("conversion-impossible", (TRT, CONVERTER, PLAIN, EAGLE, "layout={gpus_per_node: 2, tp: 2}")),
)

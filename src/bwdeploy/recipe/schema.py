"""What a user may say in a recipe: the only declaration of its keys, defaults, bounds and help.

Editor schema, documentation, defaults and validation all come from these models. Nothing here reads
files, knows about line numbers (see `load`) or checks one section against another (see `checks`).
"""

# Annotations are evaluated here, once: pydantic would compile each of them again, a third of the import.

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
SOURCE_PATTERN = r"^(hf|file|package)://[^ \n][^\n]*$"
VARIABLE_PATTERN = r"^(TRTLLM|TRT_LLM|TLLM)_[A-Z0-9_]+$"
VERSION_PATTERN = r"^[0-9]+\.[0-9]+(\.[0-9]+)?([a-z]+[0-9]+)?$"
PATTERN_MEANINGS = {
    NAME_PATTERN: "letters, digits, '.', '_' and '-' (the first a letter or digit)",
    SOURCE_PATTERN: "hf://org/name@revision, file://path or package://dist-name/path",
    VARIABLE_PATTERN: "a variable of TensorRT-LLM: TRTLLM_…, TRT_LLM_… or TLLM_…, in capitals",
    VERSION_PATTERN: "a version such as 1.2.1",
}
"""The patterns below in the user's words; messages use them."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, min_length=1, max_length=100)]
ModulePattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
SourceUri = Annotated[str, StringConstraints(pattern=SOURCE_PATTERN, min_length=8, max_length=4096)]

EngineVariable = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN, max_length=100)]

Format = Literal[
    "nvfp4",
    "nvfp4_weight_only",
    "nvfp4_awq_lite",
    "nvfp4_mlp_only",
    "nvfp4_mlp_weight_only",
    "nvfp4_omlp_only",
    "nvfp4_experts_only",
    "nvfp4_four_over_six",
    "fp8",
    "fp8_per_channel_per_token",
    "fp8_block_weight_only",
    "w4a8_nvfp4_fp8",
    "w4a8_mxfp4_fp8",
]


class Section(BaseModel):
    """A part of the recipe: strict, immutable, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class Model(Section):
    """The model to deploy."""

    source: SourceUri = Field(
        description="hf://org/name@<40-hex revision>, file://DIR (a Hugging Face directory), "
        "file://X.gguf, or package://dist-name/path/inside (a file of an installed Python package)."
    )
    trust_remote_code: bool = Field(
        default=False, description="Run Python code that comes with the model. Only for models you have read."
    )


class Calibration(Section):
    """The text that activation ranges are measured on."""

    dataset: str = Field(
        default="builtin://python-topics",
        max_length=4096,
        description="builtin://python-topics, file://X.jsonl|.txt|.parquet, or hf://org/name@revision.",
    )
    text_field: str | None = Field(
        default=None,
        max_length=200,
        description="Column with the text (default: text, then content, prompt).",
    )
    samples: int = Field(default=128, ge=1, le=100_000, description="Number of sequences.")
    seq_len: int = Field(default=512, ge=8, le=1_048_576, description="Tokens in each sequence.")
    batch_size: int = Field(default=4, ge=1, le=4096, description="Sequences in one forward pass.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of the choice of samples.")
    chat_template: bool = Field(
        default=False, description="Wrap each text as a user turn with the model's chat template."
    )


class Training(Section):
    """How a fake-quantized model is trained (qat, qad): the data, the length, when to stop."""

    dataset: str = Field(
        default="builtin://python-topics", max_length=4096, description="As for calibration."
    )
    text_field: str | None = Field(
        default=None,
        max_length=200,
        description="Column with the text (default: text, then content, prompt).",
    )
    samples: int = Field(default=256, ge=2, le=10_000_000, description="Number of sequences.")
    seq_len: int = Field(default=256, ge=8, le=1_048_576, description="Tokens in each sequence.")
    chat_template: bool = Field(
        default=False, description="Wrap each text as a user turn with the model's chat template."
    )
    validation_samples: int = Field(
        default=16, ge=1, le=100_000, description="Sequences that decide when to stop; never trained on."
    )
    steps: int = Field(default=300, ge=1, le=10_000_000, description="Optimizer steps at most.")
    batch_size: int = Field(default=8, ge=1, le=4096, description="Sequences in one step, over all GPUs.")
    learning_rate: float = Field(default=1e-5, gt=0, le=1, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(default=10, ge=0, le=1_000_000, description="Steps up to the peak.")
    temperature: float = Field(
        default=1.0, gt=0, le=100, description="Of the softened distributions; qad only."
    )
    evaluate_every: int = Field(
        default=25, ge=1, le=1_000_000, description="Steps between two validations, each with a checkpoint."
    )
    patience: int = Field(
        default=4, ge=1, le=1000, description="Validations without an improvement before it stops."
    )
    gpus: int = Field(default=1, ge=1, le=1024, description="GPUs of one machine to train on, with FSDP2.")
    gradient_checkpointing: bool = Field(
        default=False,
        description="Compute activations anew in the backward pass: much less memory, a third more time.",
    )
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of data order and choice.")


class FormatSearch(Section):
    """ModelOpt's search for the format of each layer within a budget of bits (method auto)."""

    formats: tuple[Format, ...] = Field(
        default=("nvfp4", "fp8"),
        min_length=1,
        max_length=4,
        description="Formats that a layer may get; unquantized is always possible.",
    )
    effective_bits: float = Field(
        default=6.0, gt=1, le=16, description="Bits per weight, on average over the searched layers."
    )
    scoring: Literal["gradient", "kl_div"] = Field(
        default="gradient",
        description="What tells a layer's sensitivity: gradients of the loss, or the divergence of the "
        "outputs (no backward pass).",
    )
    score_batches: int = Field(
        default=8, ge=1, le=100_000, description="Calibration batches used for scoring."
    )


class FormatOverride(Section):
    """Another format (or none) for the modules that a pattern names; later entries win."""

    modules: ModulePattern = Field(
        description="Shell-style pattern on module names, for example *.layers.0.*"
    )
    format: Literal["none", Format] = Field(
        description="The format of those modules; none keeps them in bf16."
    )


class Quantize(Section):
    """How the weights, activations and the KV cache are quantized."""

    method: Literal["none", "ptq", "qat", "qad", "auto", "prequantized"] = Field(
        default="ptq",
        description="none: keep bf16. ptq: calibrate. qat, qad: train with quantizers in place (qad: against "
        "the source model as teacher). auto: search a format for each layer. prequantized: the source is a "
        "quantized checkpoint already.",
    )
    format: Format | None = Field(default=None, description="Quantization format (ModelOpt preset).")
    recipe: str | None = Field(
        default=None,
        max_length=4096,
        description="A ModelOpt recipe by name (general/ptq/…) or file://X.yaml, in place of format.",
    )
    kv_cache: Literal["none", "fp8", "nvfp4"] = Field(default="none", description="KV cache format.")
    overrides: tuple[FormatOverride, ...] = Field(
        default=(), max_length=200, description="Other formats by module pattern (mixed precision)."
    )
    calibration: Calibration = Field(default={}, validate_default=True, description="Calibration data.")
    training: Training | None = Field(default=None, description="Training; methods qat and qad only.")
    search: FormatSearch | None = Field(default=None, description="The search; method auto only.")

    @property
    def quantizes(self) -> bool:
        """Whether the build makes a quantized checkpoint of its own."""
        return self.method in {"ptq", "qat", "qad", "auto"}

    @property
    def trains(self) -> bool:
        """Whether the quantized model is trained."""
        return self.method in {"qat", "qad"}


class DraftTraining(Section):
    """How an EAGLE3 draft is trained: the text, the shape of the draft, the length."""

    data: str = Field(
        default="builtin://chat-prompts",
        max_length=4096,
        description="builtin://chat-prompts, or file://X.jsonl: prompts, or conversations (messages). A "
        "tenth, 64 at most, is held out for validation.",
    )
    answers: Literal["target", "given"] = Field(
        default="target",
        description="target: the model's own answers to the prompts. given: those of the conversations.",
    )
    prompts: int = Field(default=4096, ge=1, le=10_000_000, description="Prompts or conversations used.")
    answers_per_prompt: int = Field(
        default=2, ge=1, le=100, description="The first is greedy; answers: target only."
    )
    answer_tokens: int = Field(default=256, ge=8, le=65_536, description="Tokens of an answer at most.")
    temperature: float = Field(
        default=0.8, ge=0, le=10, description="Of sampled answers; the first is greedy."
    )
    seq_len: int = Field(default=512, ge=16, le=1_048_576, description="Tokens of prompt and answer at most.")
    layers: int = Field(default=1, ge=1, le=8, description="Decoder layers of the draft.")
    ffn_width: int | None = Field(
        default=None,
        ge=16,
        le=1_048_576,
        description="Width of its feed-forward part (default: the model's).",
    )
    draft_vocab: int | None = Field(
        default=None,
        ge=32,
        le=10_000_000,
        description="Most frequent tokens that the draft can propose (default: the whole vocabulary).",
    )
    hidden_layers: tuple[int, ...] | None = Field(
        default=None,
        min_length=3,
        max_length=3,
        description="Low, middle and high layer whose output the draft reads (default: 1, n/2-1, n-4).",
    )
    ttt_steps: int = Field(default=3, ge=1, le=16, description="Drafted tokens unrolled in training.")
    steps: int = Field(default=3000, ge=1, le=10_000_000, description="Optimizer steps.")
    batch_size: int = Field(default=32, ge=1, le=4096, description="Sequences in one step, over all GPUs.")
    learning_rate: float = Field(default=6e-4, gt=0, le=1, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(default=100, ge=0, le=1_000_000, description="Steps up to the peak.")
    evaluate_every: int = Field(
        default=250, ge=1, le=1_000_000, description="Steps between two validations, each with a checkpoint."
    )
    gpus: int = Field(default=1, ge=1, le=1024, description="GPUs of one machine to train on.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of data order, choice and answers.")


class DraftMeasurement(Section):
    """How a draft's acceptance is measured: the prompts, the lengths, the batch sizes."""

    prompts: str = Field(
        default="builtin://workloads",
        max_length=4096,
        description="builtin://workloads (code, math, chat, summary), or file://X.jsonl.",
    )
    prompts_per_workload: int = Field(
        default=16, ge=1, le=10_000, description="Prompts of each workload at most."
    )
    new_tokens: int = Field(default=128, ge=8, le=65_536, description="Tokens generated for each prompt.")
    max_draft_len: int = Field(default=8, ge=1, le=16, description="Draft lengths 1 to this are measured.")
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        default=(1, 2, 4, 8, 16, 32),
        min_length=1,
        max_length=20,
        description="Batch sizes whose steps are timed.",
    )
    temperature: float = Field(default=1.0, gt=0, le=10, description="Of the sampled acceptance.")
    compile: bool = Field(default=False, description="Run the draft through torch.compile.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of choice and sampling.")


class Speculative(Section):
    """Speculative decoding: a draft proposes tokens, the model accepts or refuses them."""

    method: Literal["eagle3", "mtp", "eagle", "medusa"] = Field(
        description="eagle3: a separate draft. mtp: the model's own multi-token prediction layers. eagle, "
        "medusa: draft heads inside an engine; backend tensorrt and converter tensorrt_llm only."
    )
    draft: SourceUri | None = Field(
        default=None,
        description="The draft, as for model.source; none for mtp, nor where the source has its heads.",
    )
    train: DraftTraining | None = Field(
        default=None, description="Train the draft in place of importing one; method eagle3 only."
    )
    draft_len: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = Field(
        default=3,
        description="Tokens drafted in one step. auto: the length that was measured to be the fastest.",
    )
    measure: DraftMeasurement | None = Field(
        default=None, description="Measure the draft in the build; draft_len: auto does so by itself."
    )

    @property
    def measured(self) -> bool:
        """Whether the build measures the draft."""
        return self.measure is not None or self.draft_len == "auto"

    @property
    def longest_draft(self) -> int:
        """The draft length to plan memory for: until it was measured, the longest that `auto` may choose."""
        if self.draft_len != "auto":
            return self.draft_len
        return (self.measure or DraftMeasurement()).max_draft_len


class Engine(Section):
    """How TensorRT-LLM runs the checkpoint."""

    backend: Literal["pytorch", "tensorrt"] = Field(
        default="pytorch",
        description="pytorch: the LLM API. tensorrt: engines of trtllm-build (TensorRT-LLM 1.2.1 and older).",
    )
    tensorrt_llm: Annotated[str, StringConstraints(pattern=VERSION_PATTERN, max_length=40)] = Field(
        default="1.2.1", description="The TensorRT-LLM version that will serve."
    )
    max_batch_size: int = Field(default=64, ge=1, le=65_536, description="Requests in one step.")
    max_num_tokens: int = Field(default=8192, ge=1, le=1_048_576, description="Tokens in one step.")
    max_seq_len: int = Field(default=8192, ge=2, le=16_777_216, description="Prompt plus answer, in tokens.")
    converter: Literal["modelopt", "tensorrt_llm"] = Field(
        default="modelopt",
        description="Who makes the checkpoint that trtllm-build reads: ModelOpt here, or the quantize.py and "
        "convert_checkpoint.py that come with TensorRT-LLM; backend tensorrt only.",
    )
    llm_args: dict[str, Any] = Field(
        default={}, description="More LLM API arguments, checked against that version's fields."
    )
    environment: dict[EngineVariable, Annotated[str, StringConstraints(max_length=1000)]] = Field(
        default={},
        description="Variables of TensorRT-LLM's own for the process that runs the model, for example "
        "TRTLLM_ENABLE_PDL.",
    )
    build_flags: dict[str, Any] = Field(
        default={}, description="Options of trtllm-build without their dashes; backend tensorrt only."
    )


class Layout(Section):
    """The GPUs and how the model is spread over them."""

    gpu: Name | None = Field(default=None, description="GPU model, for example B200.")
    nodes: int = Field(default=1, ge=1, le=1024, description="Machines.")
    gpus_per_node: int = Field(default=1, ge=1, le=72, description="GPUs in each machine.")
    tp: int = Field(default=1, ge=1, le=1024, description="Tensor parallel ranks.")
    pp: int = Field(default=1, ge=1, le=1024, description="Pipeline parallel stages.")
    ep: int = Field(default=1, ge=1, le=1024, description="Expert parallel ranks (inside tp).")
    attention_dp: bool = Field(default=False, description="Data parallel attention.")
    auto: Literal["latency", "throughput"] | None = Field(
        default=None,
        description="Choose tp, pp, ep and attention_dp for this goal; `layout: auto` means throughput.",
    )


class Evaluation(Section):
    """The held-out text that perplexity is measured on; never the calibration samples."""

    dataset: str = Field(
        default="builtin://python-topics", max_length=4096, description="As for calibration."
    )
    text_field: str | None = Field(
        default=None,
        max_length=200,
        description="Column with the text (default: text, then content, prompt).",
    )
    samples: int = Field(default=16, ge=1, le=100_000, description="Number of sequences.")
    seq_len: int = Field(default=256, ge=8, le=1_048_576, description="Tokens in each sequence.")
    seed: int = Field(default=0, ge=0, le=2**32 - 1, description="Seed of the choice of samples.")


class GateTask(Section):
    """One lm-eval task, answered by the source and by the checkpoint."""

    task: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        description="A task of lm-eval by name, or file://TASK.yaml with local data (needs no network)."
    )
    metric: str | None = Field(
        default=None, max_length=200, description="The task's metric that counts (default: its first)."
    )
    limit: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Questions at most (default: all)."
    )
    few_shot: int | None = Field(default=None, ge=0, le=100, description="Examples before each question.")
    margin: float = Field(
        default=1.5, gt=0, le=100, description="Points (of 100) that the checkpoint may be worse."
    )


class Gate(Section):
    """Limits that the exported checkpoint must keep; a limit that is left out is only reported.

    What is compared on samples of text is held against its limit with a confidence interval: it passes,
    fails, or is inconclusive.
    """

    max_perplexity_increase: float | None = Field(
        default=None, ge=0, description="Relative: 0.03 allows 1.03 times the source's perplexity."
    )
    max_kl_divergence: float | None = Field(
        default=None,
        gt=0,
        description="Mean divergence from the source's next-token distribution, nats per token.",
    )
    min_top1_agreement: float | None = Field(
        default=None, gt=0, le=1, description="Share of tokens where both models would choose the same."
    )
    tasks: tuple[GateTask, ...] = Field(default=(), max_length=50, description="lm-eval tasks to compare on.")
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1, description="One-sided confidence of every verdict."
    )
    inconclusive: Literal["pass", "fail"] = Field(
        default="pass", description="Whether a verdict that would need more samples stops the build."
    )
    min_acceptance_length: float | None = Field(
        default=None, ge=1, description="Tokens gained in one step with the draft, at the chosen length."
    )
    max_weight_error: float | None = Field(
        default=None, ge=0, description="Largest relative error ‖W-Ŵ‖/‖W‖ of any quantized tensor."
    )
    max_bits_per_weight: float | None = Field(
        default=None, gt=0, description="Bits per parameter of the whole checkpoint, scales included."
    )
    evaluation: Evaluation = Field(default={}, validate_default=True, description="Held-out text.")
    reference: SourceUri | None = Field(
        default=None,
        description="The model that a prequantized source was made from, as for model.source: without it "
        "there is nothing to compare the checkpoint with.",
    )


class Serve(Section):
    """The Triton model."""

    runtime: Literal["tensorrt_llm", "reference"] = Field(
        default="tensorrt_llm",
        description="tensorrt_llm: the LLM API. reference: Hugging Face transformers on the same checkpoint.",
    )
    server: Literal["triton", "trtllm-serve"] = Field(
        default="triton",
        description="triton: a model repository. trtllm-serve: its configuration and launch script, for "
        "versions that no Triton image carries.",
    )
    launch_mode: Literal["leader", "orchestrator"] = Field(
        default="leader",
        description="Engines of several ranks: leader starts one server process a rank with mpirun, "
        "orchestrator one server that starts a worker a rank.",
    )
    engine_parameters: dict[str, Any] = Field(
        default={},
        description="Template keys of the five Triton models that serve an engine, for example "
        "kv_cache_free_gpu_mem_fraction; backend tensorrt only.",
    )
    model_name: Name = Field(default="tensorrt_llm", description="Name of the Triton model.")
    streaming: bool = Field(default=True, description="Decoupled model: requests may ask for streaming.")
    chat_template: bool = Field(
        default=False, description="Wrap each prompt as a user turn with the model's chat template."
    )
    cumulative_text: bool = Field(
        default=False, description="Each streamed response repeats the whole text so far, as upstream does."
    )
    flush_tokens: int = Field(default=16, ge=1, le=4096, description="Send after this many tokens …")
    flush_interval_ms: int = Field(default=50, ge=0, le=10_000, description="… or after this time.")
    max_running: int = Field(default=64, ge=1, le=65_536, description="Requests given to the engine at once.")
    max_queued: int = Field(default=256, ge=0, le=1_048_576, description="Requests waiting; beyond it: 503.")
    max_output_tokens: int = Field(
        default=4096, ge=1, le=1_048_576, description="Upper bound of sampling_param_max_tokens."
    )
    cancellation_check_period_ms: int = Field(
        default=100,
        ge=1,
        le=60_000,
        description="How often a running request is asked whether it was cancelled.",
    )
    startup_timeout_s: int = Field(default=900, ge=1, le=86_400, description="Time for the engine to load.")
    stall_timeout_s: int = Field(
        default=120,
        ge=1,
        le=86_400,
        description="An engine that makes no progress for this long is restarted.",
    )
    prompts: tuple[Text, ...] = Field(
        default=("What is the capital of France?",),
        min_length=1,
        max_length=1000,
        description="Prompts of the smoke test.",
    )


class Workload(Section):
    """The traffic that a figure belongs to."""

    input_tokens: int = Field(ge=1, le=16_777_216, description="Of one prompt.")
    output_tokens: int = Field(ge=1, le=16_777_216, description="Of one answer.")
    concurrency: int | None = Field(default=None, ge=1, le=1_048_576, description="Requests at once.")


class Expectation(Section):
    """A figure that this deployment is expected to reach, with where it comes from."""

    metric: Literal["tokens_per_s_per_user", "tokens_per_s_per_gpu", "tokens_per_s"] = Field(
        description="Output tokens a second: of one user, of one GPU, or of the whole deployment."
    )
    value: float = Field(gt=0, description="The figure.")
    workload: Workload | None = Field(default=None, description="The traffic it was taken with.")
    status: Literal["published", "measured"] = Field(
        default="published", description="published: by somebody else. measured: by you, on this layout."
    )
    software: str | None = Field(
        default=None, max_length=200, description="Version it was taken with, for example TensorRT-LLM 0.20."
    )
    date: str | None = Field(default=None, max_length=40, description="When, for example 2025-05.")
    source: str = Field(min_length=1, max_length=1000, description="URL or command that it comes from.")
    note: str | None = Field(default=None, max_length=1000, description="What else one has to know.")


class Recipe(Section):
    """One deployment, whole."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of this recipe format.")
    name: Name = Field(description="Name of the build and of its output directory.")
    model: Model = Field(description="The model to deploy.")
    quantize: Quantize = Field(default={}, validate_default=True, description="How the model is quantized.")
    speculative: Speculative | None = Field(default=None, description="Speculative decoding.")
    engine: Engine = Field(
        default={}, validate_default=True, description="How TensorRT-LLM runs the checkpoint."
    )
    layout: Layout = Field(
        default={}, validate_default=True, description="The GPUs and how the model is spread over them."
    )
    kernels: tuple[Name, ...] = Field(
        default=(),
        max_length=20,
        description="Fused kernels that the model runs with; `bwdeploy kernels list` names them.",
    )
    gate: Gate = Field(
        default={}, validate_default=True, description="Limits that the exported checkpoint must keep."
    )
    serve: Serve = Field(default={}, validate_default=True, description="The Triton model.")
    expect: dict[Name, Expectation] = Field(
        default={}, description="Published or measured figures by name; `estimate` shows them beside its own."
    )

    @property
    def builds_engine(self) -> bool:
        """Whether trtllm-build makes what is served: the runtime reference serves the checkpoint itself."""
        return self.engine.backend == "tensorrt" and self.serve.runtime == "tensorrt_llm"

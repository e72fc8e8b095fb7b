"""The modules of TensorRT-LLM that are swapped, against a stand-in with its paths, classes and rules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy_kernels.errors import MisfitError, ReplacementError
from bwdeploy_kernels.pack import Pack, load_pack
from bwdeploy_kernels.tensorrt_llm import hook
from bwdeploy_kernels.tensorrt_llm.entry import ARCHITECTURE, refuse_arguments
from bwdeploy_kernels.tensorrt_llm.hook import Installation, _Hook, _loading_with
from bwdeploy_kernels.tensorrt_llm.reports import WorkerReport, read_reports, summed, write_report
from bwdeploy_kernels.tensorrt_llm.swap import swap_modules
from bwdeploy_kernels.tensorrt_llm.upstream import find_upstream, refuse_fused_upstream
from tests.kernel_pack.packs import NORM_FP8, NORM_NVFP4, OPS, SILU_FP8, SILU_NVFP4, write_pack
from tests.kernel_pack.tensorrt_llm_packs import STAND_IN, write_checkpoint, write_whole_pack

ROWS = 5


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in as the installed tensorrt_llm."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    yield find_upstream()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorrt_llm"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def pack_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("packs") / "pack", OPS)


def pack(directory: Path, *ops: str) -> Pack:
    return load_pack(directory, device="cpu", ops=ops)


def model(name: str = "llama", quant: str | None = "fp8", **mapping: Any) -> Any:
    """A loaded model of the stand-in."""
    tiny = importlib.import_module("tensorrt_llm._torch.models.tiny")
    spread = importlib.import_module("tensorrt_llm.mapping").Mapping(**mapping)
    module = importlib.import_module(f"tensorrt_llm._torch.models.modeling_{name}")
    torch.manual_seed(0)
    made = getattr(module, f"{name.capitalize()}ForCausalLM")(tiny.ModelConfig(quant, spread))
    for part in made.modules():
        if hasattr(part, "weight") and part.weight.dim() == 1:
            part.weight.data.uniform_(0.5, 1.5)
    if hasattr(made, "post_load_weights"):
        made.post_load_weights()
    return made.eval()


@pytest.mark.parametrize("name", ["llama", "qwen3"])
@pytest.mark.parametrize(("quant", "op"), [("fp8", NORM_FP8), ("nvfp4", NORM_NVFP4)])
def test_norms_round_for_the_linear_behind_them(
    upstream: Any, pack_directory: Path, name: str, quant: str, op: str
) -> None:
    plain, swapped_model = model(name, quant), model(name, quant)
    kernels = pack(pack_directory, op)
    before = kernels.calls()[op]
    swapped = swap_modules(swapped_model, kernels, upstream)
    assert swapped.modules == {op: 5}  # three before an MLP, two before an attention
    wanted, got = plain(ROWS), swapped_model(ROWS)
    assert torch.equal(got, wanted)
    assert kernels.calls()[op] - before == 5
    layers = swapped_model.layers
    assert [layer.mlp.gate_up_proj.rounded_before for layer in layers] == [1, 1, 1]
    assert [layer.self_attn.qkv_proj.rounded_before for layer in layers] == [0, 1, 1]
    assert [layer.self_attn.o_proj.rounded_before for layer in layers] == [0, 0, 0]


def test_swiglu_rounds_to_nvfp4_for_down_proj(upstream: Any, pack_directory: Path) -> None:
    plain, swapped_model = model(quant="nvfp4"), model(quant="nvfp4")
    swapped = swap_modules(swapped_model, pack(pack_directory, SILU_NVFP4), upstream)
    assert swapped.modules == {SILU_NVFP4: 3}
    assert torch.equal(swapped_model(ROWS), plain(ROWS))
    assert [layer.mlp.down_proj.rounded_before for layer in swapped_model.layers] == [1, 1, 1]


def test_the_residual_changes_in_place_as_upstream(upstream: Any, pack_directory: Path) -> None:
    made = model()
    swap_modules(made, pack(pack_directory, NORM_FP8), upstream)
    rows, residual = torch.randn(2, ROWS, 64).to(torch.bfloat16)
    wanted = rows + residual
    codes, returned = made.layers[0].post_attention_layernorm(rows, residual)
    assert returned is residual
    assert torch.equal(residual, wanted)
    assert codes.dtype is torch.float8_e4m3fn


def test_a_norm_without_a_residual_stays_upstreams(upstream: Any, pack_directory: Path) -> None:
    made = model()
    wanted = made.layers[1].input_layernorm(torch.ones(ROWS, 64, dtype=torch.bfloat16))
    swap_modules(made, pack(pack_directory, NORM_FP8), upstream)
    assert torch.equal(made.layers[1].input_layernorm(torch.ones(ROWS, 64, dtype=torch.bfloat16)), wanted)


def test_norms_in_an_all_reduce_are_left_and_upstreams_fusion_is_named(
    upstream: Any, pack_directory: Path
) -> None:
    with pytest.raises(ReplacementError, match=r"AllReduceFusionOp\.RESIDUAL_RMS_NORM_QUANT_FP8"):
        swap_modules(model(tp_size=2), pack(pack_directory, NORM_FP8), upstream)


def test_attention_dp_leaves_what_its_layers_still_fuse(upstream: Any, pack_directory: Path) -> None:
    made = model(tp_size=2, enable_attention_dp=True)
    swapped = swap_modules(made, pack(pack_directory, NORM_FP8), upstream)
    assert swapped.modules == {NORM_FP8: 3}
    assert "RESIDUAL_RMS_NORM_QUANT" in swapped.reasons["layers.0.next_layer_layernorm"]


def test_a_layer_of_another_precision_keeps_its_modules(upstream: Any, pack_directory: Path) -> None:
    with pytest.raises(ReplacementError, match="neither FP8 per tensor nor NVFP4"):
        swap_modules(model(quant=None), pack(pack_directory, NORM_FP8), upstream)


def test_a_scale_found_at_run_time_keeps_the_modules(upstream: Any, pack_directory: Path) -> None:
    made = model()
    made.layers[0].mlp.gate_up_proj.input_scale = None
    made.layers[1].mlp.gate_up_proj.force_dynamic_quantization = True
    swapped = swap_modules(made, pack(pack_directory, NORM_FP8), upstream)
    assert swapped.modules == {NORM_FP8: 3}
    assert "when it runs" in swapped.reasons["layers.1.post_attention_layernorm"]


def test_an_unknown_model_is_refused_with_those_that_are_known(upstream: Any, pack_directory: Path) -> None:
    with pytest.raises(ReplacementError, match="got Linear, wanted one with layers of LlamaDecoderLayer"):
        swap_modules(torch.nn.Linear(2, 2), pack(pack_directory, NORM_FP8), upstream)


@pytest.mark.parametrize("op", [SILU_FP8, "allreduce_add_rmsnorm_quant"])
def test_what_upstream_fuses_itself_is_refused_by_name(op: str) -> None:
    with pytest.raises(ReplacementError, match=rf"{op}: its .*(silu_and_mul|AllReduceFusionOp)"):
        refuse_fused_upstream([NORM_FP8, op], "1.2.1")


def test_another_release_is_refused(upstream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["tensorrt_llm"], "__version__", "1.3.0rc1")
    with pytest.raises(MisfitError, match=r"got 1\.3\.0rc1, wanted one of 1\.2\.1"):
        find_upstream()


def test_a_patched_build_is_refused_with_what_differs(upstream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream.rms_norm, "forward", lambda self, hidden_states: hidden_states)
    monkeypatch.delattr(upstream.model_loader, "load")
    with pytest.raises(MisfitError) as refusal:
        find_upstream()
    assert "RMSNorm.forward: got (self, hidden_states), wanted (self, hidden_states, residual)" in str(
        refusal.value
    )
    assert "ModelLoader.load: got nothing, wanted (self, checkpoint_dir, checkpoint_loader)" in str(
        refusal.value
    )


def test_without_tensorrt_llm_the_reason_is_told() -> None:
    with pytest.raises(MisfitError, match="tensorrt_llm: got none"):
        find_upstream()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"pipeline_parallel_size": 2}, "pipeline_parallel_size: got 2, wanted 1"),
        ({"orchestrator_type": "ray"}, "orchestrator_type: got 'ray'"),
        ({"torch_compile_config": {"enable_userbuffers": False}}, "torch_compile_config"),
        ({"enable_lora": True, "lora_config": {"max_lora_rank": 8}}, "enable_lora: got True.*lora_config"),
    ],
)
def test_arguments_that_the_swapped_modules_do_not_know_are_refused(arguments: Any, named: str) -> None:
    with pytest.raises(ReplacementError, match=named):
        refuse_arguments({"tensor_parallel_size": 2, **arguments})


def test_usual_arguments_are_taken() -> None:
    refuse_arguments({"backend": "pytorch", "pipeline_parallel_size": 1, "torch_compile_config": None})


def hooked(upstream: Any, installation: Installation) -> Any:
    return _loading_with(_Hook(installation, upstream), upstream.model_loader.load)


def test_a_worker_that_gives_up_tells_why(upstream: Any, pack_directory: Path, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", quant=None)
    (tmp_path / "reports").mkdir()
    load = hooked(
        upstream, Installation(pack=str(pack_directory), ops=(NORM_FP8,), reports=str(tmp_path / "reports"))
    )
    mapping = importlib.import_module("tensorrt_llm.mapping").Mapping()
    with pytest.raises(ReplacementError):
        load(upstream.model_loader(mapping), str(checkpoint), None)
    [report] = read_reports(tmp_path / "reports")
    assert "neither FP8 per tensor nor NVFP4" in report.error


@pytest.mark.parametrize(
    ("mapping", "lora", "named"),
    [({"pp_size": 2}, None, "pipeline_parallel_size"), ({}, object(), "lora_config")],
)
def test_a_loader_with_other_settings_is_refused_before_it_loads(
    upstream: Any, pack_directory: Path, mapping: Any, lora: Any, named: str
) -> None:
    spread = importlib.import_module("tensorrt_llm.mapping").Mapping(**mapping)
    load = hooked(upstream, Installation(pack=str(pack_directory), ops=(NORM_FP8,)))
    with pytest.raises(ReplacementError, match=named):
        load(upstream.model_loader(spread, lora), "no such checkpoint", None)


def test_a_draft_model_after_the_first_stays_as_it_is(
    upstream: Any, pack_directory: Path, tmp_path: Path
) -> None:
    load = hooked(upstream, Installation(pack=str(pack_directory), ops=(NORM_FP8,)))
    loader = upstream.model_loader(importlib.import_module("tensorrt_llm.mapping").Mapping())
    first, _ = load(loader, str(write_checkpoint(tmp_path / "target")), None)
    draft, _ = load(loader, str(write_checkpoint(tmp_path / "draft", quant=None)), None)
    assert "forward" in vars(first.layers[0].post_attention_layernorm)
    assert "forward" not in vars(draft.layers[0].post_attention_layernorm)


def test_reports_of_processes_are_summed(tmp_path: Path) -> None:
    write_report(tmp_path, WorkerReport(modules={NORM_FP8: 5}, calls={NORM_FP8: 10}))
    write_report(tmp_path, WorkerReport(modules={NORM_FP8: 5}, calls={NORM_FP8: 15}))
    (tmp_path / "other-1.json").write_text(
        '{"modules": {}, "calls": {"add_rmsnorm_quant_fp8": 2}, "error": ""}'
    )
    assert len(read_reports(tmp_path)) == 2
    assert summed(report.calls for report in read_reports(tmp_path)) == {NORM_FP8: 17}


def test_the_custom_module_of_trtllm_serve_installs_the_whole_pack(
    upstream: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "_INSTALLED", [])
    monkeypatch.setattr(sys, "path", [*sys.path])
    packed = write_whole_pack(tmp_path / "pack", (NORM_FP8,))
    tools = importlib.import_module("tensorrt_llm.tools.importlib_utils")
    tools.import_custom_module_from_dir(
        packed / "bwdeploy_kernels" / "tensorrt_llm" / "custom_modules" / "bwdeploy_kernel_pack"
    )
    del sys.modules["bwdeploy_kernel_pack"]
    entry = upstream.model_classes[ARCHITECTURE]
    assert entry.installation == Installation(pack=str(packed), ops=(NORM_FP8,))
    assert sys.path[0] == str(packed)  # for the workers
    loader = upstream.model_loader(importlib.import_module("tensorrt_llm.mapping").Mapping())
    loaded, _ = loader.load(str(write_checkpoint(tmp_path / "checkpoint")), None)
    assert "forward" in vars(loaded.layers[0].post_attention_layernorm)


def test_a_second_pack_in_the_same_process_is_refused(
    upstream: Any, pack_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "_INSTALLED", [])
    hook.install(Installation(pack=str(pack_directory), ops=(NORM_FP8,)))
    hook.install(Installation(pack=str(pack_directory), ops=(NORM_FP8,)))
    with pytest.raises(MisfitError, match="this process has already"):
        hook.install(Installation(pack="/another", ops=(NORM_FP8,)))

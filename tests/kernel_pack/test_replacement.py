from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy_kernels.architectures import NOT_REPLACEABLE, REPLACEABLE
from bwdeploy_kernels.errors import ReplacementError
from bwdeploy_kernels.hugging_face import replace_modules
from bwdeploy_kernels.pack import Pack, load_pack
from bwdeploy_runtime.checkpoint import load_model
from bwdeploy_runtime.formats import Activation
from tests.kernel_pack.models import MASK, PROMPT, forward, greedy, round_input, tiny_model, twin
from tests.kernel_pack.packs import NORM_FP8, NORM_NVFP4, SILU_FP8, SILU_NVFP4, write_pack
from tests.worker.jobs_in_process import quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama

FIRST = {"model.layers.0.input_layernorm": "nothing is added before the first norm"}
KINDS: tuple[Activation, ...] = ("fp8", "fp8_token", "nvfp4")
OPS_OF = {
    "fp8": (NORM_FP8, SILU_FP8),
    "fp8_token": (NORM_FP8, SILU_FP8),
    "nvfp4": (NORM_NVFP4, SILU_NVFP4),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("packs") / "pack")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"), num_hidden_layers=3)


@pytest.fixture
def fp8(directory: Path) -> Pack:
    return load_pack(directory, device="cpu", ops=OPS_OF["fp8"])


def pack_for(directory: Path, kind: str) -> Pack:
    return load_pack(directory, device="cpu", ops=OPS_OF[kind])


def assert_same(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert torch.equal(one, other), f"output {index}"


@pytest.mark.parametrize(
    ("word", "kind"), [("fp8", "fp8"), ("fp8_per_channel_per_token", "fp8_token"), ("nvfp4", "nvfp4")]
)
def test_checkpoint_of_modelopt_gives_the_same_bits_and_tokens(
    word: str, kind: str, source: Path, directory: Path, tmp_path: Path
) -> None:
    quantize_tiny(source, tmp_path / "out", format=word)
    plain, changed = load_model(tmp_path / "out")[0], load_model(tmp_path / "out")[0]
    pack = pack_for(directory, kind)
    replaced = replace_modules(changed, pack)
    assert replaced.modules == dict(zip(OPS_OF[kind], (5, 3), strict=True))
    assert replaced.reasons == FIRST
    before = pack.calls()
    assert_same(forward(changed), forward(plain))
    assert {op: count - before[op] for op, count in pack.calls().items()} == replaced.modules
    assert greedy(changed) == greedy(plain)


@pytest.mark.parametrize("kind", sorted(REPLACEABLE))
def test_every_architecture_of_the_table_gives_the_same_bits(kind: str, fp8: Pack) -> None:
    model = tiny_model(kind, "fp8")
    changed = twin(model)
    assert replace_modules(changed, fp8).reasons == FIRST
    assert_same(forward(changed), forward(model))
    assert greedy(changed, tokens=4) == greedy(model, tokens=4)


@pytest.mark.parametrize("rounding", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_the_same_bits(
    rounding: Activation, dtype: torch.dtype, directory: Path
) -> None:
    model = tiny_model("llama", rounding, dtype=dtype)
    changed = twin(model)
    replace_modules(changed, pack_for(directory, rounding))
    assert_same(forward(changed), forward(model))


@pytest.mark.parametrize("rounding", KINDS)
def test_sizes_of_the_quickstart_model_give_the_same_bits(rounding: Activation, directory: Path) -> None:
    sizes: Any = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    }
    model = tiny_model("llama", rounding, num_hidden_layers=2, head_dim=64, **sizes)
    changed = twin(model)
    replace_modules(changed, pack_for(directory, rounding))
    assert_same(forward(changed), forward(model))


def test_what_an_op_rounds_is_not_rounded_again(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8", num_hidden_layers=2)
    replace_modules(model, fp8)
    rounding = [name for name, module in model.named_modules() if module._forward_pre_hooks]
    first = [f"model.layers.0.self_attn.{name}_proj" for name in "qkvo"]
    assert rounding == [*first, "model.layers.1.self_attn.o_proj"]


def test_static_cache_and_batches_decode_the_same_tokens(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    changed = twin(model)
    replace_modules(changed, fp8)
    assert greedy(changed, cache="static", tokens=5) == greedy(model, cache="static", tokens=5)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", KINDS)
def test_model_compiles_to_one_graph_that_norms_only_where_no_op_does(
    rounding: Activation, directory: Path
) -> None:
    model = tiny_model("llama", rounding)
    changed = twin(model)
    replace_modules(changed, pack_for(directory, rounding))
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(changed, backend=keep, fullgraph=True)
    with torch.inference_mode():
        logits = compiled(input_ids=PROMPT, attention_mask=MASK, use_cache=False).logits
    assert torch.equal(logits, forward(model)[0])
    (graph,) = graphs
    targets = [str(node.target) for node in graph.graph.nodes]
    assert [sum(op in target for target in targets) for op in OPS_OF[rounding]] == [5, 3]
    assert sum("rsqrt" in target for target in targets) == 2  # of the first and of the last norm


def test_model_exports_with_the_ops_in_it(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    changed = twin(model)
    replace_modules(changed, fp8)
    exported = torch.export.export(changed, (PROMPT,), {"attention_mask": MASK, "use_cache": False})
    targets = [str(node.target) for node in exported.graph.nodes]
    assert [sum(op in target for target in targets) for op in fp8.ops] == [5, 3]
    with torch.no_grad():
        logits = exported.module()(PROMPT, attention_mask=MASK, use_cache=False).logits
    assert torch.equal(logits, forward(model)[0])


def test_hidden_states_that_change_between_layers_are_normed_again(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    changed = twin(model)
    replace_modules(changed, fp8)
    for one in (model, changed):
        one.model.layers[0].register_forward_hook(lambda _layer, _inputs, output: output.flip(-1))
    steered = forward(changed)
    assert_same(steered, forward(model))
    assert not torch.equal(steered[0], forward(tiny_model("llama", "fp8"))[0])


def reasons_of(model: Any, pack: Pack, path: str) -> str:
    """Why `path` was left; the rest is replaced, and the answers are the same."""
    plain = twin(model)
    replaced = replace_modules(model, pack)
    assert_same(forward(model), forward(plain))
    return replaced.reasons[path]


def test_readers_with_different_scales_keep_their_rounding(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    round_input(model.model.layers[1].self_attn.k_proj, "fp8", scale=0.03)
    reason = reasons_of(model, fp8, "model.layers.1.input_layernorm")
    assert reason == "self_attn.q_proj and self_attn.k_proj have different input scales"


def test_readers_that_round_differently_keep_their_rounding(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    round_input(model.model.layers[2].mlp.up_proj, "fp8_token")
    reason = reasons_of(model, fp8, "model.layers.2.post_attention_layernorm")
    assert reason == "mlp.gate_proj, mlp.up_proj round their input in different ways: fp8, fp8_token"


def test_smoothing_vector_keeps_the_module(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    round_input(model.model.layers[0].mlp.down_proj, "fp8", smoothing=torch.rand(160) + 0.5)
    reason = reasons_of(model, fp8, "model.layers.0.mlp")
    assert reason == "the input of mlp.down_proj is multiplied by a smoothing vector before it is rounded"


def test_format_without_an_op_keeps_the_module(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    round_input(model.model.layers[0].mlp.down_proj, "mxfp8")
    reason = reasons_of(model, fp8, "model.layers.0.mlp")
    assert reason == "the input of mlp.down_proj is rounded to mxfp8, which no op does"


def test_scale_of_the_whole_tensor_keeps_the_module(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    model.model.layers[0].mlp.down_proj.input_rounding.input_scale = None
    reason = reasons_of(model, fp8, "model.layers.0.mlp")
    assert reason == "mlp.down_proj has no input_scale: its scale follows the whole tensor, not each row"


def test_norm_of_another_type_is_kept(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    model.model.layers[1].input_layernorm.double()
    replaced = replace_modules(model, fp8)
    assert replaced.reasons["model.layers.1.input_layernorm"] == (
        "its weights have different types: torch.float32, torch.float64"
    )


def test_norm_that_something_listens_to_is_kept(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    heard: list[int] = []
    model.model.layers[1].post_attention_layernorm.register_forward_hook(lambda *_: heard.append(1))
    replaced = replace_modules(model, fp8)
    wanted = "something listens to the forward of its LlamaRMSNorm"
    assert replaced.reasons["model.layers.1.post_attention_layernorm"] == wanted
    forward(model)
    assert heard == [1]


def test_other_activation_keeps_the_mlp(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8", hidden_act="gelu")
    with pytest.raises(ReplacementError) as caught:
        replace_modules(model, fp8)
    assert str(caught.value) == (
        f"kernels: got {SILU_FP8}, wanted ops that this model has a place for. Take them out of the recipe. "
        "model.layers.0.mlp: its activation is GELUActivation, not SiLU; "
        "model.layers.1.mlp: its activation is GELUActivation, not SiLU; "
        "model.layers.2.mlp: its activation is GELUActivation, not SiLU; "
        "model.layers.0.input_layernorm: nothing is added before the first norm."
    )


def test_width_that_the_op_cannot_do_keeps_the_mlp(directory: Path) -> None:
    model = tiny_model("llama", "nvfp4", intermediate_size=168)
    replaced = replace_modules(model, load_pack(directory, device="cpu", ops=[NORM_NVFP4]))
    assert replaced.reasons["model.layers.0.mlp"] == "its width is 168, not a multiple of 16"


def test_only_the_named_ops_replace_anything(directory: Path) -> None:
    model = tiny_model("llama", "fp8")
    plain = twin(model)
    pack = load_pack(directory, device="cpu", ops=[SILU_FP8])
    replaced = replace_modules(model, pack)
    assert replaced.modules == {SILU_FP8: 3}
    wanted = f"{NORM_FP8} could do it, but was not asked for"
    assert replaced.reasons["model.layers.1.post_attention_layernorm"] == wanted
    assert_same(forward(model), forward(plain))


def test_op_of_another_format_is_refused_with_the_reasons(directory: Path) -> None:
    model = tiny_model("llama", "fp8")
    with pytest.raises(ReplacementError, match=rf"got {NORM_NVFP4}, {SILU_NVFP4}, .*but was not asked"):
        replace_modules(model, pack_for(directory, "nvfp4"))


def test_weight_only_model_is_refused_with_the_reasons(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    for module in model.modules():
        if hasattr(module, "input_rounding"):
            module.input_rounding.remove()
            del module.input_rounding
    with pytest.raises(ReplacementError, match=r"the input of mlp\.down_proj is not rounded"):
        replace_modules(model, fp8)


def test_second_replacement_is_refused(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    replace_modules(model, fp8)
    with pytest.raises(ReplacementError, match="its forward was changed by something else"):
        replace_modules(model, fp8)


def test_training_model_is_refused(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8").train()
    with pytest.raises(ReplacementError, match="the model is in training mode"):
        replace_modules(model, fp8)


def test_unknown_architecture_is_refused_with_the_reason(fp8: Pack) -> None:
    wanted = r"got gemma \(its norm multiplies by 1 \+ weight in float32\), wanted one of llama, "
    with pytest.raises(ReplacementError, match=wanted):
        replace_modules(tiny_model("gemma", "fp8"), fp8)
    with pytest.raises(ReplacementError, match="got gpt2, wanted one of llama, "):
        replace_modules(tiny_model("gpt2", "fp8"), fp8)


def test_a_class_of_the_same_name_from_elsewhere_is_not_taken_for_the_one_that_was_read(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    for layer in model.model.layers:
        for module in (layer, layer.mlp):  # as code that lies in a checkpoint names what it copied
            kind = type(module)
            module.__class__ = type(kind.__name__, (kind,), {"__module__": "transformers_modules.mine"})
    with pytest.raises(ReplacementError, match="one of transformers_modules"):
        replace_modules(model, fp8)


def test_a_model_without_decoder_layers_is_refused(fp8: Pack) -> None:
    model = tiny_model("llama", "fp8")
    with pytest.raises(ReplacementError, match=r"got a LlamaModel without model\.layers, wanted one of"):
        replace_modules(model.model, fp8)


def test_unread_transformers_release_is_refused(fp8: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("transformers"), "__version__", "6.0.1")
    with pytest.raises(ReplacementError, match=r"transformers: got 6\.0\.1, wanted 4\.57 to below 6\.0"):
        replace_modules(tiny_model("llama", "fp8"), fp8)


def test_table_names_model_types_that_transformers_has() -> None:
    known = import_module("transformers").CONFIG_MAPPING
    assert [kind for kind in (*REPLACEABLE, *NOT_REPLACEABLE) if kind not in known] == []

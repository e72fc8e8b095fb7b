"""`layout: auto` answered, or not."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

_NOT_A_DECODER = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": 768}

FIRES = (
    Fires(
        "layout-auto-chosen",
        ("layout=auto", "layout.gpu=B200", "layout.gpus_per_node=2"),
        "layout.auto",
        "chosen for throughput: tp 1, pp 1, ep 1, attention_dp false on 1 b200",
        "info",
        "`bwdeploy plan --suggest throughput` shows the others and why",
    ),
    Fires(
        "layout-auto-chosen",
        ("layout=auto",),
        "layout.auto",
        "chosen for throughput: tp 1, pp 1, ep 1, attention_dp false on 1 b200; layout.gpu is not given: "
        "one node of 8 b200 is assumed",
        "info",
    ),
    Fires(
        "layout-auto-impossible",
        ("layout=auto",),
        "layout.auto",
        "no layout can be chosen: the model's shape is not known on this machine, or it is no language model",
        hint="`bwdeploy plan --suggest throughput` says why; or write tp, pp and ep yourself",
        config=_NOT_A_DECODER,
    ),
    Fires(
        "layout-auto-impossible",
        ("layout=auto", "model.source=hf://org/name@0123456789abcdef0123456789abcdef01234567"),
        "layout.auto",
        "no layout can be chosen: the model's shape is not known on this machine, or it is no language model",
        hint="Fetch its configuration: `hf download org/name config.json --revision "
        "0123456789abcdef0123456789abcdef01234567`; or write tp, pp and ep yourself",
    ),
    Fires(
        "layout-auto-impossible",
        ("layout={auto: latency, gpu: RTX5090, gpus_per_node: 1}", "engine.max_seq_len=16777216"),
        "layout.auto",
        "no layout can be chosen: the model does not fit these GPUs in any layout",
    ),
)
SILENT = (
    Silent("layout-auto-chosen", ("layout={gpu: B200, gpus_per_node: 2, tp: 2}",)),
    Silent("layout-auto-impossible", ("layout={auto: latency, gpu: B200, gpus_per_node: 2}",)),
    Silent("layout-auto-impossible", (), _NOT_A_DECODER),
)

"""Figures that a recipe expects."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent

FIRES = (
    Fires(
        "expect-undated",
        ("expect={record: {metric: tokens_per_s_per_user, value: 253, source: 'https://x'}}",),
        "expect.record",
        "253 tokens_per_s_per_user without software and date cannot be compared with another release",
        "warning",
        hint="Add software: TensorRT-LLM 1.2.1, date: 2026-04 (those of the figure)",
    ),
    Fires(
        "expect-undated",
        (
            (
                "expect={record: {metric: tokens_per_s_per_gpu, value: 6920.5, source: "
                "'https://x', software: TensorRT-LLM 1.2.1}}"
            ),
        ),
        "expect.record",
        "6920.5 tokens_per_s_per_gpu without date cannot be compared with another release",
        "warning",
        hint="Add date: 2026-04 (those of the figure)",
    ),
    Fires(
        "expect-without-workload",
        ("expect={record: {metric: tokens_per_s_per_user, value: 253, source: 'https://x'}}",),
        "expect.record",
        "253 tokens_per_s_per_user without the traffic that it belongs to",
        "warning",
        hint="Add workload: {input_tokens: 1000, output_tokens: 2000, concurrency: 1} (those of the figure)",
    ),
    Fires(
        "expect-concurrency-beyond-batch",
        (
            (
                "expect={record: {metric: tokens_per_s, value: 253, source: 'https://x', workload: "
                "{input_tokens: 1000, output_tokens: 2000, concurrency: 65}}}"
            ),
        ),
        "expect.record.workload.concurrency",
        "65 requests at once, but this engine runs 64; the rest wait",
        "warning",
        hint="Set engine.max_batch_size: 65",
    ),
    Fires(
        "expect-concurrency-beyond-batch",
        (
            "layout={gpus_per_node: 8, tp: 8, attention_dp: true}",
            (
                "expect={record: {metric: tokens_per_s, value: 253, source: 'https://x', workload: "
                "{input_tokens: 1000, output_tokens: 2000, concurrency: 513}}}"
            ),
        ),
        "expect.record.workload.concurrency",
        "513 requests at once, but this engine runs 512; the rest wait",
        "warning",
        hint="Set engine.max_batch_size: 65",
    ),
    Fires(
        "expect-beyond-sequence",
        (
            (
                "expect={record: {metric: tokens_per_s, value: 253, source: 'https://x', workload: "
                "{input_tokens: 1000, output_tokens: 8000}}}"
            ),
        ),
        "expect.record.workload",
        "requests of 9000 tokens, but engine.max_seq_len is 8192",
        "warning",
        hint="Set engine.max_seq_len: 9000 or more",
    ),
)
SILENT = (
    Silent(
        "expect-undated",
        (
            (
                "expect={record: {metric: tokens_per_s_per_user, value: 253, source: 'https://x', "
                "software: TensorRT-LLM 0.20, date: 2025-05}}"
            ),
        ),
    ),
    Silent(
        "expect-without-workload",
        (
            (
                "expect={record: {metric: tokens_per_s, value: 253, source: 'https://x', workload: "
                "{input_tokens: 1000, output_tokens: 2000}}}"
            ),
        ),
    ),
    Silent(
        "expect-concurrency-beyond-batch",
        (
            "layout={gpus_per_node: 8, tp: 8, attention_dp: true}",
            (
                "expect={record: {metric: tokens_per_s, value: 253, source: 'https://x', workload: "
                "{input_tokens: 1000, output_tokens: 2000, concurrency: 512}}}"
            ),
        ),
    ),
    Silent(
        "expect-beyond-sequence",
        (
            (
                "expect={record: {metric: tokens_per_s, value: 253, source: 'https://x', workload: "
                "{input_tokens: 192, output_tokens: 8000}}}"
            ),
        ),
    ),
)

"""Names, prompts and texts of strangers reach the page as text and as nothing else."""

from __future__ import annotations

import pytest

from bwdeploy.pipeline.jobs import AuditFinding, TensorError
from bwdeploy.report.html.blocks import Picture
from bwdeploy.report.html.canvas import svg_of
from bwdeploy.report.html.page import html_report
from bwdeploy.report.html.sections import sections_of
from bwdeploy.report.html.visible import label, visible
from bwdeploy.stages.gate_verdicts import verdicts_of
from tests.report.html.reading_page import Page
from tests.report.html.sample import recipe, sample_acceptance, sample_accuracy, sample_audit, sample_report

HOSTILE = (
    "_</title></svg><script>alert(1)</script>\"'><img src=x onerror=alert(2)>$\\frac{{}}$ {{ 7*7 }}"
    " \u202ea\x00b&amp;"
)


@pytest.fixture(scope="module")
def page() -> Page:
    """Every place that strangers can fill, in as few pictures as show names."""
    accuracy, acceptance = sample_accuracy(HOSTILE), sample_acceptance()
    first = acceptance.workloads[0].model_copy(update={"workload": HOSTILE})
    audit = sample_audit(
        tensor_errors=(TensorError(name=f"model.layers.0.{HOSTILE}.weight", relative_error=0.1),),
        findings=(AuditFinding(check="x", severity="error", tensor=HOSTILE, message=HOSTILE, hint=HOSTILE),),
        dtype_census={HOSTILE: {"tensors": 1, "bytes": 1}},
        quant_algo=HOSTILE,
    )
    data = sample_report(
        name=HOSTILE,
        recipe_text=HOSTILE,
        host={HOSTILE: HOSTILE},
        audit=audit,
        accuracy=accuracy,
        judged=verdicts_of(accuracy, recipe().gate),
        acceptance=acceptance.model_copy(update={"workloads": (first,), "device": HOSTILE}),
        quantized=None,
        draft_training=None,
        choice=None,
        estimate=None,
        needs=None,
        kernels=None,
        problems=(HOSTILE,),
    )
    assert {"verdicts", "acceptance", "weight-errors"} == {
        block.name for section in sections_of(data) for block in section.blocks if isinstance(block, Picture)
    }
    return Page(html_report(data))


def test_no_element_of_a_stranger_is_in_the_page(page: Page) -> None:
    assert not page.all("script")
    assert not page.all("img")
    assert len(page.all("svg")) == 3
    assert len(page.all("title")) == 4  # the page's and each picture's
    assert not [name for one in page.elements for name in one.attributes if name.startswith("on")]


def test_their_text_is_shown_as_it_is(page: Page) -> None:
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "&amp;" in page.text
    assert "$\\frac{{}}$" in page.text


def test_signs_that_hide_or_reorder_text_are_written_as_escapes(page: Page) -> None:
    assert "\u202e" not in page.source
    assert "\x00" not in page.source
    assert "\\u202ea\\u0000b" in page.text


def test_picture_with_a_hostile_title_is_one_element() -> None:
    drawing = svg_of(Picture("x", HOSTILE, HOSTILE, lambda figure: figure.subplots(), height=1))
    assert "<script" not in drawing
    assert "\x00" not in drawing


def test_visible_keeps_what_can_be_read() -> None:
    assert visible("Größe 模型 → 1\n\tx") == "Größe 模型 → 1\n\tx"
    assert visible("a\u200bb\x1b[31m") == "a\\u200bb\\u001b[31m"


def test_label_is_one_short_line_that_legends_show() -> None:
    assert label("_a\n b") == " _a b"
    assert len(label("x" * 500)) == 48

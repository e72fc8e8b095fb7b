from __future__ import annotations

import re

import pytest

from bwdeploy.pipeline.jobs import TensorError
from bwdeploy.report.html import page as page_module
from bwdeploy.report.html.blocks import Picture
from bwdeploy.report.html.page import NO_PICTURES, html_report
from bwdeploy.report.html.sections import sections_of
from tests.report.html.reading_page import Page
from tests.report.html.sample import recipe, sample_audit, sample_report

EVERY_SECTION = {
    "gate", "plan", "memory", "quantization", "training", "draft", "speed", "kernels", "provenance",
}  # fmt: skip
EVERY_PICTURE = {
    "verdicts", "memory-1", "weight-errors", "sensitivity", "training", "draft-training", "acceptance",
    "speed-by-length", "speed-by-batch", "speed-estimate", "kernel-add_rmsnorm_quant_nvfp4-sm_100a",
}  # fmt: skip


def test_whole_build_has_every_section_and_picture(whole_page: Page) -> None:
    assert {one.attributes["id"] for one in whole_page.all("section")} == EVERY_SECTION
    drawn = {one.attributes["aria-labelledby"].split()[0] for one in whole_page.all("svg")}
    assert drawn == {f"picture-{name}-title" for name in EVERY_PICTURE}


def test_page_needs_no_network_and_runs_nothing(whole_page: Page) -> None:
    assert not {one.tag for one in whole_page.elements} & {
        "script",
        "link",
        "iframe",
        "img",
        "object",
        "form",
    }
    assert not [name for one in whole_page.elements for name in one.attributes if name.startswith("on")]
    assert all(target.startswith("#") for target in whole_page.attributes("href"))
    assert not whole_page.attributes("src")
    styles = whole_page.source + "".join(whole_page.attributes("style"))
    assert not re.search(r"url\((?!#)|@import", styles)
    policy = next(one for one in whole_page.all("meta") if "http-equiv" in one.attributes)
    assert policy.attributes["content"].startswith("default-src 'none';")


def test_page_stays_below_a_megabyte(whole_page: Page) -> None:
    assert len(whole_page.source.encode()) < 700_000


def test_ids_are_unique_and_links_lead_somewhere(whole_page: Page) -> None:
    ids = whole_page.attributes("id")
    assert len(ids) == len(set(ids))
    known = set(ids)
    assert all(target.removeprefix("#") in known for target in whole_page.attributes("href"))
    for words in whole_page.attributes("aria-labelledby"):
        assert known.issuperset(words.split())
    assert all(name in known for name in re.findall(r"url\(#([^)]+)\)", whole_page.source))


def test_pictures_and_tables_have_words_for_those_who_do_not_see_them(whole_page: Page) -> None:
    assert len(whole_page.all("h1")) == 1
    assert all(one.attributes["role"] == "img" for one in whole_page.all("svg"))
    assert len(whole_page.all("caption")) == len(whole_page.all("table")) > 10
    assert all(one.attributes.get("scope") in {"row", "col"} for one in whole_page.all("th"))
    assert next(iter(whole_page.all("html"))).attributes["lang"] == "en"


def test_pictures_take_their_colors_from_the_page(whole_page: Page) -> None:
    drawings = re.findall(r"<svg.*?</svg>", whole_page.source, flags=re.DOTALL)
    assert "var(--series-1)" in "".join(drawings)
    fixed = {color for drawing in drawings for color in re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", drawing)}
    assert not fixed


@pytest.mark.parametrize(
    "words",
    [
        "inconclusive", "9.02 → 8.37", "0.1170", "model.layers.1.self_attn.o_proj.weight",
        "4 from batch 1 on", "add_rmsnorm_quant_nvfp4", "nats per token", "schema: 1", "2.85",
    ],
)  # fmt: skip
def test_page_says_what_was_measured(whole_page: Page, words: str) -> None:
    assert words in whole_page.text


def test_page_without_matplotlib_has_its_tables_and_says_what_it_lacks() -> None:
    page = Page(html_report(sample_report(), pictures=False))
    assert not page.all("svg")
    assert not page.all("figure")
    assert NO_PICTURES in page.text
    assert {one.attributes["id"] for one in page.all("section")} == EVERY_SECTION


def test_sections_without_data_are_left_out() -> None:
    bare = sample_report(
        needs=None, quantized=None, audit=None, accuracy=None, judged=(), draft_audit=None,
        draft_training=None, acceptance=None, choice=None, kernels=None, estimate=None,
    )  # fmt: skip
    assert [section.id for section in sections_of(bare)] == ["plan", "provenance"]
    assert "None" not in Page(html_report(bare, pictures=False)).text


def test_what_could_not_be_read_is_told() -> None:
    page = Page(html_report(sample_report(problems=("gate/audit.json is damaged",)), pictures=False))
    assert "gate/audit.json is damaged" in page.text


def test_path_of_the_machine_that_built_is_not_shown() -> None:
    local = recipe(model={"source": "file:///home/somebody/models/llama"})
    page = Page(html_report(sample_report(recipe=local), pictures=False))
    assert "somebody" not in page.source
    assert "file://…/llama" in page.text


def test_experts_of_a_large_model_share_a_row() -> None:
    errors = tuple(
        TensorError(name=f"model.layers.{layer}.mlp.experts.{expert}.up_proj.weight", relative_error=0.1)
        for layer in range(60)
        for expert in range(128)
    )
    page = html_report(sample_report(audit=sample_audit(tensor_errors=errors)), pictures=False)
    assert "mlp.experts.*.up_proj" in page
    assert "7,680" in page
    assert len(page) < 300_000


def test_picture_that_cannot_be_drawn_costs_itself_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(picture: Picture) -> str:
        raise ImportError("numpy.core.multiarray failed to import")

    monkeypatch.setattr(page_module, "svg_of", broken)
    page = Page(html_report(sample_report()))
    assert {one.attributes["id"] for one in page.all("section")} == EVERY_SECTION
    assert "Could not be drawn: Verdicts; Memory of one GPU;" in page.text
    assert caplog.text.count("Traceback") == 1

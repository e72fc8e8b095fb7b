"""The sections of the report in their order; one that has nothing to say is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.report.html.sections.draft import draft_section
from bwdeploy.report.html.sections.gate import gate_section
from bwdeploy.report.html.sections.kernels import kernels_section
from bwdeploy.report.html.sections.memory import memory_section
from bwdeploy.report.html.sections.plan import plan_section
from bwdeploy.report.html.sections.provenance import provenance_section
from bwdeploy.report.html.sections.quantization import quantization_section
from bwdeploy.report.html.sections.speed import speed_section
from bwdeploy.report.html.sections.training import training_section

if TYPE_CHECKING:
    from bwdeploy.report.html.blocks import Section
    from bwdeploy.report.html.data import ReportData

_SECTIONS = (
    gate_section,
    plan_section,
    memory_section,
    quantization_section,
    training_section,
    draft_section,
    speed_section,
    kernels_section,
    provenance_section,
)


def sections_of(data: ReportData) -> tuple[Section, ...]:
    """Every section that the build has data for."""
    made = (section(data) for section in _SECTIONS)
    return tuple(section for section in made if section is not None and section.blocks)

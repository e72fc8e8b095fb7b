"""One whole page for all tests that only look at it: its pictures take seconds to draw."""

from __future__ import annotations

import pytest

from bwdeploy.report.html.page import html_report
from tests.report.html.reading_page import Page
from tests.report.html.sample import sample_report


@pytest.fixture(scope="session")
def whole_page() -> Page:
    return Page(html_report(sample_report()))

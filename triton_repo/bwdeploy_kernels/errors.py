"""The errors of a kernel pack.

PackError            every message names the thing, what was got, what was wanted and what to do
├── ManifestError    manifest.json is not usable, or a file is not the one it describes
├── MisfitError      the pack was not built for this host
└── ReplacementError a named op has no place in the model
"""

from __future__ import annotations


class PackError(Exception):
    """The pack cannot be used here."""


class ManifestError(PackError):
    """The pack is broken: its manifest or a file beside it."""


class MisfitError(PackError):
    """The pack is sound, but not for this GPU, driver, machine or torch."""


class ReplacementError(PackError):
    """The model has no place for a kernel that was asked for."""

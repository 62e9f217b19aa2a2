"""The proof that an artefact says what the trained model says: levels L0 to L6, and a report."""

from vlv_export.parity.proof import EXPORT_LEVELS, check
from vlv_export.parity.report import LEVELS, Report

__all__ = ["EXPORT_LEVELS", "LEVELS", "Report", "check"]

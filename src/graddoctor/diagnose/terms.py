"""Moved: graddoctor.terms."""

from graddoctor.terms import Blame, Cause, Condition, Finding, Severity, Trial

__all__ = ["Blame", "Cause", "Condition", "Finding", "Severity", "Trial"]

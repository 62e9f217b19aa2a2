"""Runs artefacts: the captioner of a folder that `vlv-export` wrote. Needs no torch."""

from vlv_export.runtime.captioner import Runtime, open_artefact

__all__ = ["Runtime", "open_artefact"]

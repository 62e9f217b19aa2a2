"""Input to view, in the threads that work ahead of the model."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vlv_core.errors import DataError
from vlv_core.jobs.inputs import Input
from vlv_core.preprocess import to_view
from vlv_core.specs import View


class Decoded(NamedTuple):
    """A picture ready for the model, or the reason why there is none."""

    input: Input
    view: NDArray[np.uint8] | None = None
    """(S, S, 3)"""
    sha256: str | None = None
    """of the picture's file, unless it could not be read"""
    error: str | None = None


def decode(entry: Input, view: View) -> Decoded:
    """Read, hash and decode one input. Never raises: one bad picture must not stop a job."""
    digest = None
    try:
        data = entry.read()
        digest = sha256(data).hexdigest()
        return Decoded(entry, to_view(data, view), digest)
    except DataError as error:
        reason = error.message
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Decoded(entry, None, digest, reason)

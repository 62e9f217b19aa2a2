"""What each dtype may differ by from the eager float32 model: one table, a reason for each number.

`LIMITS` is applied to figures; `docs` of the numbers are the field's comments and this legend.
Calibration is against eager's own noise; see `NOISE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vlv_core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None: reported, not judged."""

    relative_l2: float | None
    """L1: |found - eager| / |eager| of the worst row of any output"""
    cosine: float | None
    """L1: of the worst row of any output"""
    near_tie: float
    """nats: two next tokens whose log-probabilities differ by less may change places. Positions
    where eager's best two are so close are counted apart"""
    agreement: float | None
    """L2: share of the other positions where the best token is the same"""
    overlap: float | None
    """L2: mean share of eager's ten best tokens that are among the ten best"""
    kl: float | None
    """L2: mean KL(eager || found), nats a position"""
    unexplained: float | None
    """L3: share of captions that part from eager's elsewhere than at a near-tie"""
    points: float
    """L4: difference of the score, points of 100"""


LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(relative_l2=1e-5, cosine=None, near_tie=1e-3, agreement=0.999, overlap=0.999,
        kl=1e-6, unexplained=0.0, points=0.5),
    "fp16": Limits(relative_l2=None, cosine=0.9995, near_tie=0.02, agreement=0.999, overlap=0.98,
        kl=1e-4, unexplained=0.0, points=0.5),
    "bf16": Limits(relative_l2=None, cosine=0.999, near_tie=0.1, agreement=0.999, overlap=0.95,
        kl=1e-3, unexplained=0.0, points=0.5),
    "int8": Limits(relative_l2=None, cosine=0.99, near_tie=0.2, agreement=0.99, overlap=0.9,
        kl=0.01, unexplained=0.05, points=1.0),
    "int4": Limits(relative_l2=None, cosine=None, near_tie=0.5, agreement=None, overlap=None,
        kl=None, unexplained=None, points=2.0),
}  # fmt: skip


def limits_of(dtype: str) -> Limits:
    """Raises UsageError for a dtype that the table lacks."""
    if dtype not in LIMITS:
        raise UsageError(f"no parity limits for {dtype!r}; there are {', '.join(LIMITS)}")
    return LIMITS[dtype]

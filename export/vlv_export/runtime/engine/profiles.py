"""Which optimisation profile of an engine runs a request, and how many rows at once."""

from collections.abc import Mapping, Sequence

from vlv_core.errors import ModelError

Profile = Mapping[str, tuple[int, int, int]]
"""axis -> shortest, best and longest"""
ROWS = "batch"


def pick(part: str, profiles: Sequence[Profile], sizes: Mapping[str, int]) -> tuple[int, int]:
    """The profile's index, and its most rows: of those that fit, the tightest.

    sizes: the request's axes. A batch longer than all profiles is run in pieces. Raises ModelError
    if another axis fits none.
    """
    fits = [index for index, profile in enumerate(profiles) if not _odd(profile, sizes)]
    if not fits:
        axis = _odd(profiles[0], sizes)
        ranges = ", ".join(f"{each[axis][0]} to {each[axis][2]}" for each in profiles)
        raise ModelError(
            f"the engine of part {part!r} takes {axis} {ranges}, and {sizes[axis]} were given",
            hint="open a variant of ONNX graphs, or export with profiles that hold it",
        )
    best = min(fits, key=lambda index: _tightness(profiles[index], sizes))
    return best, profiles[best].get(ROWS, (1, 1, sizes.get(ROWS, 1)))[2]


def _odd(profile: Profile, sizes: Mapping[str, int]) -> str:
    """The first axis that the profile cannot hold; empty if it holds all."""
    for axis, size in sizes.items():
        low, _, high = profile.get(axis, (0, 0, size))
        if size < low or (size > high and axis != ROWS):
            return axis
    return ""


def _tightness(profile: Profile, sizes: Mapping[str, int]) -> tuple[object, ...]:
    """Smaller is better: shorter axes, then a batch that holds all rows and few more."""
    others = [profile[axis][2] for axis in sorted(sizes) if axis in profile and axis != ROWS]
    most, rows = profile.get(ROWS, (1, 1, 1))[2], sizes.get(ROWS, 1)
    return (others, most < rows, most if most >= rows else -most)

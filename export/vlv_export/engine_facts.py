"""What is known of an engine, in the words of tables."""

from vlv_export.manifest import VariantEntry
from vlv_export.workspace import gigabytes


def targets(entry: VariantEntry) -> str:
    """`sm86, sm89 on Linux x86_64`."""
    sm = ", ".join(f"sm{each}" for each in entry.sm) or "its builder's GPU"
    wider = {"same-sm": " and their kind", "ampere+": " and all from sm80 on"}
    return sm + wider.get(str(entry.compat.get("hardware", "")), "") + f" on {_system(entry)}"


def _system(entry: VariantEntry) -> str:
    return f"{entry.compat.get('os', '')} {entry.compat.get('machine', '')}".strip()


def compiler(entry: VariantEntry) -> str:
    """Its package and version, which is also what runs it."""
    return f"{entry.compat.get('runtime', '')} {entry.compat.get('version', '')}".strip()


def compiled_from(entry: VariantEntry) -> str:
    """The variant whose graphs it was compiled from."""
    return str(entry.compat.get("graphs", ""))


def profiles(entry: VariantEntry) -> str:
    """`encoder batch 1..32; head batch 1..32, length 1..77, k 1..256 or length 1..1 ...`."""
    return "; ".join(
        f"{part} {' or '.join(map(_profile, each))}" for part, each in entry.profiles.items()
    )


def _profile(axes: dict[str, tuple[int, int, int]]) -> str:
    spans = {name: f"{low}..{high}" if low != high else f"{low}" for name, (low, _, high) in
             axes.items()}  # fmt: skip
    return ", ".join(f"{name} {span}" for name, span in spans.items())


def memory(entry: VariantEntry) -> str:
    """Of the GPU, without the cache; empty if it is not built."""
    known = entry.compat.get("device_bytes")
    return gigabytes(known) if isinstance(known, int) else ""


def ran(entry: VariantEntry) -> str:
    """What was run of it and what was not, in a sentence."""
    if entry.state == "pending":
        checked = entry.compat.get("checked")
        return f"{entry.waits}." + (f" Until then: {checked}." if checked else "")
    if entry.state == "proved":
        return "was run, and says what the trained model says."
    return (
        "was built and inspected, and nobody has run it: its layers' types and its cache were "
        "checked, its graphs were proved. It is proved when it is first used."
    )

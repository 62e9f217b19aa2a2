"""From a trained captioner to a folder that captions without torch, and the proof that it does.

from vlv_export import Runtime
print(Runtime.open("OUT").caption("picture.png")[0].text)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlv_export.runtime import Runtime

__all__ = ["Runtime"]


def __getattr__(name: str) -> Any:
    """`Runtime`, imported at first use: exporting needs none of it."""
    if name == "Runtime":
        from vlv_export.runtime import Runtime

        return Runtime
    raise AttributeError(f"module 'vlv_export' has no attribute {name!r}")

"""The picture's bytes in a `data:` URL (RFC 2397); nothing is ever fetched."""

import binascii
import re

from vlv_core.serving.refusal import Refusal

_HEAD = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*(?P<base64>;base64)?")
_SHOWN = 40
"""characters of a caller's text that a message repeats"""


def picture_bytes(url: str, *, param: str) -> bytes:
    """What the URL holds. Raises Refusal for another scheme, or for what is not base64."""
    head, comma, body = url.partition(",")
    if not url[:5].lower() == "data:":
        raise _not_fetched(url, param)
    match = _HEAD.fullmatch("data:" + head[5:])
    if not match or not comma or not match["base64"]:
        raise Refusal(
            f"{url[:_SHOWN]!r} is not a base64 data: URL; send data:image/png;base64,...",
            param=param,
            code="invalid_image_url",
        )
    kind = (match["type"] or "image/*").lower()
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise Refusal(f"a {kind} is not a picture", param=param, code="invalid_image_format")
    try:
        return binascii.a2b_base64(body, strict_mode=True)
    except ValueError as error:
        raise Refusal(
            f"the picture's base64 is broken ({error}); send it padded, without line breaks",
            param=param,
            code="invalid_base64",
        ) from None


def _not_fetched(url: str, param: str) -> Refusal:
    scheme = url.partition(":")[0].lower() if ":" in url else "no"
    if scheme not in ("http", "https", "file", "ftp", "no"):
        scheme = "this"
    return Refusal(
        f"{scheme} URLs are refused: this server fetches and opens nothing; send the picture "
        "itself as data:image/png;base64,...",
        param=param,
        code="invalid_image_url",
    )

"""The media type of an upload, from its first bytes.

Names are those that the reference stores (npm file-type), so that a blob moved between hosts keeps the type its record
states. Nothing is decoded: a look at fixed places is all that a stranger's bytes get.
"""

from typing import Final

UNKNOWN: Final = "application/octet-stream"
HEAD_BYTES: Final = 512
"""As much of a file's beginning as `media_type` looks at."""

_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"\0\0\1\0", "image/x-icon"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xfa", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"MThd", "audio/midi"),
    (b"#!AMR", "audio/amr"),
    (b"FLV\1", "video/x-flv"),
    (b"%PDF", "application/pdf"),
    (b"\0asm", "application/wasm"),
    (b"SQLite format 3\0", "application/x-sqlite3"),
    (b"\0\1\0\0\0", "font/ttf"),
    (b"OTTO\0", "font/otf"),
    (b"wOFF\0\1\0\0", "font/woff"),
    (b"wOFFOTTO", "font/woff"),
    (b"wOF2\0\1\0\0", "font/woff2"),
    (b"wOF2OTTO", "font/woff2"),
    (b"Rar!\x1a\x07", "application/x-rar-compressed"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
)
_VAGUE_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"PK\3\4", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\0", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"OggS", "application/ogg"),
)
"""Containers of much that has a name of its own, and signatures short enough to begin a text."""
_RIFF_KINDS: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/vnd.avi"}
_OGG_CODECS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"OpusHead", "audio/ogg; codecs=opus"),
    (b"\x01vorbis", "audio/ogg"),
    (b"\x7fFLAC", "audio/ogg"),
    (b"Speex  ", "audio/ogg"),
    (b"\x80theora", "video/ogg"),
)
_BRANDS: Final = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"mif1": "image/heif",
    b"msf1": "image/heif-sequence",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic-sequence",
    b"hevx": "image/heic-sequence",
    b"crx ": "image/x-canon-cr3",
    b"qt  ": "video/quicktime",
    b"M4V ": "video/x-m4v",
    b"M4VH": "video/x-m4v",
    b"M4VP": "video/x-m4v",
    b"M4A ": "audio/x-m4a",
    b"M4B ": "audio/mp4",
    b"F4A ": "audio/mp4",
    b"F4B ": "audio/mp4",
}
_TS_PACKET: Final = 188
"""Bytes of a packet of an MPEG transport stream; each begins with a G."""


def media_type(head: bytes, declared: str) -> str:
    """The type of a file that begins with `head`; `declared`, in lower case, where that shows nothing more precise."""
    found = _certain(head)
    if found is None and declared == UNKNOWN:
        found = "video/mp2t" if head[::_TS_PACKET][:3] == b"GGG" else _first(_VAGUE_SIGNATURES, head)
    return found or declared


def _certain(head: bytes) -> str | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/apng" if b"acTL" in head.partition(b"IDAT")[0] else "image/png"
    if head[:4] == b"RIFF":
        return _RIFF_KINDS.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "audio/aiff"
    if head[4:8] == b"ftyp":
        return _of_brand(head[8:12])
    if head[:4] == b"OggS":
        return _first(_OGG_CODECS, head[28:])
    if head[:4] == b"\x1aE\xdf\xa3":
        return "video/webm" if b"webm" in head[:64] else "video/matroska"
    text = head.removeprefix(b"\xef\xbb\xbf")
    if text.startswith(b"WEBVTT") and text[6:7] in (b"", b" ", b"\t", b"\r", b"\n"):
        return "text/vtt"
    return _first(_SIGNATURES, head)


def _of_brand(brand: bytes) -> str:
    """Of an ISO base media file (ISO/IEC 14496-12), by its major brand."""
    if brand.startswith(b"3g"):
        return "video/3gpp2" if brand.startswith(b"3g2") else "video/3gpp"
    return _BRANDS.get(brand, "video/mp4")


def _first(signatures: tuple[tuple[bytes, str], ...], head: bytes) -> str | None:
    return next((name for signature, name in signatures if head.startswith(signature)), None)

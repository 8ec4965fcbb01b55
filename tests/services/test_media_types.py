"""What an upload is called: the names that the reference gives, and the owner's word where the bytes say little."""

import pytest

from pds_lite.services.media_types import UNKNOWN, media_type

TS_PACKET = b"G" + bytes(187)
OGG_PAGE = b"OggS" + bytes(24)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\x89PNG\r\n\x1a\n" + bytes(25) + b"\0\0\0\x08acTL", "image/apng"),
        (b"\x89PNG\r\n\x1a\n" + bytes(25) + b"\0\0\0\x08IDATxacTL", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"FORM\0\0\0\0AIFFCOMM", "audio/aiff"),
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"\0\0\0\x20ftypM4V ", "video/x-m4v"),
        (b"\0\0\0\x20ftyp3gp5", "video/3gpp"),
        (b"\0\0\0\x20ftypavif", "image/avif"),
        (b"\0\0\0\x18ftypmif1", "image/heif"),
        (b"\0\0\0\x18ftyphevc", "image/heic-sequence"),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01B\x82\x84webm", "video/webm"),
        (OGG_PAGE + b"OpusHead", "audio/ogg; codecs=opus"),
        (OGG_PAGE + b"\x80theora", "video/ogg"),
        (b"%PDF-1.7", "application/pdf"),
        (b"WEBVTT\n\n00:01.000 --> 00:04.000\nHi", "text/vtt"),
        (b"\xef\xbb\xbfWEBVTT", "text/vtt"),
        (b"wOF2\0\1\0\0", "font/woff2"),
    ],
    ids=lambda value: ascii(value)[:30],
)
@pytest.mark.parametrize("declared", [UNKNOWN, "text/plain", "image/png"])
def test_the_first_bytes_overrule_what_was_declared(head: bytes, name: str, declared: str) -> None:
    assert media_type(head, declared) == name


@pytest.mark.parametrize(
    ("head", "name", "declared"),
    [
        (b"PK\3\4", "application/zip", "application/epub+zip"),
        (b"II*\0", "image/tiff", "image/x-adobe-dng"),
        (b"\x1f\x8b\x08", "application/gzip", "image/svg+xml"),
        (b"BMW is a make of car", "image/bmp", "text/plain"),
        (TS_PACKET * 3, "video/mp2t", "text/plain"),
    ],
)
def test_a_vague_beginning_counts_only_where_nothing_was_declared(head: bytes, name: str, declared: str) -> None:
    assert media_type(head, UNKNOWN) == name
    assert media_type(head, declared) == declared


@pytest.mark.parametrize("head", [b"", b"hello", b"WEBVTTX", b"G", TS_PACKET * 2 + b"x", b"RIFF", b"\x89PNG", b"{}"])
def test_what_shows_nothing_is_what_it_was_declared(head: bytes) -> None:
    assert media_type(head, UNKNOWN) == UNKNOWN
    assert media_type(head, "text/plain") == "text/plain"

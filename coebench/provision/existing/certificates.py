"""Until when a certificate is valid: engines refuse an expired one without saying why, so it is looked at here."""

from __future__ import annotations

import datetime
import ssl

from ...contract import BadInput


def check(pem: str, what: str) -> None:
    """Raise BadInput if the first certificate of a PEM text is expired or is none."""
    try:
        end = not_after(pem)
    except (ValueError, IndexError):
        raise BadInput(f"{what} is no certificate in PEM") from None
    if end < datetime.datetime.now(datetime.UTC):
        raise BadInput(f"{what} expired on {end:%Y-%m-%d %H:%M} UTC: get a new one")


def not_after(pem: str) -> datetime.datetime:
    """The end of a certificate's validity (RFC 5280, 4.1). Raises ValueError or IndexError for what is none."""
    begin = pem.index("-----BEGIN CERTIFICATE-----")
    end = pem.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")
    der = ssl.PEM_cert_to_DER_cert(pem[begin:end])
    _, certificate, _ = _element(der, 0)
    _, signed, _ = _element(certificate, 0)
    at = 0
    tag, _, after = _element(signed, at)
    if tag == 0xA0:  # the version, which the oldest have not
        at = after
    for _ in range(3):  # serial number, signature's algorithm, issuer
        _, _, at = _element(signed, at)
    _, validity, _ = _element(signed, at)
    _, _, at = _element(validity, 0)
    tag, text, _ = _element(validity, at)
    form = "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ"  # UTCTime until 2049, GeneralizedTime after
    return datetime.datetime.strptime(text.decode("ascii"), form).replace(tzinfo=datetime.UTC)


def _element(der: bytes, at: int) -> tuple[int, bytes, int]:
    """Tag, content and end of the DER element that begins at a place."""
    tag, length, at = der[at], der[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(der[at : at + size], "big"), at + size
    if at + length > len(der):
        raise ValueError("cut short")
    return tag, der[at : at + length], at + length

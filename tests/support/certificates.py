"""Certificates made for a test: an authority, and what it vouches for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Vouches for host names; its own certificate is in `folder/ca.pem`.

    `days` from today on are those of its certificates.
    """

    def __init__(
        self, folder: Path, name: str = "an authority", days: tuple[int, int] = (-1, 1)
    ) -> None:
        self._folder, self._name, self._days = folder, _named(name), days
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(self._name, self._name, self._key.public_key(), days)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.file = _written(folder / "ca.pem", made.sign(self._key, hashes.SHA256()))

    def vouches_for(self, host: str) -> tuple[Path, Path]:
        """The files of a certificate for `host` and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _certificate(_named(host), self._name, key.public_key(), self._days)
        alternative = x509.SubjectAlternativeName([x509.DNSName(host)])
        signed = made.add_extension(alternative, critical=False).sign(self._key, hashes.SHA256())
        secret = self._folder / f"{host}.key"
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        secret.chmod(0o600)
        return _written(self._folder / f"{host}.pem", signed), secret


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: tuple[int, int]
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )


def _written(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path

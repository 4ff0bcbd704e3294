"""The certificate authority on disk."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ondol.apiserver import pki
from ondol.base import errors
from ondol.base.clock import ManualClock

ADMIN = pki.Client("admin", "kubernetes-admin", ("system:masters", "team"))
DAY_S = 86_400


def ensure(directory: Path, clock: ManualClock, *, addresses: tuple[str, ...] = ()) -> pki.Pki:
    return pki.ensure(
        directory, clock=clock, names=("myhost",), addresses=("10.96.0.1", *addresses), clients=(ADMIN,)
    )


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(issued: pki.Pki) -> dict[str, bytes]:
    return {
        str(p.relative_to(issued.directory)): p.read_bytes()
        for p in issued.directory.rglob("*")
        if p.is_file()
    }


def test_serving_certificate_names_every_way_to_reach_the_server(tmp_path: Path) -> None:
    """The names pods and host use are all in it, and its use is to serve."""
    issued = ensure(tmp_path / "pki", ManualClock())
    served = certificate(issued.server_certificate_file)
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {*pki.SERVER_NAMES, "myhost"}
    assert {str(a) for a in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "10.96.0.1"}
    usage = served.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    served.verify_directly_issued_by(certificate(issued.ca_file))


def test_client_certificate_carries_user_and_groups(tmp_path: Path) -> None:
    """The common name is the user, each organisation a group, in order."""
    issued = ensure(tmp_path / "pki", ManualClock())
    parsed = x509.load_pem_x509_certificate(issued.client("admin").certificate)
    assert [a.value for a in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [
        "kubernetes-admin"
    ]
    groups = [a.value for a in parsed.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    assert groups == ["system:masters", "team"]


def test_every_file_is_private(tmp_path: Path) -> None:
    """Nobody but the owner reads any of it."""
    issued = ensure(tmp_path / "pki", ManualClock())
    modes = {
        path: stat.S_IMODE(path.stat().st_mode) for path in issued.directory.rglob("*") if path.is_file()
    }
    assert len(modes) == 11
    assert set(modes.values()) == {0o600}


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    """What is valid stays as it is, byte for byte."""
    clock = ManualClock()
    first = contents(ensure(tmp_path / "pki", clock))
    assert contents(ensure(tmp_path / "pki", clock)) == first


async def test_leaves_are_renewed_before_they_end(tmp_path: Path) -> None:
    """Near its end a certificate is issued anew with the same key; the authority stays."""
    clock = ManualClock()
    first = contents(ensure(tmp_path / "pki", clock))
    await clock.advance(pki.LEAF_LIFETIME_S - 30 * DAY_S)
    second = contents(ensure(tmp_path / "pki", clock))
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {"apiserver.crt", "clients/admin.crt", "front-proxy-client.crt"}


async def test_the_authority_is_renewed_with_its_key(tmp_path: Path) -> None:
    """A client certificate issued before is still signed by the renewed authority."""
    clock = ManualClock()
    issued = ensure(tmp_path / "pki", clock)
    old = issued.ca_file.read_bytes()
    await clock.advance(pki.CA_LIFETIME_S - pki.LEAF_LIFETIME_S)
    renewed = certificate(ensure(tmp_path / "pki", clock).server_certificate_file)
    assert issued.ca_file.read_bytes() != old
    renewed.verify_directly_issued_by(certificate(issued.ca_file))


def test_certificates_from_the_future_are_issued_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock was a year ahead when they were made and was set back: all hold now, by their keys."""
    ahead = ManualClock(ManualClock().now() + 365 * DAY_S)
    issued = ensure(tmp_path / "pki", ahead)
    keys = {name: text for name, text in contents(issued).items() if name.endswith(".key")}
    now = ManualClock()
    again = ensure(tmp_path / "pki", now)
    assert "".join(capsys.readouterr()).count("certificate_from_the_future") == 5
    files = [again.ca_file, again.server_certificate_file, again.client_files("admin")[0]]
    for file in files:
        renewed = certificate(file)
        assert renewed.not_valid_before_utc.timestamp() <= now.now() < renewed.not_valid_after_utc.timestamp()
    certificate(files[1]).verify_directly_issued_by(certificate(files[0]))
    assert {n: t for n, t in contents(again).items() if n.endswith(".key")} == keys


def test_a_new_address_is_added_to_the_serving_certificate(tmp_path: Path) -> None:
    """A start with one more address issues a certificate that has it."""
    clock = ManualClock()
    ensure(tmp_path / "pki", clock)
    issued = ensure(tmp_path / "pki", clock, addresses=("10.89.0.1",))
    names = certificate(issued.server_certificate_file).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert "10.89.0.1" in {str(a) for a in names.value.get_values_for_type(x509.IPAddress)}


@pytest.mark.parametrize("content", [b"", b"not a certificate"])
def test_a_damaged_certificate_is_issued_anew(tmp_path: Path, content: bytes) -> None:
    """An unreadable leaf does not stop the start."""
    clock = ManualClock()
    issued = ensure(tmp_path / "pki", clock)
    issued.server_certificate_file.write_bytes(content)
    ensure(tmp_path / "pki", clock)
    certificate(issued.server_certificate_file).verify_directly_issued_by(certificate(issued.ca_file))


def test_a_certificate_of_another_key_is_issued_anew(tmp_path: Path) -> None:
    """A crash between two writes can leave key and certificate strangers; the next start mends it."""
    clock = ManualClock()
    issued = ensure(tmp_path / "pki", clock)
    issued.server_key_file.unlink()
    ensure(tmp_path / "pki", clock)
    client = issued.client("admin")
    assert b"PRIVATE KEY" in issued.server_key_file.read_bytes()
    assert client.certificate != certificate(issued.server_certificate_file)


def test_a_lost_authority_key_is_reported_with_its_remedy(tmp_path: Path) -> None:
    """Nothing is silently replaced: clients hold certificates of that authority."""
    issued = ensure(tmp_path / "pki", ManualClock())
    issued.ca_key_file.unlink()
    with pytest.raises(errors.HostError, match=r"ca\.key is missing") as caught:
        ensure(tmp_path / "pki", ManualClock())
    assert "restore" in caught.value.remedy


def test_a_kubeconfig_stands_alone(tmp_path: Path) -> None:
    """Everything is embedded, and the file is its owner's."""
    issued = ensure(tmp_path / "pki", ManualClock())
    document = pki.kubeconfig("https://127.0.0.1:6443", issued.ca_file.read_bytes(), issued.client("admin"))
    path = tmp_path / "kubeconfig"
    pki.write_kubeconfig(path, yaml.safe_dump(document).encode())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read = yaml.safe_load(path.read_text())
    assert read["current-context"] == "ondol"
    user = read["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]) == issued.client("admin").key
    assert base64.b64decode(read["clusters"][0]["cluster"]["certificate-authority-data"]).startswith(b"-----")


def test_a_client_file_name_cannot_leave_the_directory(tmp_path: Path) -> None:
    """A name with a slash is refused."""
    with pytest.raises(ValueError, match="plain file name"):
        pki.ensure(tmp_path, clock=ManualClock(), clients=(pki.Client("../x", "x"),))


def test_another_server_is_certified_by_the_same_authority(tmp_path: Path) -> None:
    """For its hosts alone; again only when they are others, or its end is near."""
    clock = ManualClock()
    issued = ensure(tmp_path / "pki", clock)

    def certify(*hosts: str) -> x509.Certificate:
        file, key = pki.ensure_server(issued.directory, "events", hosts, clock=clock)
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        return certificate(file)

    first = certify("a.test", "b.test")
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.test", "b.test"]
    first.verify_directly_issued_by(certificate(issued.ca_file))
    assert certify("a.test", "b.test") == first
    assert certify("a.test", "c.test") != first
    late = certify("a.test")
    clock = ManualClock(clock.now() + pki.LEAF_LIFETIME_S - DAY_S)
    assert certify("a.test") != late

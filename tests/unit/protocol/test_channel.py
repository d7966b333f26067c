"""TLS with pinned keys: who is let in for which version, and what an operator is told of the others."""

from __future__ import annotations

import dataclasses
import ssl

import pytest
from tests.support import links
from tests.support.links import BareTls, bare_client, certificate, channels, shake_hands

from cassiopeia.errors import PeerError
from cassiopeia.link.credentials import certificate_pin
from cassiopeia.protocol import channel
from cassiopeia.protocol.channel import LinkTls, TlsChannel, public_key_pin


def pin(name: str) -> str:
    return certificate_pin(certificate(name))


def signer_channel(settings: LinkTls) -> TlsChannel:
    return TlsChannel(tls=settings, server_side=True)


def test_both_sides_know_version_and_peer_when_the_handshake_is_done() -> None:
    signer, client = channels(links.signer(), links.client())
    assert [signer.established, client.established] == [False, False]
    assert shake_hands(signer, client) == ("", "")
    assert [signer.established, client.established] == [True, True]
    assert (signer.version, signer.peer_pin) == (2, pin("client"))
    assert (client.version, client.peer_pin) == (2, pin("signer"))


def test_a_flight_arrives_whole_in_records_of_16_kib() -> None:
    signer, client = established()
    flight = bytes(range(256)) * 200
    client.send(flight)
    records = signer.receive(client.data_to_send())
    assert b"".join(records) == flight
    assert [len(record) for record in records] == [16_384, 16_384, 16_384, 2_048]


def test_no_session_ticket_costs_octets_on_the_line() -> None:
    signer, client = channels(links.signer(), links.client())
    signer.receive(client.data_to_send())
    client.receive(signer.data_to_send())
    signer.receive(client.data_to_send())
    assert signer.established
    assert signer.pending == 0


@pytest.mark.parametrize("peers", [("client", "next_client"), ("next_client", "client")])
@pytest.mark.parametrize("name", ["client", "next_client"])
def test_current_and_next_key_of_one_name_are_both_let_in(name: str, peers: tuple[str, ...]) -> None:
    signer, client = channels(links.signer(peers=peers), links.client(name=name))
    assert shake_hands(signer, client) == ("", "")
    assert signer.peer_pin == pin(name)


def test_dates_mean_nothing() -> None:
    signer, client = channels(
        links.signer(peers=("expired",), name="expired"), links.client(name="expired", peers=("expired",))
    )
    assert shake_hands(signer, client) == ("", "")
    assert signer.established


def test_version_1_works_over_tls_1_2_and_leaves_version_2_as_it_is() -> None:
    settings = links.signer(peers_1=("client_1",))
    signer, client = channels(settings, links.client_1())
    assert shake_hands(signer, client) == ("", "")
    assert (signer.version, client.version) == (1, 1)
    assert client.peer_pin == pin("signer_1")
    assert client._tls.version() == "TLSv1.2"
    assert client._tls.cipher() == ("ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2", 256)

    signer, client = channels(settings, links.client())
    assert shake_hands(signer, client) == ("", "")
    assert (signer.version, client.peer_pin) == (2, pin("signer"))


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_alpn_means_version_1(tls: ssl.TLSVersion) -> None:
    signer = signer_channel(links.signer(peers_1=("client_1",)))
    assert shake_hands(signer, BareTls(bare_client(name="client_1", tls=tls))) == ("", "")
    assert (signer.version, signer.peer_pin) == (1, pin("client_1"))


def test_version_1_is_off_unless_configured() -> None:
    signer, client = channels(links.signer(), links.client_1())
    at_signer, at_client = shake_hands(signer, client)
    assert at_signer == "TLS failed: unsupported protocol"
    assert at_client == refused_by_peer("protocol version", own="client_1", version=1)
    signer = signer_channel(links.signer())
    refused, _ = shake_hands(signer, BareTls(bare_client(name="client")))
    assert refused == "the peer speaks protocol version 1, this side version 2 only"
    assert signer.closed


def test_version_2_needs_tls_1_3() -> None:
    signer = signer_channel(links.signer(peers_1=("client_1",)))
    peer = BareTls(bare_client(name="client_1", alpn="cassiopeia/2", tls=ssl.TLSVersion.TLSv1_2))
    refused, _ = shake_hands(signer, peer)
    assert refused == "the peer wants protocol version 2 over TLSv1.2: it needs TLS 1.3"


def test_a_pin_of_one_version_does_not_open_the_other() -> None:
    settings = links.signer(peers_1=("client_1",))
    refused, _ = shake_hands(signer_channel(settings), BareTls(bare_client(name="client_1", alpn="cassiopeia/2")))
    assert refused == wrong_pin("client_1", expected="client", version=2)
    refused, _ = shake_hands(signer_channel(settings), BareTls(bare_client(name="client", alpn="cassiopeia/1")))
    assert refused == wrong_pin("client", expected="client_1", version=1)


def test_an_unknown_peer_is_named_to_the_operator_and_learns_nothing() -> None:
    signer, client = channels(links.signer(), links.client(name="stranger"))
    at_signer, at_client = shake_hands(signer, client)
    assert at_signer == wrong_pin("stranger", expected="client", version=2) + " (self-signed certificate)"
    assert at_client == refused_by_peer("unknown ca", own="stranger", version=2)


def test_an_unknown_signer_is_named_to_the_operator_of_the_client() -> None:
    _, at_client = shake_hands(*channels(links.signer(name="stranger"), links.client()))
    assert at_client == wrong_pin("stranger", expected="signer", version=2) + " (self-signed certificate)"


def test_an_unknown_peer_of_version_1_is_named_too() -> None:
    settings = links.signer(peers_1=("client_1",))
    peer = BareTls(bare_client(name="original_chain", tls=ssl.TLSVersion.TLSv1_2))
    refused, _ = shake_hands(signer_channel(settings), peer)
    assert f"the peer's link certificate has the pin {pin('original')}; expected: " in refused
    assert f"{pin('client_1')} (version 1), {pin('client')} (version 2)" in refused


def test_without_the_hook_of_the_standard_library_the_message_says_less() -> None:
    def bare_context() -> ssl.SSLContext:
        context = links.signer().bare_context()
        context.sslobject_class = ssl.SSLObject
        return context

    settings = dataclasses.replace(links.signer(), bare_context=bare_context)
    refused, _ = shake_hands(signer_channel(settings), BareTls(bare_client(name="stranger", alpn="cassiopeia/2")))
    assert refused.startswith("the peer's link certificate cannot be read; expected: ")


def test_a_peer_without_certificate_is_refused() -> None:
    signer = signer_channel(links.signer())
    refused, _ = shake_hands(signer, BareTls(bare_client(alpn="cassiopeia/2")))
    assert refused == f"the peer presented no link certificate; expected: {pin('client')} (version 2)"


def test_the_chain_of_the_original_is_accepted_for_its_pinned_leaf() -> None:
    settings = links.signer(peers_1=("original",))
    signer = signer_channel(settings)
    peer = BareTls(bare_client(name="original_chain", tls=ssl.TLSVersion.TLSv1_2))
    assert shake_hands(signer, peer) == ("", "")
    assert signer.peer_pin == pin("original")


def test_a_pinned_issuer_vouches_for_nobody() -> None:
    settings = links.signer(peers_1=("original_root",))
    signer = signer_channel(settings)
    peer = BareTls(bare_client(name="original_chain", tls=ssl.TLSVersion.TLSv1_2))
    refused, _ = shake_hands(signer, peer)
    assert refused == wrong_pin("original", expected="original_root", version=1)
    assert not signer.established


def test_nothing_is_kept_for_resumption_and_nothing_is_resumed() -> None:
    settings = links.signer(peers_1=("client_1",))
    context = bare_client(name="client_1", tls=ssl.TLSVersion.TLSv1_2)
    first = BareTls(context)
    signer = signer_channel(settings)
    shake_hands(signer, first)
    signer.close()
    first.receive(signer.data_to_send())
    assert first.tls.session is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    second = context.wrap_bio(incoming, outgoing, session=first.tls.session)
    signer = signer_channel(settings)
    for _ in range(3):
        try:
            second.do_handshake()
        except ssl.SSLWantReadError:
            signer.receive(outgoing.read())
            incoming.write(signer.data_to_send())
    assert signer.established
    assert not second.session_reused
    assert settings.context.session_stats()["number"] == 0


def test_close_says_close_notify_and_the_peer_is_closed_by_it() -> None:
    signer, client = established()
    client.send(b"last words")
    client.close()
    assert client.closed
    assert signer.receive(client.data_to_send()) == [b"last words"]
    assert signer.closed
    client.close()
    assert client.data_to_send() == b""
    assert client.receive(signer.data_to_send()) == []


def test_close_during_the_handshake_is_harmless() -> None:
    signer, client = channels(links.signer(), links.client())
    client.close()
    assert client.closed
    assert not client.established
    signer.close()
    assert signer.receive(b"anything") == []


def test_a_broken_record_ends_the_channel_with_an_alert() -> None:
    signer, client = established()
    client.send(b"x")
    record = bytearray(client.data_to_send())
    record[-1] ^= 1
    with pytest.raises(PeerError, match="TLS failed: decryption failed or bad record mac"):
        signer.receive(bytes(record))
    assert signer.closed
    with pytest.raises(PeerError, match="the peer ended TLS: sslv3 alert bad record mac"):
        client.receive(signer.data_to_send())


def test_octets_that_are_not_tls_are_a_peer_error() -> None:
    signer = signer_channel(links.signer())
    with pytest.raises(PeerError, match=r"^TLS failed: "):
        signer.receive(b":0100 not TLS at all\n")
    assert signer.closed


@pytest.mark.parametrize("octets", [b"", b"no certificate", b"\x30\x03\x02\x01\x00"])
def test_what_is_no_certificate_has_no_pin(octets: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable certificate"):
        public_key_pin(octets)


def test_only_certificates_that_are_received_are_remembered() -> None:
    signer = signer_channel(links.signer())
    engine = signer._tls
    message = b"\x0b\x00\x00\x0b" + b"\x00" + b"\x00\x00\x07" + b"\x00\x00\x02" + b"hi" + b"\x00\x00"
    channel._on_message(engine, "write", ssl.TLSVersion.TLSv1_3, 22, 11, message)
    channel._on_message(engine, "read", ssl.TLSVersion.TLSv1_3, 22, 1, message)
    channel._on_message(engine, "read", ssl.TLSVersion.TLSv1_3, 256, 11, message)
    channel._on_message(object(), "read", ssl.TLSVersion.TLSv1_3, 22, 11, message)
    assert engine.presented == b""  # type: ignore[attr-defined] # the subclass that remembers
    channel._on_message(engine, "read", ssl.TLSVersion.TLSv1_3, 22, 11, message)
    assert engine.presented == b"hi"  # type: ignore[attr-defined] # as above
    channel._on_message(engine, "read", ssl.TLSVersion.TLSv1_2, 22, 11, b"\x0b\x00\x00")
    assert engine.presented == b""  # type: ignore[attr-defined] # as above


def established() -> tuple[TlsChannel, TlsChannel]:
    signer, client = channels(links.signer(), links.client())
    assert shake_hands(signer, client) == ("", "")
    return signer, client


def wrong_pin(presented: str, *, expected: str, version: int) -> str:
    return f"the peer's link certificate has the pin {pin(presented)}; expected: {pin(expected)} (version {version})"


def refused_by_peer(alert: str, *, own: str, version: int) -> str:
    return (
        f"the peer ended TLS: tlsv1 alert {alert}; our own link certificate has the pin {pin(own)} (version {version})"
    )

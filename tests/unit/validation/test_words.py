from __future__ import annotations

import datetime as dt
import logging

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.validating import BOOT_ID, NONCE, Site

from cassiopeia.validation.words import Words

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def words(site: Site) -> Words:
    return Words(site.store, site.config.journal_keys)


def test_nobody_was_heard(site: Site, words: Words) -> None:
    site.store.signers.save(1, {}, now=site.now)

    assert words.live(site.now) == ()


def test_a_signer_that_lives(site: Site, words: Words) -> None:
    site.hear(time=site.now + MINUTE)

    [word] = words.live(site.now)

    assert (word.signer_id, word.boot_id, word.nonce, word.nonces) == (1, BOOT_ID, NONCE, (NONCE,))
    assert dt.timedelta(seconds=59) < word.ahead <= MINUTE
    assert word.doubt(site.key_id, "attestation") == ""


@pytest.mark.parametrize("age", [6 * MINUTE, -6 * MINUTE])
def test_an_old_word_is_none(site: Site, words: Words, age: dt.timedelta) -> None:
    site.hear(said_at=site.now - age)

    assert words.live(site.now) == ()


@pytest.mark.parametrize(("ahead", "words_said"), [(60, "60 minutes ahead of"), (-60, "59 minutes behind")])
def test_clocks_that_are_hours_apart_are_told_once(
    site: Site, words: Words, ahead: int, words_said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's, by which words are dated, and that of this machine."""
    for minute in range(3):
        site.hear(said_at=site.now + (ahead + minute) * MINUTE)
        assert words.live(site.now) == ()

    assert caplog.text.count(f"the word of signer 1 is dated {words_said} the clock of this machine") == 1
    site.hear()
    assert len(words.live(site.now)) == 1


def test_a_client_that_went_long_ago_has_no_wrong_clock(
    site: Site, words: Words, caplog: pytest.LogCaptureFixture
) -> None:
    site.hear(said_at=site.now - 60 * MINUTE)

    assert words.live(site.now) == words.live(site.now + MINUTE) == ()
    assert not caplog.text


def test_a_word_by_another_key_is_not_believed_and_that_is_said_once(
    site: Site, words: Words, caplog: pytest.LogCaptureFixture
) -> None:
    site.hear(key=Ed25519PrivateKey.generate())

    assert words.live(site.now) == words.live(site.now) == ()
    assert caplog.text.count("the word of signer 1 in the store is not believed") == 1


def test_the_word_of_another_signer_is_not_believed(site: Site, words: Words, caplog: pytest.LogCaptureFixture) -> None:
    site.hear()
    stored = site.store.orders.timestamp(1)
    assert stored is not None
    site.store.signers.save(2, {}, now=site.now)
    site.store.orders.save_timestamp(2, stored.octets, asked_at=site.now)
    site.store.orders.save_timestamp(1, b"nothing", asked_at=site.now)

    assert words.live(site.now) == ()
    assert "it is the word of signer 1" in caplog.text
    assert "this is not the DER of a Timestamp" in caplog.text


def test_the_nonce_before_holds_for_a_while(site: Site, words: Words) -> None:
    site.hear()
    words.live(site.now)
    site.hear(nonce=b"2" * 16)

    assert nonces(words, site.now) == (b"2" * 16, NONCE)
    site.hear(nonce=b"2" * 16, said_at=site.now + 3 * MINUTE)
    assert nonces(words, site.now + 3 * MINUTE) == (b"2" * 16, NONCE)
    assert nonces(words, site.now + 4 * MINUTE) == (b"2" * 16,)
    site.hear(nonce=b"3" * 16, said_at=site.now + 5 * MINUTE)
    assert nonces(words, site.now + 5 * MINUTE) == (b"3" * 16, b"2" * 16)


def test_another_boot_ends_what_was_before(site: Site, words: Words) -> None:
    site.hear()
    words.live(site.now)
    site.hear(boot_id=b"c" * 16, nonce=b"2" * 16)

    assert nonces(words, site.now) == (b"2" * 16,)


def test_clocks_that_differ_are_told_once_a_boot(site: Site, words: Words, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        site.hear(time=site.now - 60 * MINUTE)
        words.live(site.now)
        site.hear(time=site.now - 60 * MINUTE, nonce=b"2" * 16)
        words.live(site.now)

    assert caplog.text.count("the clock of signer 1 differs from ours by -3600 seconds") == 1


def test_whom_a_signer_believes(site: Site, words: Words) -> None:
    pinned = [
        {"name": "validator", "key_id": site.key_id.hex(), "kinds": ["attestation", "dns-control"]},
        {"name": "mail", "key_id": "00" * 8, "kinds": ["mailbox-control"]},
    ]
    site.hear(orders={"validators": pinned, "disabled_validators": ["00" * 8]})

    [word] = words.live(site.now)

    assert word.doubt(site.key_id, "attestation") == ""
    assert "which signer 1 has not pinned for caa-permits" in word.doubt(site.key_id, "caa-permits")
    assert "which signer 1 has not pinned for attestation" in word.doubt(b"other" * 2, "attestation")
    assert word.doubt(bytes(8), "mailbox-control").endswith("which an order of the operators has disabled")


def nonces(words: Words, now: dt.datetime) -> tuple[bytes, ...]:
    [word] = words.live(now)
    return word.nonces

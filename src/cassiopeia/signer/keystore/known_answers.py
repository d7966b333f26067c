"""What a crypto library must say to keys and signatures that others made: the known answers of the self-test.

The keys are published with their private halves, so nobody may use them. EC keys and signatures: RFC 6979 A.2.5 to
A.2.7, message "sample". Ed25519: RFC 8032 7.1, test 3. Ed448: RFC 8032 7.4, the test with 11 octets. ML-DSA: seed and
public key of count 0 in the deterministic known-answer tests of FIPS 204 that `cryptography-vectors` carries; those
signatures are over a context, which X.509 has none of (RFC 9881 3), so that no signature stands here. RSA: a key and
signatures made with the `openssl` command 3.0, and verified with `certtool` 3.7's library; RFC 8017 has none with
SHA-2.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownAnswer:
    """A key, and what it signed. `private_key` is DER of PKCS#8; `public_key_digest` SHA-256 of the public half.

    `signature` is empty where only the key is known.
    """

    algorithm: SignatureAlgorithm
    private_key: bytes
    public_key_digest: bytes
    octets: bytes
    signature: bytes

    @property
    def is_only_signature(self) -> bool:
        """Whether nothing but this signature is right: no randomness enters it."""
        return bool(self.signature) and self.algorithm.key_kind != "EC" and not self.algorithm.is_pss


def known_answers() -> Iterator[KnownAnswer]:
    """One for each of `ALGORITHMS`."""
    for algorithm in ALGORITHMS:
        kind = _CURVES.get(algorithm.name, algorithm.key_kind)
        digest, private_key = _KEYS[kind]
        yield KnownAnswer(
            algorithm=algorithm,
            private_key=base64.b64decode(private_key),
            public_key_digest=bytes.fromhex(digest),
            octets=_OCTETS.get(algorithm.key_kind, b""),
            signature=base64.b64decode(_SIGNATURES.get(algorithm.name, "")),
        )


_CURVES: Final = {"ecdsa-with-SHA256": "P-256", "ecdsa-with-SHA384": "P-384", "ecdsa-with-SHA512": "P-521"}
_OCTETS: Final = {
    "RSA": b"cassiopeia: known answer",
    "EC": b"sample",
    "Ed25519": bytes.fromhex("af82"),
    "Ed448": bytes.fromhex("0c3e544074ec63b0265e0c"),
}

# By kind: SHA-256 of the SubjectPublicKeyInfo, and PKCS#8 (RFC 5958), base64.
_KEYS: Final = {
    "RSA": (
        "94cfebbaf86c7c4dcd5043612adbaf56641995da8c5ed32301d6750ae56f4c6e",
        (
            "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCnURzal/H+PYYNcUHKsqPuWDXz06t9hmmQNVUVBt6nad2+gCOW"
            "Xc1HFvMbi6e03rLydyEZCPXm+86mftbq8KfuO3gH87DospxApz5kIoyepyOmozL5yzZCXWBQZRx2h8q4y58yDzTsAnuhHpNamOfl"
            "FHwDC4O43deP7ungryqPhT/euvj0jmZRd9iIiLS/FNUUZNLaQugjcFB//2zTVioaWgtB232bw+Q8yz049gP/ILVakHMg+YcwSyhI"
            "FX6DSAk0qFuhnunMuj57JFSeUlw9lKaaxkyYzx0yowcPz2ink40yLMSlqSnw+KCpc17Ulc2sZMgurJQUSfKp0cO3rTppAgMBAAEC"
            "ggEACMYbdJMMi5UqVxYd/xpzDOfvRwP4it07jTu0DyWMaMxdERpNw3ApIus0gGNIaMGs3JjGpuDDaa4Ws2sUq2lHRRo1PHrY8hA7"
            "sArqc1HPJ0VYfJUznR8SOf9aMke7FbQf5fo3ijvQk00Qspg/Mzxax2Eq8ktDnbQfE7B8RIiq+1pJuIKg3QEdu6/LNh2Fg+yPUrsu"
            "oD6N4yjaoHEB4E67IFNm8P2XMRxEoGAjeO+LQIo36MM7d1OTG1ghOch5m4tvo9NavLiz3Q7rFMDN61heXnFB3YVpNxJO3HSRkiEV"
            "rT+UGayU5BQBIzHd7aCfcACdHpO+Jkj/kOLdy/0UEnyjiQKBgQDZSWh8OIlY7Wo14vGplk4MWUkmZNmm4YFtWJ95DCW/PP5ypNFp"
            "U534PvAeJ3gzWGBrhcyEYE+kWBynbpXe/LutkUjgFWXtP/qn9HHqIAXKA4V8TcMg18rMan23Jf1VPFoN0zMDuBj5asFNGwcz20AQ"
            "ZhvwL9fIsFRKJAn0lMiAYwKBgQDFIItYdcBqiziTD2liJ/nw3Bg+zR9/zSz6mK1/kuaqAPmFg7j4UgVp7rPAe/y7vPBs96QuuS/J"
            "y/jtQ9gQc7+eYyMz1REQx4myKXFo8VdRtP8zh4RIeLJuLHPsPguyTsZiIIBkEDWRX06IlO/Jypm9iJEYZy6Kym09V1UWusCFwwKB"
            "gGK9Bfr04g0EDfCgyTpML/lSlXgZ+gHolZzv2b/y8jA98k58cSDQu4c0an75ZpjGf0I9EdvRvD8tPxAio34qEMrlq10QvDmcijXK"
            "Uf2XQao0AXOkDpidFu3fMnOIkt8pxq5jm9oDzW2BwodcUeCRsEIDdIyn4QG0hwkN6Ww4NAiLAoGAJY8w3bb55ZMHQYXzN1+UkN7u"
            "w7CDqu8l/c1vaVpNFuE+qcDSUoYWP/vaRfeZzQ+P48M/hiOExndVw6dkmKXlQcFz6KFVMhRC2S5qTGuHjqrk4SWV/9T3cmSH5eBg"
            "jCXUSMgWjnpEKqG1LfLqyVEP//vwYWzvgkRVkhV8wertWc8CgYAMwxS56arBs+Qsji7IpjnIACXZPRUgutPAUp0lePpEVCBaUIoR"
            "jHQHcoj1EQIC/gjOc9kJpu7xTJ7oNcviiw8gr3bJzduIaDsjDSjm3aXc+6dMsauRS4SVAvrwRzpTu8l6rBiIGLV5ZLR2pQ1V9Pm1"
            "bPk0QToyHzw9MyeL1MjOWg=="
        ),
    ),
    "P-256": (
        "5a7a78cca4a0f420d9bc62bb669c3c2759e39f723d3ae10dcbe0f0815a07ecd4",
        (
            "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgya+p2EW6dRZrXCFXZ7HWk05Qw9s26JsSe4piKxIPZyGhRANCAARg"
            "/tS6JVqdMclh63TGNW1owEm4kjth+mzmaWIuYPKftnkD/hAIuLyZpBrp6VYovGTy8bIMLX6fUXejwpTURiKZ"
        ),
    ),
    "P-384": (
        "2f95601fa82060b909bfc6b979dbd303d34d34e0afb27ea496beac362f242a4b",
        (
            "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDBrnT2tLhuMHAWxmHW2ZZ9N4jw7Znvyl7qapHdAeHE32JbVck5McKgl"
            "+HLJ6mDS7fWhZANiAATsOk5BW04ZpFaGGAKfQn+l2pqLxK6S4C4GquUoazAMZN748OqQVYZgZKJUUVSAvBOAFdm3LX1XJE6o75rA"
            "xiGJZwilk2f537n1TKhLPxydsSiLIxw64NT+c0T9JTMmRyA="
        ),
    ),
    "P-521": (
        "2fb6d46385242ea4ad431f7175e7014eb74a5fc60f65b50ca54cc23c5b08de38",
        (
            "MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIA+tBtqmK6OyXS+0ATPadXIF3mf1uwAY/ujIbhtox+dcqolusy8fR8"
            "cIVYNqbRb8wUZvbY++xn24nsDAiw6Za4NTihgYkDgYYABAGJRVDQeFky4A6qI7aU8hP4wxIfhtyXoE5acWfbTlvNNxEj1G5F22td"
            "U3Cn8g+2MxVdOP+hbSvXYdysR0uaL1AjpABJMQHJYs1NL933giheZFhBOcL5G0f4f/gjVNZjD3RqKKDbJXQbWzSoKACLIqzCP5JP"
            "qvvU0z+B6maVbf6qK/389Q=="
        ),
    ),
    "Ed25519": (
        "8d39ba50abe50f77b6bb8ae7b6927aff7ffbeba35ad2837c0e51e82bcbcc60d5",
        "MC4CAQAwBQYDK2VwBCIEIMWqjfQ/n4N77bdELzHct7Fm04U1B28JS4XOOi4LRFj3",
    ),
    "Ed448": (
        "30407f9f0b1f009ab9bfa62a4b2ab689bf68bc8a62be99098cc91cde3f1b0b56",
        "MEcCAQAwBQYDK2VxBDsEOc0j0k9xQnTnRDQyN7kykPUR9kJfmOZEWf8gPomFCD/99gUAVTq8DgXNAhhL24nEzNZ+GHlRJn6zKA==",
    ),
    "ML-DSA-44": (
        "b9ef95b7a3e36d68338d1eeb5c46a7d53bad454fa3dd5d9b551d43cee4b16b8e",
        "MDQCAQAwCwYJYIZIAWUDBAMRBCKAIPaWSEBI7CH5bPUKVtB1nESPN3l1LwOD03RJaQaUz3po",
    ),
    "ML-DSA-65": (
        "51ebdc644a91c1dc999c283f902e042ec5203dfe9c50d5b8e28974b0b1774136",
        "MDQCAQAwCwYJYIZIAWUDBAMSBCKAIPaWSEBI7CH5bPUKVtB1nESPN3l1LwOD03RJaQaUz3po",
    ),
    "ML-DSA-87": (
        "58e289052bccf566c05836b88857c7d53a2f5bbcb804503d8dae7d6d4411b3ff",
        "MDQCAQAwCwYJYIZIAWUDBAMTBCKAIPaWSEBI7CH5bPUKVtB1nESPN3l1LwOD03RJaQaUz3po",
    ),
}
# By algorithm, base64.
_SIGNATURES: Final = {
    "sha256WithRSAEncryption": (
        "oOYIiOeD15xriPtDniBaJRID3aeXSDy5A/V4bDWtG4UrTCKdjvIfrZT7Cx20VUuZ08i0onPiFOi4igW/Wgw4JbKshVne6iW8/H+f"
        "01GO7lE3OCEzpOVjSKlasVCJSPyyXsWrnZ04bdFtv7Zynz2U+1g5vBP9IUkvNrLJveC9Nn7Q08G2BuFOnfrfiinFVaoyo4kORH6l"
        "/bNvthC/QJdO6w5hm6jvNyUe3iZJ88G3NajbKB1uDgVIrr/7RmgqiFDHVgMRqgIZF231RIBmq3ZqJV+aVoFnrlhYqm08PoQK5YFp"
        "od7sVCNJWeWVpDK2y9YTUPjWqy6q35A7PPT3Ju9XAg=="
    ),
    "sha384WithRSAEncryption": (
        "S7appt3cDMPmWVPi5BIbhLfL8lEWHEDbM29Lk9yDL3q8UxZO0g6vJKTgSbMTvizgNOJ5syKhFfYpzGHY2MCzYJ80v2dZlFEaJphJ"
        "vSMua/PFYS79rXNWBhTp0WFonE9yXi6sJ0YiczWAxF2YBKDjy7yR+F9D+rh45xC20/I5SzFVK4+RqB3sdl/Eax59bI8nVIdn6GQm"
        "sL5Pi/h/hF3lrsKzGgIu6PjBymtZ2zZQsnbnTQdFumF/xPfJfXUYAcjZk5+CxFcaGFmewye8NfS0RdRJxkQ/chlsXXaCHSanqzqH"
        "nImRhBWJC2KnfPIAZKlT9XdGI5F5Ths4fG+UVdpFbQ=="
    ),
    "sha512WithRSAEncryption": (
        "iJt1u5RDz9j0WHBlUrtAXfgtBOGbQ5D+NBkO+ZtZZ0rKrfUJv+ZBa2h6yi0BPack/uyYMR1EN1fCmhu8lQVfATKt8Ko6GjXQjULc"
        "i4sF5Ysi4hIz0EoGTQu98KBTn4NOcHdnU+6u2NEXc8sI14bHzp0QmzmRhGstVO4PFN8yv57JkCS9sQAURHZJ5ioQGstlpGDXgn/z"
        "HOx4KEErjqCpomOws/FPK1S2mKkDXapz33ADpOMGdZp7w9EzQUBuhdSoM5OliibKnzJQqwwAwMHjc1jh8YAgSsKNH3zwZPlh+DSv"
        "VnnyrP55Ikfyqd6igaECVGmdLwYOc8gooEWkXnm4uA=="
    ),
    "rsassaPss-sha256": (
        "cKRJguxen5enf8t0EsPmXKUeeFz1+hpcBYl2t+Hd0vQlkOaZ1ETXcSZiV0YryfKJVsH/grEfk7oJ0qZo1Ulqo9c82T6Zb50/wP1Y"
        "7gxjsfqK/kNG3ZBTPrLtzXkiLI8oK2YKnqEC/hX+wAwWvXyFtayeXEQ1+VY57TI806iAcvz7yMxe0WvKcfUMDpY3KJANDqHk/g1X"
        "/+g5KhFyNQgTNfl3dYNpAlNOWObyNE9iEEv1COZgUa8sk03dpD5Ht4CJU1ZsGXs5ifGW+umBBf+1XUg2o1vNnKv1K3zUP6RtEtJR"
        "C7OZj7s/4azoa1MCPeJcP6Bc1kf79P2NZYudsLtbbg=="
    ),
    "rsassaPss-sha384": (
        "V1AL4pWYwclEouZaQLr7az1FObS7UpQVPi37JIgb+zPZ3u9uzquUNG+2+nurTrqmLVefgaOQvcOosC1HZenJS/SEAKwMb/ONsp5L"
        "3E0NlJ2/s/Ojis60f+PaINlyeCJE9R9hYGofmFMZxbvSdUMJ05LpEJgAkeU324eMpI6QgqHbpyuLozvb57BFLa2csfcWE6zU0uug"
        "UH6efyHlderKODONqYRGCoCj7YaADTPSexFACa67tbLKD7kT04UYq2E1aT4gJGcjX2gyaNhbCunxlSfauIE7X9N9z1R40dSJ4ZS2"
        "QgMwAJQ/re69EoONwmH1kXaVi3LiUw7gCXA6+FbnYA=="
    ),
    "rsassaPss-sha512": (
        "bFfuFDY0sxUvhjEqBL8Zg5sldvl7fi2Tf409YWKGiexs+S+StNfRdIzWFVcLiiwpDXrOhau0Ljr9fQ+uXkZgab9MFUrltO3bhFeQ"
        "zzxMg7UH9vWUtpTJAzc4CCxUw0qwf4aYJPfnHMcGtNNHUMdyFg+rKUgyQu9V8bgA3vsaoNV6sL5s0YkH1pjbruV+f9VZA7aWB6or"
        "SHCqYBbR43AqAT3W73PgJNagHupCNve9ezkylo9We3Egp1c7Ux4zA+waQhAMNvN60oIuHdAuwbQRc91n9A+IcfhzQDJ6OySTaZJX"
        "ZEjkbcwt/F/kKjMCUP4kXVbVb85mCtQOTfKmZ5gedw=="
    ),
    "ecdsa-with-SHA256": (
        "MEYCIQDv1IsqrLao/RFA3ZzUXoHWnSyHe1aq+ZHDTQ6oTq83FgIhAPfLHJQtZXxB1DbHobbin2Xz6QDbua/0Bk3Eqy+EOs2o"
    ),
    "ecdsa-with-SHA384": (
        "MGYCMQCU7buSpey4qtRzblbGkZFrP4gUBmbOn6c9ZMTqla0TPIGmSBUuRKz5bjbdHoD6vkYCMQCZ70rrFfF4zqH+QNsmAxOPEw50"
        "ChliRSYgO2NR0KOpT6MpwUV4bmeee4LHGjhiisg="
    ),
    "ecdsa-with-SHA512": (
        "MIGHAkIAwyj6/L153XeFA3DEYyXZh8tSVWn7Y8XTvFOVDm1MXxdOJaHukBe11FBgat0VK1NJMdfU6EVcyR+bFb8F7Dbjd/oCQWF8"
        "znz1BkgGxGf2eNO0CA1vHMUK8myiCUFzCCgbaK8oJiPqpj5bXAcj2LjDf/B3exog+Myx3MxDmX8e4ORNpKZ6"
    ),
    "Ed25519": ("YpHWV97sJAJIJ+acOr4BowzlSKKEdDpEXjaA19taw6wY/5tTjRbykK5n92CYTcZZSnwV6XFu0o3AJ77O6h7ECg=="),
    "Ed448": (
        "HwqIiM4l6NRYohEwh5uECpCJ2ZmqugOerz46+gkKCdOJ26gsT/KuisXN+3xV6U1dlhop/gEJlB4AuNve6m07BRBo33JUwM3BKcvm"
        "LbLclX27R7Uf0/IT+4aY8GR3QlClAolhyb+P/Zc/5dXCBkkrFA4A"
    ),
}

"""Configuration files: TOML, parsed once into frozen values that cannot hold a wrong one.

Owns `signer.toml` (`signer`), `client.toml` (`client`), `validator.toml` (`validator`), `authorities.toml` and the
profiles (`authorities`); unknown keys, wrong types and values out of range raise `ConfigurationError` with file, key
and reason. Opens no key, no link and no store: the signer loads this package, so it needs nothing of the database's
side.
"""

from cassiopeia.config.authorities import (
    AuthorityEntry,
    ChainEntry,
    load_authorities,
    load_chain,
    load_profile,
    load_profiles,
)
from cassiopeia.config.client import ClientConfig, load_client_config
from cassiopeia.config.signer import SignerConfig, Version1Config, load_signer_config
from cassiopeia.config.toml import (
    HIGHEST_SIGNER_ID,
    OFFLINE_SIGNER_ID,
    CaName,
    SignerId,
    Text,
    Url,
    check_shape,
    link_address,
    parse_toml,
    read_text,
    read_toml,
)
from cassiopeia.config.validator import CheckProgram, ValidatorConfig, load_validator_config

__all__ = [
    "HIGHEST_SIGNER_ID",
    "OFFLINE_SIGNER_ID",
    "AuthorityEntry",
    "CaName",
    "ChainEntry",
    "CheckProgram",
    "ClientConfig",
    "SignerConfig",
    "SignerId",
    "Text",
    "Url",
    "ValidatorConfig",
    "Version1Config",
    "check_shape",
    "link_address",
    "load_authorities",
    "load_chain",
    "load_client_config",
    "load_profile",
    "load_profiles",
    "load_signer_config",
    "load_validator_config",
    "parse_toml",
    "read_text",
    "read_toml",
]

"""Configuration files: TOML, parsed once into frozen values that cannot hold a wrong one.

Owns `signer.toml` (`signer`), `client.toml` (`client`), `validator.toml` (`validator`), `authorities.toml` and the
profiles (`authorities`), and where an installed bundle gives these instead (`bundles`, `pins`); unknown keys, wrong
types and values out of range raise `ConfigurationError` with file, key and reason. Opens no key, no link and no store:
the signer loads this package, so it needs nothing of the database's side.
"""

from cassiopeia.config.authorities import (
    AuthorityEntry,
    ChainEntry,
    load_authorities,
    load_chain,
    load_profile,
    load_profiles,
)
from cassiopeia.config.bundles import CURRENT, Bundles, check_installed, current_installation
from cassiopeia.config.client import ClientConfig, load_client_config
from cassiopeia.config.keys import KeysConfig, KeyUse
from cassiopeia.config.pins import PINS, Pins, load_pins
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
    "CURRENT",
    "HIGHEST_SIGNER_ID",
    "OFFLINE_SIGNER_ID",
    "PINS",
    "AuthorityEntry",
    "Bundles",
    "CaName",
    "ChainEntry",
    "CheckProgram",
    "ClientConfig",
    "KeyUse",
    "KeysConfig",
    "Pins",
    "SignerConfig",
    "SignerId",
    "Text",
    "Url",
    "ValidatorConfig",
    "Version1Config",
    "check_installed",
    "check_shape",
    "current_installation",
    "link_address",
    "load_authorities",
    "load_chain",
    "load_client_config",
    "load_pins",
    "load_profile",
    "load_profiles",
    "load_signer_config",
    "load_validator_config",
    "parse_toml",
    "read_text",
    "read_toml",
]

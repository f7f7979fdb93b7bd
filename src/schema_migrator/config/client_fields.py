"""The options for a client of Temporal's frontend: variable, type, default and meaning."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from schema_migrator.config.fields import PREFIX, Given


class ClientSettings(Given):
    """How to reach Temporal's frontend, under the names that its own clients read, and which namespaces to create."""

    address: str | None = Field(
        None,
        validation_alias="TEMPORAL_ADDRESS",
        description="host and port of the frontend, such as temporal-frontend:7233",
    )
    api_key: SecretStr | None = Field(None, validation_alias="TEMPORAL_API_KEY", description="API key, or a token")
    api_key_file: Path | None = Field(
        None, validation_alias="TEMPORAL_API_KEY_FILE", description="file with the API key"
    )
    tls: bool | None = Field(
        None,
        validation_alias="TEMPORAL_TLS",
        description="use TLS; unset: if there is an API key or a certificate",
    )
    ca_file: Path | None = Field(
        None,
        validation_alias="TEMPORAL_TLS_SERVER_CA_CERT_PATH",
        description="certificates of the authorities to trust; unset: the system's",
    )
    cert_file: Path | None = Field(
        None, validation_alias="TEMPORAL_TLS_CLIENT_CERT_PATH", description="client certificate"
    )
    key_file: Path | None = Field(
        None, validation_alias="TEMPORAL_TLS_CLIENT_KEY_PATH", description="client certificate's key"
    )
    server_name: str | None = Field(
        None, validation_alias="TEMPORAL_TLS_SERVER_NAME", description="name expected in the frontend's certificate"
    )
    namespaces: str | None = Field(
        None,
        validation_alias=f"{PREFIX}NAMESPACES",
        description="namespaces to create: names separated by commas, or a JSON list of objects",
    )
    namespaces_file: Path | None = Field(
        None, validation_alias=f"{PREFIX}NAMESPACES_FILE", description="file with that JSON list"
    )

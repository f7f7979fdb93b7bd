"""Every option of a database, defined once: its name without the store's prefix, type, default and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr

from schema_migrator.config import hosts
from schema_migrator.config.fields import Given

PASSWORDS = frozenset({"password", "password_file", "password_command", "auth"})
"""The fields of SqlSettings that give the password, or a token in place of it."""


class SqlSettings(Given):
    """How to reach a database. It is read once for all stores and once for each store."""

    uri: SecretStr | None = Field(
        None, description="host, port, role, password and database in one: postgresql://user:password@host/database"
    )
    host: Annotated[str | None, BeforeValidator(hosts.bare)] = Field(
        None, description="host name or address, or the folder of a socket; separate several by commas"
    )
    port: Annotated[str | None, BeforeValidator(hosts.ports)] = Field(
        None, description="port; for several hosts, one for all or one for each, separated by commas"
    )
    user: str | None = Field(None, description="role")
    password: SecretStr | None = Field(None, description="password; a flag shows it to every user of the machine")
    password_file: Path | None = Field(None, description="file with the password")
    password_command: str | None = Field(
        None,
        description="command that prints the password (run without a shell at every connection), or a JSON object as in"
        ' the server\'s configuration: {"command": "...", "args": ["..."], "timeout": "30s"}',
    )
    auth: Literal["aws", "gcp", "azure"] | None = Field(
        None, description="cloud whose library gives a new token for every connection, in place of a password"
    )
    database: str | None = Field(
        None, description="database name; default: temporal, temporal_visibility or temporal_secondary_visibility"
    )
    connect_attributes: str | None = Field(
        None,
        repr=False,
        description="more connection parameters, as a query string (search_path=temporal&sslmode=require)",
    )
    tls: bool | None = Field(
        None,
        description="use TLS and check the server's certificate (recommended); unset: as libpq decides (PGSSLMODE)",
    )
    tls_ca_file: Path | None = Field(None, description="certificates of the authorities to trust")
    tls_cert_file: Path | None = Field(None, description="client certificate")
    tls_key_file: Path | None = Field(None, description="client certificate's key")
    tls_server_name: str | None = Field(None, description="name expected in the server's certificate")
    tls_disable_host_verification: bool | None = Field(
        None, description="accept a certificate for any name; without a CA file, accept any certificate"
    )
    plugin: Literal["postgres12", "postgres12_pgx"] | None = Field(
        None, description="the vendor's name for the kind of database"
    )
    direct_host: Annotated[str | None, BeforeValidator(hosts.bare)] = Field(
        None,
        description="address of the server behind a transaction pooler, for CREATE INDEX CONCURRENTLY and online"
        " rewrites",
    )
    direct_port: Annotated[str | None, BeforeValidator(hosts.ports)] = Field(
        None, description="port of the server behind a transaction pooler"
    )

    def over(self, broad: Self) -> Self:
        """Return these settings, completed by the broad ones.

        If these settings give the password in any way, no broad way to give it applies.
        """
        own = self.model_fields_set
        kept = own | PASSWORDS if own & PASSWORDS else own
        return self.model_copy(update={name: getattr(broad, name) for name in broad.model_fields_set - kept})

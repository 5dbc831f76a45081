"""Schema revisions of the catalog: which one it has, and migrating it to the newest."""

from __future__ import annotations

from sqlalchemy import Connection

from layerdex.errors import DamagedIndexError, SchemaError

SCHEMA_VERSION = "0004"
OLDER_SCHEMAS: tuple[str, ...] = ("0002", "0003")
"""Revisions that `apply_migrations` brings to `SCHEMA_VERSION`."""

REVISION_FOLDERS = ["layerdex:storage/catalog/migrations/versions"]


def apply_migrations(connection: Connection) -> None:
    """Bring a catalog, or an empty database, to the newest revision."""
    from alembic.command import upgrade
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "layerdex:storage/catalog/migrations")
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(REVISION_FOLDERS))
    config.attributes["connection"] = connection
    upgrade(config, "head")


def check_schema(connection: Connection) -> None:
    """Raise `SchemaError` unless the catalog has the newest revision."""
    version = read_schema(connection)
    if version == SCHEMA_VERSION:
        return
    if version in OLDER_SCHEMAS:
        raise SchemaError(
            f"this index now has schema {version}, from a backup of an older version: open it again"
        )
    if str(version) < SCHEMA_VERSION:
        raise SchemaError(
            f"this index has schema {version} of an early development version, which cannot be "
            f"migrated to {SCHEMA_VERSION}: create the index again from its documents"
        )
    raise SchemaError(
        f"this index has schema {version}, and this version of Layerdex reads "
        f"{SCHEMA_VERSION}: use a newer Layerdex"
    )


def read_schema(connection: Connection) -> str | None:
    """Return the revision of the catalog's schema.

    Raises `DamagedIndexError` for a catalog with a view, a trigger or a virtual table: Layerdex
    creates none, and those of a forged catalog could compute without end.
    """
    foreign = connection.exec_driver_sql(
        "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') "
        "OR sql LIKE 'create virtual%' LIMIT 1"
    ).scalar()
    if foreign is not None:
        raise DamagedIndexError(f"the catalog holds {foreign!a}, which Layerdex never creates")
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()

"""Alembic's environment: runs migrations on the connection that `apply_migrations` passes."""

from alembic import context

from layerdex.storage.catalog.schema import SCHEMA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SCHEMA,
    render_as_batch=True,  # SQLite cannot alter most things in place
)
with context.begin_transaction():
    context.run_migrations()

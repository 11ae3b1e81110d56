"""Alembic's environment: always on the connection, and in the transaction, that it is given."""

from alembic import context

from sfumato.adapters.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()

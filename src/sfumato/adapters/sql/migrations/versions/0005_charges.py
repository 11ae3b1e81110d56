"""What jobs cost, and a book of it that outlives them.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

#: Database -> a job's day and its model, in its words.
_DAY_AND_MODEL = {
    "sqlite": "CAST(finished_at / 86400 AS INTEGER), json_extract(settings, '$.model')",
    "postgresql": "floor(finished_at / 86400), settings::json ->> 'model'",
}
_COLUMNS = "day, model, job_id, attempt, at, owner, runtime, images, gpu_seconds"
_VALUES = """
    SELECT DAY, MODEL, id, attempt, finished_at, owner, runtime, num_images, gpu_seconds
    FROM jobs WHERE gpu_seconds IS NOT NULL AND finished_at IS NOT NULL
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cost", sa.Float(precision=53), nullable=True))
    op.add_column("jobs", sa.Column("currency", sa.String(length=16), nullable=True))
    op.create_table(
        "charges",
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("runtime", sa.String(length=255), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("gpu_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("cost", sa.Float(precision=53), nullable=True),
        sa.Column("currency", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "attempt", name=op.f("pk_charges")),
    )
    op.create_index(op.f("ix_charges_at"), "charges", ["at"], unique=False)
    op.create_index(op.f("ix_charges_owner_at"), "charges", ["owner", "at"], unique=False)
    # Until now only jobs that succeeded had such seconds, and no job had a price.
    values = _VALUES.replace("DAY, MODEL", _DAY_AND_MODEL[op.get_bind().dialect.name])
    op.execute(f"INSERT INTO charges ({_COLUMNS}) {values}")

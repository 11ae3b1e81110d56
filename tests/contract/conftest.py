"""The suites live in modules of their own; their assertions should explain themselves too."""

import pytest

pytest.register_assert_rewrite(
    "tests.contract.api_keys",
    "tests.contract.assignments",
    "tests.contract.cost_book",
    "tests.contract.image_store",
    "tests.contract.job_attempts",
    "tests.contract.job_queue",
    "tests.contract.job_records",
    "tests.contract.job_store",
    "tests.contract.webhook_store",
    "tests.contract.workers",
)

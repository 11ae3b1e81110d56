"""The seed systems' wire contracts: every row goes over TCP to a service with a worker beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.integration.api.seed_contracts import CONTRACTS, Contract
from tests.integration.api.seed_tests import ELSEWHERE, check
from tests.integration.api.serving import context_of, serving
from tests.support.parts import open_house


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service() -> AsyncIterator[httpx.AsyncClient]:
    """One service for all contracts; each has an id of its own."""
    async with (
        open_house() as house,
        house.working(),
        serving(context_of(house)) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_contract(service: httpx.AsyncClient, contract: Contract) -> None:
    answer = await service.request(
        contract.method, contract.path, json=contract.body, headers=contract.headers
    )
    assert answer.status_code == contract.status, answer.text
    assert answer.headers["Content-Type"].partition(";")[0] == contract.media_type
    assert contract.holds(answer), answer.text


@pytest.mark.parametrize("contract", ELSEWHERE)
def test_what_is_tested_elsewhere_is_there(contract: str) -> None:
    for reference in ELSEWHERE[contract]:
        check(reference)

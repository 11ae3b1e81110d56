from __future__ import annotations

import pytest

from sfumato.engine.engine import DiffusionEngine
from tests.support.tiny_models import TinyModel, make_model
from tests.support.tiny_xl import TinyXl, make_xl


@pytest.fixture(scope="session")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return make_model(tmp_path_factory.mktemp("models"), "sd1")


@pytest.fixture(scope="session")
def sd2(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return make_model(tmp_path_factory.mktemp("models"), "sd2", prediction_type="v_prediction")


@pytest.fixture(scope="session")
def xl(tmp_path_factory: pytest.TempPathFactory) -> TinyXl:
    return make_xl(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> TinyXl:
    return make_xl(tmp_path_factory.mktemp("models"), "tiny-refiner", refiner=True)


@pytest.fixture
def engine(sd1: TinyModel) -> DiffusionEngine:
    """With the tiny SD 1 loaded. One thread: so small a network only waits for a second."""
    engine = DiffusionEngine("cpu", threads=1)
    engine.load(sd1.info)
    return engine

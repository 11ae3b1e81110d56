"""Errors, samplers, runtimes and ids: the names that clients rely on."""

import pytest

from sfumato.core import errors
from sfumato.core.ids import new_job_id
from sfumato.core.runtimes import Runtime, choose_runtime
from sfumato.core.samplers import SAMPLERS, SCHEDULES, resolve_sampler, resolve_schedule


def _tree(root: type[errors.SfumatoError]) -> list[type[errors.SfumatoError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


def test_every_error_has_a_code_of_its_own_and_stands_in_the_drawn_tree() -> None:
    classes = _tree(errors.SfumatoError)
    codes = [cls.code for cls in classes if "code" in vars(cls)]
    assert len(set(codes)) == len(codes)
    assert all("code" in vars(cls) for cls in classes if cls.__module__ == errors.__name__)
    ours = [cls for cls in classes if cls.__module__ == errors.__name__]
    assert all(cls.__name__ in (errors.__doc__ or "") for cls in ours)


def test_an_error_as_data_leaves_out_what_it_does_not_know() -> None:
    error = errors.UnknownModel("There is no model 'x'.", field="model", accepted=("a", "b"))
    assert error.as_dict() == {
        "code": "unknown_model",
        "message": "There is no model 'x'.",
        "field": "model",
        "accepted": ["a", "b"],
    }
    assert errors.NotFound("No.").as_dict() == {"code": "not_found", "message": "No."}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_spelling_of_a_sampler_resolves(name: str) -> None:
    for spelling in (name, name.upper(), *SAMPLERS[name]):
        assert resolve_sampler(spelling) == (name, None)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_spelling_of_a_schedule_resolves_apart_or_in_the_samplers_name(name: str) -> None:
    for spelling in (name, name.upper(), *SCHEDULES[name]):
        assert resolve_schedule(spelling) == name
        assert resolve_sampler("Euler a", spelling) == ("euler_a", name)
        assert resolve_sampler(f"DPM++ SDE {spelling}") == ("dpmpp_sde", name)
        assert resolve_sampler(f"DPM++ SDE {spelling}", name) == ("dpmpp_sde", name)


def test_names_as_a1111_and_diffusers_say_them() -> None:
    assert resolve_sampler("DPM++ 2M SDE Karras") == ("dpmpp_2m_sde", "karras")
    assert resolve_sampler("DPM++ 2M", "Automatic") == ("dpmpp_2m", None)
    assert resolve_sampler("DPM++ 2M Karras", "Automatic") == ("dpmpp_2m", "karras")
    diffusers = "DPMSolverMultistepScheduler use_karras_sigmas=True"
    assert resolve_sampler(diffusers) == ("dpmpp_2m", "karras")


def test_two_schedules_in_one_request_are_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match="says karras, but schedule is beta") as caught:
        resolve_sampler("DPM++ 2M Karras", "Beta")
    assert caught.value.field == "schedule"


def test_an_unknown_schedule_lists_the_near_ones() -> None:
    with pytest.raises(errors.UnknownSchedule, match="karras") as caught:
        resolve_sampler("Euler", "karas")
    assert caught.value.field == "schedule"
    assert caught.value.accepted == list(SCHEDULES)


def test_an_unknown_sampler_lists_the_near_ones() -> None:
    with pytest.raises(errors.UnknownSampler, match="euler") as caught:
        resolve_sampler("eular")
    assert caught.value.field == "sampler"
    assert caught.value.accepted == list(SAMPLERS)


def test_the_first_runtime_that_serves_the_model_is_chosen() -> None:
    small, large = Runtime("small", models=("starter",)), Runtime("large")
    assert choose_runtime([small, large], name=None, model="starter") is small
    assert choose_runtime([small, large], name=None, model="sdxl") is large
    with pytest.raises(errors.UnknownRuntime) as caught:
        choose_runtime([small], name="small", model="sdxl")
    assert caught.value.field == "runtime"
    with pytest.raises(errors.UnknownRuntime, match="'large'"):
        choose_runtime([small, large], name="larg", model="sdxl")


def test_job_ids_sort_as_they_were_made() -> None:
    ids = [new_job_id(now) for now in (1.0, 1.5, 1e9, 2e9)]
    assert ids == sorted(ids)
    assert {len(job_id) for job_id in ids} == {26}
    assert len({new_job_id(5.0) for _ in range(1000)}) == 1000

"""Each table against diffusers' own solver, around a network that is a fixed function."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.engine.samplers import Coefficients, State, advance, table_for
from sfumato.engine.schedules import NoiseSchedule
from tests.unit.engine.samplers.running import BASE, SHAPE, Network, by_table, network

# diffusers' own solvers hand tensors to numpy in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

SDE = {"algorithm_type": "sde-dpmsolver++"}
#: Where each lies in diffusers, and what it is to be told. k-diffusion's 2S a and SDE it has not,
#: or with a noise that can't be drawn again: see test_published.py.
DIFFUSERS: Mapping[str, tuple[str, str, Mapping[str, object]]] = {
    "ddpm": ("ddpm", "DDPMScheduler", {}),
    "ddim": ("ddim", "DDIMScheduler", {}),
    "euler": ("euler_discrete", "EulerDiscreteScheduler", {}),
    "euler_a": ("euler_ancestral_discrete", "EulerAncestralDiscreteScheduler", {}),
    "heun": ("heun_discrete", "HeunDiscreteScheduler", {}),
    "lms": ("lms_discrete", "LMSDiscreteScheduler", {}),
    "plms": ("pndm", "PNDMScheduler", {"skip_prk_steps": True}),
    "dpm2": ("k_dpm_2_discrete", "KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("k_dpm_2_ancestral_discrete", "KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("dpmsolver_multistep", "DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_sde": ("dpmsolver_multistep", "DPMSolverMultistepScheduler", SDE),
    "dpmpp_3m_sde": (
        "dpmsolver_multistep",
        "DPMSolverMultistepScheduler",
        {**SDE, "solver_order": 3},
    ),
    "unipc": ("unipc_multistep", "UniPCMultistepScheduler", {}),
    "lcm": ("lcm", "LCMScheduler", {}),
    "tcd": ("tcd", "TCDScheduler", {}),
}
DETERMINISTIC = ["ddim", "euler", "heun", "lms", "plms", "dpm2", "dpmpp_2m", "unipc"]
FLAGS = {
    "karras": "use_karras_sigmas",
    "exponential": "use_exponential_sigmas",
    "beta": "use_beta_sigmas",
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def solver_of(name: str, config: Mapping[str, object]) -> Any:
    module, class_name, extra = DIFFUSERS[name]
    if name == "lms" or config.get("use_beta_sigmas"):
        pytest.importorskip("scipy", reason="diffusers' own needs SciPy here")
    found = importlib.import_module(f"diffusers.schedulers.scheduling_{module}")
    return getattr(found, class_name).from_config({**config, **extra})


def by_diffusers(name: str, config: Mapping[str, object], steps: int, predict: Network) -> Tensor:
    return run(solver_of(name, config), steps, predict, start=None)


def run(solver: Any, steps: int, predict: Network, start: Tensor | None) -> Tensor:
    solver.set_timesteps(steps)
    if hasattr(solver, "set_begin_index"):  # else it guesses, wrongly where two timesteps are one
        solver.set_begin_index(0)
    generator = torch.Generator().manual_seed(11)
    scale = getattr(solver, "init_noise_sigma", 1.0)
    noise = torch.randn(SHAPE, generator=generator)
    latents = noise * scale if start is None else start * scale
    draws = "generator" in inspect.signature(solver.step).parameters
    extra = {"generator": generator} if draws else {}
    for timestep in solver.timesteps:
        scaled = latents
        if hasattr(solver, "scale_model_input"):
            scaled = solver.scale_model_input(latents, timestep)
        output = predict(scaled, timestep.reshape(1))
        latents = solver.step(output, timestep, latents, **extra).prev_sample
    return latents


def check(found: Tensor, expected: Tensor) -> None:
    # The stand-in lets some latents grow into the hundreds; then 1e-4 is of their size.
    assert found.isfinite().all()
    assert (found - expected).abs().max() < 1e-4 * max(1, expected.abs().max())


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 20, 50])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", list(DIFFUSERS))
def test_the_table_ends_where_diffusers_solver_ends(name: str, prediction: str, steps: int) -> None:
    config = {**BASE, "prediction_type": prediction}
    predict = network()
    expected = by_diffusers(name, config, steps, predict)
    check(by_table(name, NoiseSchedule.from_config(config), steps, predict), expected)


@pytest.mark.parametrize("flag", FLAGS.values(), ids=list(FLAGS))
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "name", ["euler", "heun", "lms", "dpm2", "dpm2_a", "dpmpp_2m", "dpmpp_2m_sde", "unipc"]
)
def test_schedules_that_a_models_config_names(name: str, prediction: str, flag: str) -> None:
    config = {**BASE, "prediction_type": prediction, flag: True}
    predict = network()
    for steps in (4, 20, 50):
        expected = by_diffusers(name, config, steps, predict)
        check(by_table(name, NoiseSchedule.from_config(config), steps, predict), expected)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("name", list(DIFFUSERS))
def test_spacing_and_zero_terminal_snr_follow_the_models_config(
    name: str, spacing: str, zero_snr: bool
) -> None:
    config = {
        **BASE,
        "prediction_type": "v_prediction",
        "timestep_spacing": spacing,
        "rescale_betas_zero_snr": zero_snr,
    }
    understood = inspect.signature(type(solver_of(name, config)).__init__).parameters
    if "timestep_spacing" not in understood or (
        zero_snr and "rescale_betas_zero_snr" not in understood
    ):
        pytest.skip("diffusers' solver takes no such config")
    predict = network()
    for steps in (4, 12, 20):
        expected = run(solver_of(name, config), steps, predict, None)
        found = by_table(name, NoiseSchedule.from_config(config), steps, predict)
        # diffusers' Euler carries latents of size 4096 in float32 at zero terminal SNR.
        tolerance = 2e-3 if zero_snr and name.startswith("euler") else 1e-4
        assert (found - expected).abs().max() < tolerance * max(1, expected.abs().max())


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp_2m", "unipc", "lcm", "tcd", "lms"])
def test_every_beta_schedule_and_a_network_that_predicts_the_picture(
    name: str, beta_schedule: str
) -> None:
    config = {**BASE, "prediction_type": "sample", "beta_schedule": beta_schedule}
    predict = network()
    expected = by_diffusers(name, config, 8, predict)
    check(by_table(name, NoiseSchedule.from_config(config), 8, predict), expected)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "module", "class_name"),
    [
        ("euler", "flow_match_euler_discrete", "FlowMatchEulerDiscreteScheduler"),
        ("heun", "flow_match_heun_discrete", "FlowMatchHeunDiscreteScheduler"),
        ("dpmpp_2m", "dpmsolver_multistep", "DPMSolverMultistepScheduler"),
        ("dpmpp_2m_sde", "dpmsolver_multistep", "DPMSolverMultistepScheduler"),
        ("unipc", "unipc_multistep", "UniPCMultistepScheduler"),
    ],
)
def test_flows(name: str, module: str, class_name: str, shift: float) -> None:
    config: dict[str, object] = {"_class_name": class_name, "num_train_timesteps": 1000}
    if class_name.startswith("FlowMatch"):
        config["shift"] = shift
    else:
        extra = {"use_flow_sigmas": True, "flow_shift": shift}
        config |= {"prediction_type": "flow_prediction", **extra}
    solver_class = getattr(
        importlib.import_module(f"diffusers.schedulers.scheduling_{module}"), class_name
    )
    predict = network()
    for steps in (4, 20, 50):
        solver = solver_class.from_config({**config, **(SDE if name.endswith("sde") else {})})
        expected = run(solver, steps, predict, None)
        check(by_table(name, NoiseSchedule.from_config(config), steps, predict), expected)


@pytest.mark.parametrize("flag", ["use_karras_sigmas", "use_exponential_sigmas"])
def test_schedules_of_a_flow(flag: str) -> None:
    found = importlib.import_module("diffusers.schedulers.scheduling_flow_match_euler_discrete")
    config = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0, flag: True}
    predict = network()
    for steps in (4, 20):
        solver = found.FlowMatchEulerDiscreteScheduler.from_config(config)
        expected = run(solver, steps, predict, None)
        check(by_table("euler", NoiseSchedule.from_config(config), steps, predict), expected)


@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_coefficient_is_diffusers_own(name: str, steps: int) -> None:
    """The solvers are linear in the first latents and in each output: units read them off."""
    config = {**BASE, "prediction_type": "epsilon"}
    table = table_for(name, steps, NoiseSchedule.from_config(config))

    def of_table(start: Tensor, outputs: Tensor) -> Tensor:
        state = State(start * table.initial_scale)
        for row in range(len(table)):
            coefficients = Coefficients.gather([(table, row)])
            state = advance(state, outputs[row], None, coefficients, table.memory)
        return state.latents

    def of_diffusers(start: Tensor, outputs: Tensor) -> Tensor:
        calls = iter(outputs)
        return run(solver_of(name, config), steps, lambda *_: next(calls), start)

    start, outputs = torch.zeros(SHAPE), torch.zeros(len(table), *SHAPE)
    # One cell of the latents for the start and for each output: all are read in one run.
    start.view(-1)[0] = 1
    for row in range(len(table)):
        outputs[row].view(-1)[row + 1] = 1
    cells = 1 + len(table)
    found = of_table(start, outputs).flatten()[:cells].numpy()
    expected = of_diffusers(start, outputs).flatten()[:cells].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

"""Where the seeds' contracts and defects are tested: files from the folder of all tests, and names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

TESTS = Path(__file__).parents[2]

#: Files of tests, from the folder of all of them.
HERE, AWS = "integration/api/test_seed_defects.py", "integration/api/test_http_aws.py"
AMQP, AMQP_SYSTEM = "integration/amqp/test_tasks.py", "system/test_amqp_tasks.py"
SQS, SQS_SYSTEM = "integration/sqs/test_tasks.py", "system/test_sqs_tasks.py"
READING, RESULTS = "unit/core/test_tasks.py", "integration/services/test_task_results.py"
#: What goes over no HTTP of ours, and where it is tested.
ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "2.2 the queue `tasks` and its objects": (
        f"{AMQP}::test_a_task_gets_an_id_that_stays_with_it",
        f"{AMQP}::test_a_count_that_is_none_is_one",
        f"{AMQP_SYSTEM}::test_a_job_takes_one_task_writes_its_objects_and_ends",
    ),
    "2.3 SNS's envelope, objects, document and notification": (
        f"{SQS}::test_a_v0_task_in_an_envelope",
        f"{READING}::test_v0_answers",
        f"{AWS}::test_v0_is_taken_at_once_and_its_results_lie_where_it_says",
    ),
    "2.4 v1alpha1 from a queue": (f"{READING}::test_v1alpha1_has_a_folder_of_its_own",),
    "2.5 published, told when it runs and when it ends": (
        f"{SQS}::test_a_v1alpha2_task_raw",
        f"{SQS}::test_that_a_v1alpha2_task_runs_is_told_where_somebody_asks",
        f"{RESULTS}::test_what_becomes_of_a_task_is_told_to_the_sink",
    ),
    "2.7 how many workers": (
        "unit/services/test_placement.py::test_workers_follow_the_open_jobs_up_to_the_maximum",
    ),
}


#: Defect -> the tests that show it is not here, or why it is not about an API.
DEFECTS: Mapping[str, tuple[str, ...] | str] = {
    "D1": (f"{AMQP_SYSTEM}::test_killed_in_mid_task_it_comes_again_and_writes_one_set_of_objects",),
    "D2": (f"{AMQP_SYSTEM}::test_a_job_takes_one_task_writes_its_objects_and_ends",),
    "D3": (f"{AMQP}::test_a_failure_is_told_beside_the_pictures_place",),
    "D4": (
        f"{AMQP}::test_a_task_gets_an_id_that_stays_with_it",
        f"{AMQP}::test_a_count_that_is_none_is_one",
    ),
    "D5": (f"{HERE}::test_d5_one_bad_job_breaks_no_listing_and_each_tells_its_status",),
    "D6": (
        f"{HERE}::test_d6_d18_a_prompt_is_a_prompt",
        f"{AMQP_SYSTEM}::test_a_job_takes_one_task_writes_its_objects_and_ends",
    ),
    "D7": (f"{HERE}::test_d7_a_task_that_no_runtime_would_hear_of_is_refused",),
    "D8": (
        f"{HERE}::test_d8_what_no_fixed_runtime_serves_goes_to_the_one_that_serves_everything",
        f"{HERE}::test_d8_a_runtime_of_fixed_models_draws_with_its_own",
    ),
    "D9": (
        f"{SQS_SYSTEM}::test_killed_in_mid_task_it_comes_again_and_writes_one_set_of_objects",
        f"{SQS}::test_a_second_delivery_writes_the_same_objects",
    ),
    "D10": (f"{READING}::test_what_can_not_be_answered_is_no_task",),
    "D11": (
        f"{HERE}::test_d11_a_trace_header_is_nobody_s_business",
        f"{SQS}::test_a_v1alpha2_task_raw",
    ),
    "D12": "how a pod of three containers ends; a worker here is one process",
    "D13": "where settings stand in KEDA's manifests",
    "D14": "manifests that a README still describes",
    "D15": (
        f"{HERE}::test_d15_an_id_is_one_task",
        f"{READING}::test_two_messages_of_one_id_write_different_objects",
    ),
    "D16": (f"{HERE}::test_d16_an_id_leads_nowhere_else",),
    "D17": (f"{HERE}::test_d17_pipeline_is_refused_for_what_it_is",),
    "D18": (
        f"{HERE}::test_d6_d18_a_prompt_is_a_prompt",
        f"{READING}::test_a_prompt_that_looks_like_a_link_stays_a_prompt",
    ),
    "D19": (f"{HERE}::test_d19_a_picture_in_a_bucket_is_refused_at_once",),
    "D20": (
        f"{SQS}::test_what_is_no_task_is_set_aside_and_its_words_stay_out_of_the_log",
        f"{SQS}::test_a_copy_made_at_twelve_hours_is_the_same_task",
    ),
    "D21": (f"{HERE}::test_d21_an_unknown_type_is_an_answer",),
    "D22": (f"{HERE}::test_d22_the_id_has_both_names_and_a_missing_key_one_status",),
    "D23": (f"{HERE}::test_d23_what_is_too_much_is_refused_and_said",),
    "D24": (f"{HERE}::test_d24_probes_tell_life_from_readiness",),
    "D25": "an Argo workflow's test of success",
}


def check(reference: str) -> None:
    file, _, name = reference.partition("::")
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE)

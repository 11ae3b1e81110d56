"""Amazon SQS and SNS: the doorbell, and tasks in the formats of other systems."""

from sfumato.adapters.sqs.queue import SqsJobQueue

__all__ = ["SqsJobQueue"]

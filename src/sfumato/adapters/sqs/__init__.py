"""Amazon SQS and SNS: the doorbell, and tasks in the formats of other systems."""

from sfumato.adapters.sqs.queue import SqsJobQueue
from sfumato.adapters.sqs.tasks import SqsTaskSink, SqsTaskSource

__all__ = ["SqsJobQueue", "SqsTaskSink", "SqsTaskSource"]

"""RabbitMQ (3.10 and later) through aio-pika: the doorbell, and the ``tasks`` queue of others."""

from sfumato.adapters.amqp.job_queue import AmqpJobQueue
from sfumato.adapters.amqp.results import FlatTaskSink
from sfumato.adapters.amqp.tasks import AmqpTaskSource

__all__ = ["AmqpJobQueue", "AmqpTaskSource", "FlatTaskSink"]

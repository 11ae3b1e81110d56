"""RabbitMQ (3.10 and later) through aio-pika: the doorbell, and the ``tasks`` queue of others."""

from sfumato.adapters.amqp.job_queue import AmqpJobQueue

__all__ = ["AmqpJobQueue"]

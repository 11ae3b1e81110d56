"""PostgreSQL, RabbitMQ, S3 and SNS/SQS for tests: found on this machine, or started.

Nothing but the standard library is imported until a server is asked for.
"""

from scripts.servers.aws import PrivateAws
from scripts.servers.missing import Missing
from scripts.servers.postgres import PrivatePostgres
from scripts.servers.process import Server
from scripts.servers.rabbitmq import PrivateRabbit
from scripts.servers.s3 import PrivateS3

__all__ = ["Missing", "PrivateAws", "PrivatePostgres", "PrivateRabbit", "PrivateS3", "Server"]

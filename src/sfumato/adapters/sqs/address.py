"""What ``sqs://region/name?option=value`` says."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from sfumato.core.errors import StartupRefused

_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_TOPIC = re.compile(r"(arn:[a-z-]+:sns:[a-z0-9-]+:\d+:)?[A-Za-z0-9_-]{1,256}")


@dataclass(frozen=True, slots=True)
class SqsAddress:
    """A queue, or the prefix of queues, in one region."""

    region: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(
        cls, url: str, *, setting: str, default_name: str | None = None, options: Collection[str]
    ) -> SqsAddress:
        """Read a URL.

        Args:
            setting: the setting that it stands in, named where it is wrong.
            default_name: what a URL without a name means; None: it needs one.
            options: what may stand behind the question mark.

        Raises:
            StartupRefused: without a word of the URL itself, which may hold a secret by mistake.
        """
        parts = urlsplit(url)
        name = parts.path.strip("/") or default_name or ""
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        known = "".join(f"&{option}=…" for option in options).replace("&", "?", 1)
        accepted = f"sqs://region/{default_name or 'queue-name'}{known}, as sqs://eu-west-1/sfumato"
        if "@" in parts.netloc:
            problem = (
                "holds a user or a password. Leave them out: AWS's own variables, files and roles "
                "are looked at, as by its other tools"
            )
        elif not _REGION.fullmatch(parts.netloc):
            problem = "names no region of AWS"
        elif not _NAME.fullmatch(name):
            problem = "needs a name of letters, digits, - and _, 80 at most"
        elif not _TOPIC.fullmatch(given.get("topic", "x")):
            problem = "names no SNS topic"
        elif unknown := sorted(given.keys() - set(options)):
            problem = f"has the unknown option {unknown[0]!r}"
        else:
            return cls(parts.netloc, name, given)
        raise StartupRefused(
            f"SFUMATO_{setting.upper()} {problem}.", field=setting, accepted=accepted
        )

"""Three calls of Kubernetes' API, over HTTPS as the pod's service account."""

from __future__ import annotations

import ssl
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sfumato.core.errors import Forbidden, NotFound, SfumatoError, Unavailable

_TIMEOUT = httpx.Timeout(5.0)
#: Objects of one answer; a namespace of more is looked at by its first.
_LIMIT = 500


class _ServiceAccount(httpx.Auth):
    """The token is read anew for each call: the kubelet replaces it every hour or so."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        try:
            token = self._file.read_text().strip()
        except OSError as error:
            raise Forbidden(
                f"There is no token of a service account in {self._file}: {error.strerror}. "
                "Set automountServiceAccountToken for this pod."
            ) from None
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


class KubernetesApi:
    """``async with`` it.

    Args:
        address: of the API server.
        credentials: the folder that the kubelet mounts: ``token`` and ``ca.crt``.
    """

    def __init__(self, address: str, credentials: Path) -> None:
        self._address = address
        self._credentials = credentials
        self._http: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"KubernetesApi({self._address!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def annotate_pod(
        self, namespace: str, name: str, annotations: Mapping[str, str | None]
    ) -> None:
        """Set annotations of a pod; None takes one away.

        Raises ``Unavailable``, ``Forbidden`` or ``NotFound``.
        """
        await self._call(
            "PATCH",
            f"/api/v1/namespaces/{namespace}/pods/{name}",
            json={"metadata": {"annotations": annotations}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def list_pods(self, namespace: str, *, labels: str) -> list[dict[str, Any]]:
        """Pods that a label selector names. Raises ``Unavailable`` or ``Forbidden``."""
        return await self._list(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": labels})

    async def list_pod_events(self, namespace: str) -> list[dict[str, Any]]:
        """Events of every pod. Raises ``Unavailable`` or ``Forbidden``."""
        of_pods = {"fieldSelector": "involvedObject.kind=Pod"}
        return await self._list(f"/api/v1/namespaces/{namespace}/events", of_pods)

    async def _list(self, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
        answer = await self._call("GET", path, params={**params, "limit": str(_LIMIT)})
        try:
            items = answer.json()["items"]
        except (ValueError, KeyError, TypeError):
            items = None
        if not isinstance(items, list):
            raise Unavailable(f"{self._address} does not answer as an API server does.")
        return items

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = await self._client().request(method, path, **options)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"The API server {self._address} does not answer: {_told(error)}."
            ) from None
        if answer.is_success:
            return answer
        raise _refusal(answer, f"{method} {path}")

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                base_url=self._address,
                verify=self._trusted(),
                auth=_ServiceAccount(self._credentials / "token"),
                timeout=_TIMEOUT,
                trust_env=False,  # the token is for this server, not for a proxy
            )
        return self._http

    def _trusted(self) -> ssl.SSLContext:
        authority = self._credentials / "ca.crt"
        try:
            return ssl.create_default_context(cafile=authority)
        except OSError as error:  # ssl.SSLError is one
            raise Forbidden(
                f"The certificate of the cluster's authority, {authority}, can't be read: {error}."
            ) from None


def _told(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


def _refusal(answer: httpx.Response, call: str) -> SfumatoError:
    try:
        said = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        said = answer.reason_phrase
    message = f"{call} was answered with {answer.status_code}: {said[:300]}"
    match answer.status_code:
        case 401 | 403:
            return Forbidden(message)
        case 404:
            return NotFound(message)
    return Unavailable(message)

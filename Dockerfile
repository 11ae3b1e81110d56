# syntax=docker/dockerfile:1
# check=error=true
#
# Two images: `api`, the service, small and without torch, and `worker`, which draws.
#   make images             both, for this machine's Docker
#   make images GPU=""      the worker for processors alone: no CUDA in it
# Everything that is written at run time lies in /tmp or in /var/lib/sfumato, so the root may be
# read-only. A private package index: --secret id=pip,src=pip.conf; it stays in no layer.

# A digest pins it: --build-arg PYTHON_IMAGE=docker.io/library/python@sha256:…
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
# HOME is /tmp for the caches that know no variable of their own: Triton's kernels, CUDA's, the hub's.
ENV PATH=/opt/sfumato/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    SFUMATO_DATA=/var/lib/sfumato
# By name, too: getpass, and with it torch's compiler, fails for a user whom nobody knows.
RUN echo 'sfumato:x:65532:' >> /etc/group \
 && echo 'sfumato:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd \
 && install -d -o 65532 -g 65532 -m 0755 /var/lib/sfumato
WORKDIR /var/lib/sfumato


# What both are built with. Packages come as wheels: nothing is compiled, and no setup.py runs.
FROM base AS build
ARG SOURCE_DATE_EPOCH
ENV PIP_CACHE_DIR=/root/.cache/pip \
    PIP_CONSTRAINT=/build/constraints.txt \
    PIP_NO_COMPILE=1 \
    PIP_ONLY_BINARY=:all:
WORKDIR /build
RUN python -m venv --without-pip /opt/sfumato
COPY pyproject.toml constraints.txt deploy/images/requirements.py deploy/images/compile.py ./

FROM build AS wheel
COPY README.md LICENSE ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip wheel --quiet --no-deps --wheel-dir /dist .


# The dependencies apart from our own code, so that a change of ours moves a small layer alone.
FROM build AS api-dependencies
ARG API_EXTRAS="amqp aws keda postgres telemetry"
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    python requirements.py ${API_EXTRAS} > requirements.txt \
 && pip --python /opt/sfumato/bin/python install --quiet --requirement requirements.txt \
 && python compile.py /opt/sfumato

FROM build AS worker-dependencies
# PyPI's torch brings CUDA. Without: https://download.pytorch.org/whl/cpu; for older drivers
# another CUDA: https://download.pytorch.org/whl/cu126.
ARG TORCH_INDEX=https://pypi.org/simple
# hadolint ignore=DL3013 # constraints.txt pins it
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/sfumato/bin/python install --quiet --index-url "${TORCH_INDEX}" torch
ARG WORKER_EXTRAS="amqp aws engine postgres telemetry"
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    python requirements.py ${WORKER_EXTRAS} > requirements.txt \
 && pip --python /opt/sfumato/bin/python install --quiet --requirement requirements.txt \
 && python compile.py /opt/sfumato


FROM base AS api
COPY --link --from=api-dependencies /opt/sfumato /opt/sfumato
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    --mount=type=bind,source=deploy/images/compile.py,target=/compile.py \
    pip --python /opt/sfumato/bin/python install --quiet --no-cache-dir --no-compile --no-deps --no-index \
        /dist/sfumato-*.whl \
 && python /compile.py /opt/sfumato sfumato
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sfumato API" \
      org.opencontainers.image.description="The service of Sfumato: pictures from prompts. No engine." \
      org.opencontainers.image.source="https://github.com/sfumato/sfumato" \
      org.opencontainers.image.documentation="https://github.com/sfumato/sfumato/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Without an engine it starts no workers of its own.
ENV SFUMATO_HOST=0.0.0.0 \
    SFUMATO_MAX_WORKERS=0
USER 65532:65532
EXPOSE 8080 9090 9091
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as http; http.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["sfumato"]
CMD ["serve"]


FROM base AS worker
COPY --link --from=worker-dependencies /opt/sfumato /opt/sfumato
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    --mount=type=bind,source=deploy/images/compile.py,target=/compile.py \
    pip --python /opt/sfumato/bin/python install --quiet --no-cache-dir --no-compile --no-deps --no-index \
        /dist/sfumato-*.whl \
 && python /compile.py /opt/sfumato sfumato
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Sfumato worker" \
      org.opencontainers.image.description="A worker of Sfumato: claims jobs and draws them." \
      org.opencontainers.image.source="https://github.com/sfumato/sfumato" \
      org.opencontainers.image.documentation="https://github.com/sfumato/sfumato/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# NVIDIA_VISIBLE_DEVICES is left to whoever runs this: in an image, "all" would give every GPU of
# the node to pods that asked for none.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    SFUMATO_INTERNAL_PORT=9090
USER 65532:65532
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as http; http.urlopen('http://127.0.0.1:9090/livez', timeout=4)"]
ENTRYPOINT ["sfumato"]
CMD ["worker"]

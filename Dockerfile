# There is one base image, so only one has to be mirrored. Everything is built on the builder's own architecture and only
# copied into the last stage, so an image for another architecture needs no emulation.
ARG BASE_IMAGE=python:3.13-slim-bookworm


FROM --platform=$BUILDPLATFORM ${BASE_IMAGE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# Mirrors for packages and modules; uv.lock and vendor/go.sum have the hashes that they must have.
ARG PIP_INDEX_URL
RUN pip install --quiet uv==0.13.9
COPY pyproject.toml uv.lock ./


# The vendor's files of every pinned release, and its tool of one.
FROM tools AS vendor
ARG PIP_INDEX_URL
ARG GOPROXY
RUN uv export --quiet --frozen --only-group vendor --output-file go.txt \
 && pip install --quiet --require-hashes --requirement go.txt
COPY vendor vendor
RUN python vendor/fetch.py
ARG TEMPORAL_VERSION=1.32.2
ARG TARGETARCH
RUN GOARCH=$TARGETARCH python vendor/build_tool.py "$TEMPORAL_VERSION" \
 && install -D "$(python vendor/build_tool.py --print-path "$TEMPORAL_VERSION")" sql-tool/temporal-sql-tool


# The package and its locked dependencies, as wheels of the target's architecture.
FROM tools AS package
ARG PIP_INDEX_URL
ARG TARGETARCH
RUN uv export --quiet --frozen --no-dev --no-emit-project --extra namespaces --output-file requirements.txt \
 && machine=$(test "$TARGETARCH" = arm64 && echo aarch64 || echo x86_64) \
 && pip install --quiet --require-hashes --requirement requirements.txt --target dependencies --only-binary :all: \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine"
COPY README.md LICENSE ./
COPY src src
RUN pip install --quiet --no-deps --target package . \
 && rm -rf dependencies/bin


FROM tools AS root
ARG TEMPORAL_VERSION=1.32.2
COPY --from=vendor /build/releases root/usr/share/temporal-schema-migrator/releases
COPY --from=vendor /build/sql-tool root/usr/local/libexec
COPY --from=package /build/dependencies root/opt/schema-migrator/dependencies
COPY --from=package /build/package root/opt/schema-migrator/package
RUN mkdir -p root/usr/local/bin root/etc/temporal root/usr/share/doc/temporal-schema-migrator \
 && mv root/opt/schema-migrator/package/bin/* root/usr/local/bin/ \
 && ln -s "/usr/share/temporal-schema-migrator/releases/$TEMPORAL_VERSION" root/etc/temporal/schema
COPY LICENSE root/usr/share/doc/temporal-schema-migrator/


FROM ${BASE_IMAGE}
ARG TEMPORAL_VERSION=1.32.2
ARG VERSION=0.0.0
LABEL org.opencontainers.image.title="temporal-schema-migrator" \
      org.opencontainers.image.description="Migrates Temporal's PostgreSQL schemas: locked, transactional, resumable" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
      org.opencontainers.image.version="${VERSION}" \
      io.temporal.server.version="${TEMPORAL_VERSION}"
COPY --from=root /build/root /
ENV PYTHONPATH=/opt/schema-migrator/package:/opt/schema-migrator/dependencies \
    PYTHONDONTWRITEBYTECODE=1 \
    TEMPORAL_VERSION=${TEMPORAL_VERSION} \
    SCHEMA_MIGRATOR_SOURCES=/usr/share/temporal-schema-migrator/releases \
    SCHEMA_MIGRATOR_SQL_TOOL=/usr/local/libexec/temporal-sql-tool
USER 65532:65532
ENTRYPOINT ["schema-migrator"]
CMD ["migrate"]

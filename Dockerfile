# syntax=docker/dockerfile:1
# The image of Firn: one static-enough binary on a base without shell or package manager, run as nobody.
#   docker buildx build --platform linux/amd64,linux/arm64 --sbom=true -t ghcr.io/firn-lakehouse/firn:0.1.0 .
# BUILD_IMAGE and RUN_IMAGE may name mirrors or, for a build without a network, images made on the spot; so does
# scripts/check-image. Who has the program already puts it in with --build-context build=FOLDER (scripts/image/root).
# checkov:skip=CKV_DOCKER_7: both images have fixed tags, as arguments
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
ARG PROFILE=release
WORKDIR /src
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN dpkg --status build-essential libssl-dev pkg-config perl python3 zlib1g-dev >/dev/null 2>&1 \
    || { apt-get update \
    && apt-get install -y --no-install-recommends build-essential libssl-dev pkg-config perl python3 zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*; }
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --locked --bin firn --profile "${PROFILE}" \
    && scripts/image/root "${CARGO_TARGET_DIR:-target}/${PROFILE}/firn" /out

FROM ${RUN_IMAGE}
LABEL org.opencontainers.image.title="Firn" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/root/ /
# A volume here takes over its owner. Services by themselves write nothing but /tmp.
COPY --from=build --chown=65532:65532 /out/data/ /var/lib/firn/
WORKDIR /var/lib/firn
USER 65532:65532
EXPOSE 8181
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s CMD ["/usr/local/bin/firn", "health", "--data-dir", "/var/lib/firn"]
ENTRYPOINT ["/usr/local/bin/firn"]
CMD ["up", "--data-dir", "/var/lib/firn", "--listen", "0.0.0.0:8181"]

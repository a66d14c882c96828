# The image of ingest and serve: the binary that `make release` built, on a base without a shell.
# The binary comes from outside so that the image holds the very bytes whose checksum is published;
# see docs/release.md. The digest is that of the index, which has both platforms.
FROM gcr.io/distroless/static-debian13:nonroot@sha256:1c2c046bc09ed40fad370b599a0b1ae7987f55b01e247cf27a7c27cd97e5bbc7

ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z

LABEL org.opencontainers.image.title="latamctl" \
      org.opencontainers.image.description="A data platform from one declaration: Pub/Sub to Bigtable to HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/latamctl/latamctl" \
      org.opencontainers.image.documentation="https://github.com/latamctl/latamctl/blob/main/docs/cloud.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian13:nonroot"

# Owned by root and without a write bit: the user of the image cannot change what it runs.
COPY --chown=0:0 --chmod=0555 dist/latamctl_${TARGETOS}_${TARGETARCH} /usr/bin/latamctl
COPY --chown=0:0 --chmod=0444 LICENSE dist/latamctl_licenses.txt /usr/share/doc/latamctl/

# By number, so that Kubernetes can see that it is not root. The same number as in the manifests.
USER 65532:65532
WORKDIR /home/nonroot
EXPOSE 8080 9090
STOPSIGNAL SIGTERM

# Kubernetes ignores this and has probes of its own; docker and compose use it.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["/usr/bin/latamctl", "health"]

ENTRYPOINT ["/usr/bin/latamctl"]

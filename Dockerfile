# The service as a small image: compiled in one stage, run by an unprivileged user in another.
# Both stages are Debian 12, because the binary needs a C library no older than the one it was linked with.

FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /build
# The dependencies first, against empty packages: this layer is rebuilt only when a manifest or the lock file changes.
COPY Cargo.toml Cargo.lock ./
COPY crates/aside-axum/Cargo.toml crates/aside-axum/
COPY crates/aside-cache/Cargo.toml crates/aside-cache/
COPY crates/aside-testkit/Cargo.toml crates/aside-testkit/
COPY tools/checker/Cargo.toml tools/checker/
COPY tools/lab/Cargo.toml tools/lab/
COPY tools/model/Cargo.toml tools/model/
COPY adopt/Cargo.toml adopt/
RUN for package in . crates/* tools/* adopt; do mkdir "$package/src" && touch "$package/src/lib.rs" && echo 'fn main() {}' > "$package/src/main.rs"; done \
    && cargo build --release --locked --package aside --bin aside \
    && rm -r src crates/aside-axum/src crates/aside-cache/src
COPY build.rs ./
COPY crates/aside-axum crates/aside-axum
COPY crates/aside-cache crates/aside-cache
COPY src src
COPY migrations migrations
# The sample that `aside seed` loads is part of the program.
COPY data/sample data/sample
# The empty packages are newer than the sources' own dates.
RUN touch src/lib.rs src/main.rs crates/aside-axum/src/lib.rs crates/aside-cache/src/lib.rs && cargo build --release --locked --package aside --bin aside

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin aside
COPY --from=build /build/target/release/aside /usr/local/bin/aside
USER 10001
# Within a container, loopback would be reachable from nowhere. Which listener is published is up to whoever runs the image;
# the management listener asks for MANAGEMENT_TOKEN outside loopback, the public one for ALLOW_INSECURE.
ENV BIND_ADDR=0.0.0.0:3000 MANAGEMENT_ADDR=0.0.0.0:3001
EXPOSE 3000 3001
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["aside", "healthcheck"]
ENTRYPOINT ["aside"]
CMD ["serve"]

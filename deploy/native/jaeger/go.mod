// Only names the Jaeger release to build (see ../jaeger.sh, which adds Jaeger's own
// `replace` lines and checksums at build time, because Go ignores those of a dependency).
module ljwx-ingest/deploy/jaeger

go 1.24.6

require github.com/jaegertracing/jaeger v1.76.0

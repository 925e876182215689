# shellcheck shell=bash
# Jaeger all-in-one: from the PATH, else built from its Go module (jaeger/go.mod) and cached.
# A run may go without it. Its traces are in memory and lost when it stops.

jaeger_release() { sed -n 's/^require .*jaeger v//p' "$HERE/jaeger/go.mod"; }
jaeger_cached() { echo "$CACHE/jaeger-$(jaeger_release)/jaeger-all-in-one"; }
jaeger_binary() { command -v jaeger-all-in-one || jaeger_cached; }
jaeger_given() { [[ -n ${OTEL_EXPORTER_OTLP_ENDPOINT:-} && -n ${JAEGER_URL:-} ]]; }

# A build from the module does not know its own version: print the release it was built from.
jaeger_version() {
  local version
  version=$("$(jaeger_binary)" version 2>/dev/null | sed -n 's/.*"gitVersion":"v\{0,1\}\([^"]*\)".*/\1/p')
  echo "${version:-$(jaeger_release)}"
}

# Every listener gets its own port, or two stacks would clash on the defaults.
jaeger_ports() {
  echo jaeger jaeger-otlp-grpc jaeger-otlp-http jaeger-query-grpc jaeger-admin jaeger-collector-grpc \
    jaeger-collector-http
}
jaeger_variables() {
  echo "OTEL_EXPORTER_OTLP_ENDPOINT=http${TLS:+s}://127.0.0.1:$(port jaeger-otlp-grpc)"
  [[ -z $TLS ]] || echo "OTEL_EXPORTER_OTLP_CERTIFICATE=$TLS/ca.pem"
  echo "JAEGER_URL=http://127.0.0.1:$(port jaeger)"
}

jaeger_install() {
  ! command -v jaeger-all-in-one >/dev/null || return 0
  [[ ! -x $(jaeger_cached) ]] || return 0
  if ! have go; then
    say "no jaeger: neither jaeger-all-in-one nor go (to build it) is on the PATH"
    return 1
  fi
  cached "jaeger-$(jaeger_release)" jaeger_build || { say "no jaeger: its build failed, see $CACHE/jaeger-build.log" && return 1; }
}

jaeger_build() {
  local module work=$1/build log=$CACHE/jaeger-build.log
  say "building jaeger $(jaeger_release) with Go, once (3 to 6 minutes on 2 cores; log: $log)"
  mkdir -p "$work"
  cp "$HERE/jaeger/go.mod" "$HERE/jaeger/go.sum" "$work"
  interruptible env -C "$work" go mod download "$(jaeger_module)" >"$log" 2>&1 || return 1
  module=$(env -C "$work" go list -m -f '{{.Dir}}' "$(jaeger_module)" 2>>"$log") || return 1
  # Go ignores the `replace` lines and checksums of a dependency, but the build needs both.
  awk '/^replace \(/, /^\)/ { print; next } /^replace /' "$module/go.mod" >>"$work/go.mod"
  cat "$module/go.sum" >>"$work/go.sum"
  interruptible nice -n 15 env -C "$work" go build -mod=mod -trimpath -ldflags='-s -w' \
    -o "$1/jaeger-all-in-one" "$(jaeger_module)/cmd/all-in-one" >>"$log" 2>&1 || return 1
  rm -rf -- "$work"
}
jaeger_module() { echo github.com/jaegertracing/jaeger; }

jaeger_prepare() {
  mkdir -p "$STATE/jaeger"
  cat >"$STATE/jaeger/jaeger.yaml" <<EOF
log-level: warn
memory.max-traces: 50000
collector.otlp.grpc.host-port: 127.0.0.1:$(port jaeger-otlp-grpc)
collector.otlp.http.host-port: 127.0.0.1:$(port jaeger-otlp-http)
collector.grpc-server.host-port: 127.0.0.1:$(port jaeger-collector-grpc)
collector.http-server.host-port: 127.0.0.1:$(port jaeger-collector-http)
query.http-server.host-port: 127.0.0.1:$(port jaeger)
query.grpc-server.host-port: 127.0.0.1:$(port jaeger-query-grpc)
admin.http.host-port: 127.0.0.1:$(port jaeger-admin)
${TLS:+collector.otlp.grpc.tls.enabled: true
collector.otlp.grpc.tls.cert: $TLS/server.pem
collector.otlp.grpc.tls.key: $TLS/server.key}
EOF
}

# Jaeger would trace itself too, to the default port, and wait 10 s when it stops.
jaeger_command() {
  ARGV=(env -u OTEL_EXPORTER_OTLP_ENDPOINT OTEL_TRACES_SAMPLER=always_off SPAN_STORAGE_TYPE=memory
    "$(jaeger_binary)" --config-file "$STATE/jaeger/jaeger.yaml")
}

jaeger_ready() { http_ok "$(port jaeger)" /api/services && port_answers "$(port jaeger-otlp-grpc)"; }

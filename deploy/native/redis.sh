# shellcheck shell=bash
# Redis with an append-only file, so its data survives a stop or a kill as in production.

redis_version() { redis-server --version | sed -n 's/.* v=\([0-9.]*\).*/\1/p'; }
redis_ports() { echo redis; }
redis_given() { [[ -n ${REDIS_URL:-} ]]; }
redis_variables() {
  echo "REDIS_URL=redis${TLS:+s}://default:$PASSWORD@127.0.0.1:$(port redis)${TLS:+?ssl-ca=$TLS/ca.pem}"
}

redis_install() {
  { have redis-server && have redis-cli; } || packages Redis redis-server
}

redis_prepare() {
  mkdir -p "$STATE/redis/data"
  # set-proc-title no: process.sh could not recognise a rewritten command line.
  cat >"$STATE/redis/redis.conf" <<EOF
bind 127.0.0.1
${TLS:+port 0
tls-cert-file "$TLS/server.pem"
tls-key-file "$TLS/server.key"
tls-ca-cert-file "$TLS/ca.pem"
tls-auth-clients optional
tls-}port $(port redis)
requirepass $PASSWORD
dir "$STATE/redis/data"
daemonize no
set-proc-title no
save ""
appendonly yes
appendfsync everysec
EOF
}

redis_command() { ARGV=(redis-server "$STATE/redis/redis.conf"); }

redis_ready() {
  [[ $(REDISCLI_AUTH=$PASSWORD timeout 2 redis-cli ${TLS:+--tls --insecure} -h 127.0.0.1 -p "$(port redis)" ping 2>/dev/null) == PONG ]]
}

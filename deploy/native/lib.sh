# shellcheck shell=bash
# Shared by all parts: names, folders, messages, ports, small network probes.
#
# A server is one file here that defines, for a service NAME:
#   NAME_install      get the binaries if the machine lacks them
#   NAME_version      print the version
#   NAME_ports        print the names of its ports; messages show the first, NAME
#   NAME_given        succeed if the environment already holds a server's address
#   NAME_prepare      write the configuration; create the data folder if there is none
#   NAME_command      fill the array ARGV; it must contain the state folder (see process.sh)
#   NAME_ready        succeed once the server answers a request
#   NAME_variables    print VARIABLE=value lines for its users

SERVICES=(kafka mariadb mysql redis jaeger prometheus)
DATABASES=(mariadb mysql)    # a stack has one of them, see choose_database
OPTIONAL=(jaeger prometheus) # a stack may run without them, see required
STATE=$(realpath -m -- "${STACK_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/ljwx-stack}")
CACHE=$(realpath -m -- "${STACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ljwx-ingest}")
TEMP=$(realpath -m -- "${TMPDIR:-/tmp}")
WAIT_SECONDS=${STACK_WAIT:-60}  # until a started server must answer
STOP_SECONDS=${STACK_STOP:-30}  # until a stopping server is killed
TLS=${STACK_TLS:+$(realpath -m -- "$STACK_TLS")} # folder of ca.pem, server.pem, server.key, see README.md
PASSWORD=native-stack           # of every account; the servers listen on 127.0.0.1 only
REQUIRE_JAEGER=
[[ ${CI:-} != true ]] || REQUIRE_JAEGER=1

say() { printf 'stack: %s\n' "$*" >&2; }
die() { say "$*" && exit 1; }
usage() { say "$* (see deploy/stack --help)" && exit 2; }

# Sets NOW to milliseconds without forking, because loops call it.
now() { NOW=${EPOCHREALTIME/[.,]/} && NOW=$((NOW / 1000)); }
seconds_since() { now && printf '%d.%d s' $(((NOW - $1) / 1000)) $(((NOW - $1) % 1000 / 100)); }
# A signal may end the sleep early, which is no error.
nap() { sleep "${1:-0.1}" || true; }

# --- network, without needing curl or kcat ---

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# http_ok PORT PATH: does GET answer 200?
http_ok() {
  # shellcheck disable=SC2016
  timeout 2 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" &&
    printf "GET %s HTTP/1.0\r\n\r\n" "$1" >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]' \
    "$1" "$2" 2>/dev/null
}

# --- ports: chosen once per stack, kept in STATE/ports/NAME ---

port() { cat "$STATE/ports/$1"; }
has_ports() { [[ -s $STATE/ports/$1 ]]; }

# Below the range that the kernel gives to clients, or a connection could take a server's port while the
# server is down for a moment.
port_range() {
  local low=32768
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range || true
  PORT_FROM=15000
  PORT_TO=$((low > 17000 ? low - 1 : 30000))
}

# port_reserved PORT: succeeds if another stack that does not listen at the moment holds it.
# CACHE/ports/PORT names the stack's folder; a removed stack holds no port.
port_reserved() {
  local by
  by=$(cat "$CACHE/ports/$1" 2>/dev/null) || return 1
  grep -qxs "$1" "$by"/ports/*
}

# choose_port NAME: chooses under a lock, because two stacks may start at the same time.
choose_port() {
  local try candidate
  mkdir -p "$STATE/ports" "$CACHE/ports"
  port_range
  {
    flock 8
    for ((try = 0; try < 500; try++)); do
      candidate=$((PORT_FROM + SRANDOM % (PORT_TO - PORT_FROM + 1)))
      port_reserved "$candidate" && continue
      port_answers "$candidate" && continue
      printf '%s\n' "$candidate" >"$STATE/ports/$1"
      printf '%s\n' "$STATE" >"$CACHE/ports/$candidate"
      return 0
    done
  } 8>"$CACHE/ports/lock"
  die "no free port between $PORT_FROM and $PORT_TO"
}

# claim_ports SERVICE: chooses the ports that the service does not have yet. If another program listens on
# a kept port, chooses a new one, but not with KEEP_PORTS: a client then already knows the address.
claim_ports() {
  local name
  for name in $("$1_ports"); do
    if has_ports "$name"; then
      port_answers "$(port "$name")" || continue
      [[ -z ${KEEP_PORTS:-} ]] || die "$1: port $(port "$name") is in use by another program"
    fi
    choose_port "$name"
  done
}

# release_ports DIR: deletes the reservations of the stack in DIR, which is about to be removed.
release_ports() {
  local file
  for file in "$1"/ports/*; do
    [[ ! -f $file ]] || rm -f "$CACHE/ports/$(cat "$file")"
  done
}

# --- shared by MariaDB and MySQL ---

# A binary log, which a server with replicas has, costs a flush at each commit. Tests run without it.
database_binlog() {
  if [[ -n ${STACK_BINLOG:-} ]]; then
    echo --log-bin=binlog --server-id=1 --binlog-format=ROW --sync-binlog=1
  else
    echo --skip-log-bin
  fi
}

database_user() { ((EUID != 0)) || echo --user=root; } # they refuse to run as root otherwise

# With TLS, plain connections are refused.
database_tls() {
  [[ -z $TLS ]] ||
    echo "--require-secure-transport=ON --ssl-ca=$TLS/ca.pem --ssl-cert=$TLS/server.pem --ssl-key=$TLS/server.key"
}

# database_url NAME: prints the URL of user root, with TLS if the stack has it.
database_url() {
  echo "mysql://root:$PASSWORD@127.0.0.1:$(port "$1")/ljwx${TLS:+?ssl-mode=VERIFY_IDENTITY&ssl-ca=$TLS/ca.pem}"
}

# The server runs this at every start before it accepts the first connection, hence IF NOT EXISTS. The
# accounts are of the server's default kind.
database_init_sql() {
  cat <<SQL
CREATE DATABASE IF NOT EXISTS ljwx CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';
ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '$PASSWORD';
ALTER USER 'root'@'localhost' IDENTIFIED BY '$PASSWORD';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
SQL
}

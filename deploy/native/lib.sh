# shellcheck shell=bash
# What every part shares: names, folders, messages, ports, small network probes.
#
# A server is one file here defining, for a service NAME:
#   NAME_install      get the binaries if the machine lacks them
#   NAME_version      print the version
#   NAME_ports        print the names of its ports; the first, NAME, is the one that is announced
#   NAME_given        succeed if the environment already says where a server is
#   NAME_prepare      write the configuration; create the data folder if there is none
#   NAME_command      fill the array ARGV; the state folder must occur in it (see process.sh)
#   NAME_ready        succeed once it answers a request
#   NAME_variables    print VARIABLE=value lines for its users

SERVICES=(kafka mariadb mysql redis jaeger prometheus)
DATABASES=(mariadb mysql)    # a stack has one of them, see choose_database
OPTIONAL=(jaeger prometheus) # a stack may lack them, see required
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

# Sets NOW to milliseconds without forking, because it is asked for in loops.
now() { NOW=${EPOCHREALTIME/[.,]/} && NOW=$((NOW / 1000)); }
seconds_since() { now && printf '%d.%d s' $(((NOW - $1) / 1000)) $(((NOW - $1) % 1000 / 100)); }
# A signal that comes meanwhile may end the sleep early; that is no error.
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

# Below the range the kernel hands out to clients, or a connection could take a server's port
# while that server is down for a moment.
port_range() {
  local low=32768
  read -r low _ </proc/sys/net/ipv4/ip_local_port_range || true
  PORT_FROM=15000
  PORT_TO=$((low > 17000 ? low - 1 : 30000))
}

# Is PORT held by another stack that is not listening at the moment? CACHE/ports/PORT names the
# stack's folder; a stack that is gone holds nothing.
port_reserved() {
  local by
  by=$(cat "$CACHE/ports/$1" 2>/dev/null) || return 1
  grep -qxs "$1" "$by"/ports/*
}

# choose_port NAME: under a lock, since two stacks may start at the same time.
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

# claim_ports SERVICE: choose the ports it has not got yet. A kept port that somebody else listens
# on by now is chosen anew, but not with KEEP_PORTS: there a client already knows the address.
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

# Forget the reservations of the stack in folder DIR, which is about to be removed.
release_ports() {
  local file
  for file in "$1"/ports/*; do
    [[ ! -f $file ]] || rm -f "$CACHE/ports/$(cat "$file")"
  done
}

# --- what MariaDB and MySQL share ---

# A binary log as a server with replicas has it costs each commit a flush; tests do without.
database_binlog() {
  if [[ -n ${STACK_BINLOG:-} ]]; then
    echo --log-bin=binlog --server-id=1 --binlog-format=ROW --sync-binlog=1
  else
    echo --skip-log-bin
  fi
}

database_user() { ((EUID != 0)) || echo --user=root; } # they refuse root unless told

# With TLS nothing else is taken.
database_tls() {
  [[ -z $TLS ]] ||
    echo "--require-secure-transport=ON --ssl-ca=$TLS/ca.pem --ssl-cert=$TLS/server.pem --ssl-key=$TLS/server.key"
}

# database_url NAME: root's, by TLS where there is.
database_url() {
  echo "mysql://root:$PASSWORD@127.0.0.1:$(port "$1")/ljwx${TLS:+?ssl-mode=VERIFY_IDENTITY&ssl-ca=$TLS/ca.pem}"
}

# Run at every start before the first connection is taken, hence IF NOT EXISTS. The accounts are of the
# server's default kind.
database_init_sql() {
  cat <<SQL
CREATE DATABASE IF NOT EXISTS ljwx CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';
ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '$PASSWORD';
ALTER USER 'root'@'localhost' IDENTIFIED BY '$PASSWORD';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
SQL
}

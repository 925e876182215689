# shellcheck shell=bash
# MariaDB with its own data folder and the settings of mysql.sh.

mariadb_version() { mariadb_server --version | sed -n 's/.*Ver \([0-9.]*\).*/\1/p'; }
mariadb_ports() { echo mariadb; }
mariadb_given() { [[ -n ${MYSQL_URL:-} ]]; }
mariadb_variables() { echo "MYSQL_URL=$(database_url mariadb)"; }

# Debian keeps mariadbd in /usr/sbin, which may be missing in a user's PATH.
mariadb_server() { PATH=$PATH:/usr/sbin mariadbd --no-defaults "$@"; }

mariadb_install() {
  { have mariadbd && have mariadb-install-db && have mariadb; } || packages MariaDB mariadb-server
}

mariadb_initialize() {
  # shellcheck disable=SC2046
  mariadb-install-db --no-defaults $(database_user) --datadir="$1" \
    --auth-root-authentication-method=normal --skip-test-db
}

mariadb_prepare() {
  local home=$STATE/mariadb
  mkdir -p "$home"
  database_init_sql >"$home/init.sql"
  [[ -d $home/data ]] && return
  rm -rf -- "$home/data.part"
  mariadb_initialize "$home/data.part" >"$home/install.log" 2>&1 ||
    { tail -n 20 "$home/install.log" >&2 && return 1; }
  mv -- "$home/data.part" "$home/data"
}

mariadb_command() {
  local home=$STATE/mariadb
  # innodb_flush_log_at_trx_commit=1: a committed row must survive a crash.
  # The socket's path is relative to the data folder: socket paths may not exceed 107 characters.
  # shellcheck disable=SC2207
  ARGV=("$(PATH=$PATH:/usr/sbin command -v mariadbd)" --no-defaults $(database_user)
    --datadir="$home/data" --socket=mariadb.sock --pid-file="$home/mariadb.pid"
    --bind-address=127.0.0.1 --port="$(port mariadb)" --init-file="$home/init.sql"
    --skip-name-resolve --character-set-server=utf8mb4
    --innodb-buffer-pool-size=256M --innodb-flush-log-at-trx-commit=1 $(database_binlog)
    --max-connections=500 --max-allowed-packet=64M $(database_tls))
}

mariadb_ready() {
  MYSQL_PWD=$PASSWORD timeout 3 mariadb --no-defaults ${TLS:+--ssl} --protocol=tcp -h127.0.0.1 -P"$(port mariadb)" -uroot \
    -e 'SELECT 1' ljwx >/dev/null 2>&1
}

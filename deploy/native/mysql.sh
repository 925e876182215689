# shellcheck shell=bash
# MySQL in place of MariaDB (STACK_DATABASE=mysql): the machine's own, else the distribution's packages,
# unpacked into the cache and run from there. They are not installed, because MariaDB's and MySQL's packages
# exclude each other, and a stack must not force that choice on the whole machine.

mysql_version() { mysql_locate && "${MYSQLD[@]}" --no-defaults --version | sed -n 's/.*Ver \([0-9.]*\).*/\1/p'; }
mysql_ports() { echo mysql; }
mysql_given() { [[ -n ${MYSQL_URL:-} ]]; }
mysql_variables() { echo "MYSQL_URL=$(database_url mysql)"; }

mysql_cached() { echo "$CACHE/mysql"; }

# mysql_own: prints the machine's mysqld. It skips MariaDB's, which has the same name, and one that AppArmor
# confines, as Ubuntu's full mysql-server is: that one may not write to a stack's folder.
mysql_own() {
  local server version
  server=$(PATH=$PATH:/usr/sbin:/sbin command -v mysqld) || return 1
  version=$("$server" --no-defaults --version 2>/dev/null) || return 1
  [[ $version == *Ver* && $version != *MariaDB* ]] || return 1
  if [[ -e /etc/apparmor.d/usr.sbin.mysqld ]] && grep -qxs Y /sys/module/apparmor/parameters/enabled; then return 1; fi
  printf '%s\n' "$server"
}

# mysql_locate: sets MYSQLD and MYSQLD_FILES, or fails. An unpacked server starts with the dynamic linker
# of its packages, because its libraries are newer than the machine's. Unlike in a chroot, every path stays
# the same, so process.sh recognises the process by its command line.
mysql_locate() {
  local root linker server
  MYSQLD_FILES=()
  if server=$(mysql_own); then
    MYSQLD=("$server")
  elif [[ -d $(mysql_cached) ]]; then
    root=$(mysql_cached)/usr
    linker=$(mysql_linker "$root")
    MYSQLD=("$linker" --library-path "${linker%/*}" "$root/sbin/mysqld")
    MYSQLD_FILES=(--basedir="$root" --lc-messages-dir="$root/share/mysql")
  else
    return 1
  fi
}

# mysql_linker USR: matches a pattern, because the architecture's name differs in each part of the path.
mysql_linker() { printf '%s\n' "$1"/lib/*-linux-gnu*/ld-linux*.so.* | head -n 1; }

mysql_install() {
  mysql_locate || cached "$(basename "$(mysql_cached)")" mysql_fetch || return 1
  mysql_locate
}

# mysql_fetch FOLDER: downloads the server and all its dependencies, with libc, by an apt-get with its own
# folders, which knows no installed package. Needs no root. Keeps only the files that mysqld loads.
mysql_fetch() {
  local log=$CACHE/mysql-fetch.log work=$1/work deb libs file
  have apt-get || { say 'no mysql: please put its mysqld on the PATH (MariaDB goes by the same name)' && return 1; }
  say "fetching MySQL's packages, once (about 60 MB; log: $log)"
  mysql_download "$work" >"$log" 2>&1 || { tail -n 20 "$log" >&2 && return 1; }
  for deb in "$work"/cache/archives/*.deb; do
    interruptible dpkg-deb -x "$deb" "$work/root" >>"$log" 2>&1 || { tail -n 20 "$log" >&2 && return 1; }
  done
  # Before Debian 13 and Ubuntu 24.04, libc comes in /lib.
  [[ ! -d $work/root/lib ]] || cp -r -- "$work/root/lib/." "$work/root/usr/lib"
  file=$(mysql_linker "$work/root/usr")
  libs=${file%/*}
  libs=$1${libs#"$work/root"}
  mkdir -p "$libs" "$1"/usr/{sbin,share/mysql,lib/mysql/plugin}
  cp -- "$file" "$libs"
  while read -r file; do
    [[ $file != "$work"/* ]] || cp -- "$file" "$libs"
  done < <("$file" --library-path "${file%/*}" --list "$work/root/usr/sbin/mysqld" | sed -n 's/.* => \(.*\) (.*/\1/p')
  cp -- "$work/root/usr/sbin/mysqld" "$1/usr/sbin" || return 1
  cp -r -- "$work"/root/usr/share/mysql/{charsets,english} "$1/usr/share/mysql" || return 1
  # The one plugin that MySQL 9 loads by default.
  file=usr/lib/mysql/plugin/component_reference_cache.so
  [[ ! -e $work/root/$file ]] || cp -- "$work/root/$file" "$1/$file" || return 1
  rm -rf -- "$work"
  # If a file is missing, fail now and not at every start.
  "$libs"/ld-linux*.so.* --library-path "$libs" "$1/usr/sbin/mysqld" --no-defaults --version >>"$log" 2>&1 ||
    { tail -n 20 "$log" >&2 && return 1; }
}

# mysql_download WORK: downloads the packages to WORK/cache/archives, from the machine's own suite if it has
# MySQL, as Ubuntu's do. Debian has MySQL only in sid, which comes from the mirror that apt uses.
mysql_download() {
  local work=$1 apt package mirror
  mkdir -p "$work"/{lists,cache,root}
  : >"$work/status"
  apt=(-qq -o Dir::State::lists="$work/lists" -o Dir::State::status="$work/status"
    -o Dir::State::extended_states="$work/extended" -o Dir::Cache="$work/cache"
    -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Acquire::Languages=none)
  interruptible apt-get "${apt[@]}" update || return 1
  for package in mysql-server-core mysql-server-core-8.0 ''; do
    [[ -z $(apt-cache "${apt[@]}" show "$package" 2>/dev/null) ]] || break
  done
  if [[ -z $package ]]; then
    package=mysql-server-core
    # shellcheck disable=SC2016
    mirror=$(apt-get "${apt[@]}" indextargets --format '$(LABEL) $(REPO_URI)' | awk '$1 == "Debian" { print $2; exit }')
    [[ -n $mirror ]] || { echo 'no package source here has MySQL, and none is a mirror of Debian' && return 1; }
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s sid main\n' "$mirror" >"$work/sid.list"
    apt+=(-o Dir::Etc::sourcelist="$work/sid.list" -o Dir::Etc::sourceparts=-)
    interruptible apt-get "${apt[@]}" update || return 1
  fi
  interruptible apt-get "${apt[@]}" -y --download-only install "$package"
}

mysql_prepare() {
  local home=$STATE/mysql
  mkdir -p "$home"
  database_init_sql >"$home/init.sql"
  # MySQL does not start if the lock of a killed predecessor names any process, a zombie or an unrelated one.
  rm -f -- "$home/data/mysql.sock.lock"
  [[ -d $home/data ]] && return
  rm -rf -- "$home/data.part"
  mysql_locate
  # shellcheck disable=SC2046
  "${MYSQLD[@]}" --no-defaults $(database_user) "${MYSQLD_FILES[@]}" --datadir="$home/data.part" \
    --initialize-insecure --character-set-server=utf8mb4 >"$home/install.log" 2>&1 ||
    { tail -n 20 "$home/install.log" >&2 && return 1; }
  mv -- "$home/data.part" "$home/data"
}

mysql_command() {
  local home=$STATE/mysql
  mysql_locate
  # As in mariadb.sh, but without the second protocol, whose port is fixed.
  # shellcheck disable=SC2207
  ARGV=("${MYSQLD[@]}" --no-defaults $(database_user) "${MYSQLD_FILES[@]}"
    --datadir="$home/data" --socket=mysql.sock --pid-file="$home/mysql.pid"
    --bind-address=127.0.0.1 --port="$(port mysql)" --init-file="$home/init.sql"
    --mysqlx=OFF --secure-file-priv=NULL
    --skip-name-resolve --character-set-server=utf8mb4
    --innodb-buffer-pool-size=256M --innodb-flush-log-at-trx-commit=1 $(database_binlog)
    --max-connections=500 --max-allowed-packet=64M $(database_tls))
}

# Ready when it greets with version 10 of its protocol: the server runs the init file before it accepts the
# first connection. A machine with mysqld may have no client, and bash alone cannot log in.
mysql_ready() {
  local greeting
  # shellcheck disable=SC2016
  greeting=$(timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && head -c 5 <&3 | od -An -v -tx1 | tr -d " \n"' \
    "$(port mysql)" 2>/dev/null) || return 1
  [[ $greeting == ????????0a ]]
}

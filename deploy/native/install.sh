# shellcheck shell=bash
# Installs missing programs through the machine's own package clients, and prints each installation.

# Needed to build the Rust workspace (librdkafka, TLS), and by the commands of documents.
BUILD_TOOLS=(cmake:cmake g++:g++ make:make pkg-config:pkg-config curl:curl jq:jq python3:python3)

# Tests run the configurations of deploy/proxy in them.
PROXIES=(nginx:nginx haproxy:haproxy)

BACKGROUND=  # the pid of a long command, see interruptible
PREPARING=() # PID:SERVICE of data folders being created, see start_all

# packages PURPOSE PACKAGE…
packages() {
  local purpose=$1 sudo=() apt
  shift
  command -v apt-get >/dev/null || die "$purpose is missing, and so is apt-get: please install it (Debian calls it: $*)"
  ((EUID == 0)) || sudo=(sudo -n)
  apt=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
  local install=(install -y --no-install-recommends --no-remove) # never removes another package
  say "installing for $purpose: apt-get install $*"
  # The package lists may be missing or stale, so update them after the first failure.
  "${apt[@]}" "${install[@]}" "$@" >/dev/null 2>&1 ||
    { "${apt[@]}" update >/dev/null && "${apt[@]}" "${install[@]}" "$@" >/dev/null; } ||
    die "apt-get could not install: $*"
}

# first_package PACKAGE…: prints the first package that this distribution has, else the last.
first_package() {
  while (($# > 1)); do
    [[ -z $(apt-cache show "$1" 2>/dev/null) ]] || break
    shift
  done
  printf '%s\n' "$1"
}

# have COMMAND: looks also in the folders for servers, which may be missing in a user's PATH.
have() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

# interruptible COMMAND…: runs long work in the background. Bash handles a signal only between commands,
# but at once while it waits for a background process.
interruptible() {
  local status=0
  "$@" &
  BACKGROUND=$!
  wait "$BACKGROUND" || status=$?
  BACKGROUND=
  return "$status"
}

# cached NAME BUILDER: creates CACHE/NAME by `BUILDER FOLDER` if it does not exist. The builder works in
# another folder, which is then renamed, so an interrupted build never looks complete. A lock keeps two runs
# from building the same.
cached() {
  local target=$CACHE/$1 lock
  [[ ! -d $target ]] || return 0
  mkdir -p "$CACHE"
  exec {lock}>"$CACHE/$1.lock"
  interruptible flock "$lock"
  if [[ ! -d $target ]]; then
    rm -rf -- "$target.part"
    mkdir -p "$target.part"
    if ! "$2" "$target.part"; then
      exec {lock}>&-
      return 1
    fi
    mv -- "$target.part" "$target"
  fi
  exec {lock}>&-
}

# Background work must not continue after the script's end. Creating a data folder takes about a second, in
# processes of its own, so the script waits for it and does not stop it.
end_background() {
  local job
  [[ -z $BACKGROUND ]] || kill -TERM "$BACKGROUND" 2>/dev/null || true
  for job in "${PREPARING[@]}"; do wait "${job%%:*}" 2>/dev/null || true; done
}
end_background_at_exit() {
  trap end_background EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

install_all() {
  local tool missing=() name
  end_background_at_exit
  for tool in "${BUILD_TOOLS[@]}" "${PROXIES[@]}"; do have "${tool%%:*}" || missing+=("${tool##*:}"); done
  ! have dpkg-query || dpkg-query -W libssl-dev >/dev/null 2>&1 || missing+=(libssl-dev)
  ((${#missing[@]} == 0)) || packages 'the build, commands of documents and the tests' "${missing[@]}"
  for name in "${SERVICES[@]}"; do
    unchosen "$name" && continue
    if "${name}_install"; then
      say "$name $("${name}_version") is available"
    elif required "$name"; then
      die "$name could not be installed"
    fi
  done
}

# shellcheck shell=bash
# The commands for a stack that stays up, and for one server of a stack.

# start_all SERVICE…: installs and prepares them, starts them in parallel, waits for each. STARTED holds
# the started ones, also if a later one fails.
STARTED=()
start_all() {
  local name since job services=()
  for name in "$@"; do
    if "${name}_install"; then
      services+=("$name")
    else
      ! required "$name" || die "$name is required but could not be installed"
      say "continuing without $name"
    fi
  done
  mkdir -p "$STATE/logs" "$STATE/pids"
  now && since=$NOW
  for name in "${services[@]}"; do claim_ports "$name"; done
  # Creating data folders takes longest, so they are created in parallel; `begin` then finds them.
  for name in "${services[@]}"; do
    "${name}_prepare" &
    PREPARING+=("$!:$name")
  done
  for job in "${PREPARING[@]}"; do
    name=${job#*:}
    wait "${job%%:*}" || die "$name: its data folder could not be created"
    STARTED+=("$name")
    begin "$name"
  done
  PREPARING=()
  await_ready "$since" "${services[@]}" || exit 1
}

# with_lock COMMAND…: allows one change of the stack in STATE at a time. Braces, not a subshell: servers
# that must die with this process must be its own children.
with_lock() {
  mkdir -p "$STATE"
  { flock 9 && "$@"; } 9>"$STATE/lock"
}

# choose_database: sets DATABASE to STACK_DATABASE, else to the database that the stack in STATE already
# runs.
choose_database() {
  DATABASE=${STACK_DATABASE:-$(running_database)}
  DATABASE=${DATABASE:-mariadb}
  [[ " ${DATABASES[*]} " == *" $DATABASE "* ]] ||
    usage "unknown STACK_DATABASE '$DATABASE' (expected one of: ${DATABASES[*]})"
}
running_database() {
  local name
  for name in "${DATABASES[@]}"; do if alive "$name"; then echo "$name"; fi; done
}

# unchosen SERVICE: succeeds for the database that this stack does not have.
unchosen() { [[ $1 != "$DATABASE" && " ${DATABASES[*]} " == *" $1 "* ]]; }

# other_database: sets OTHER if the stack in STATE runs the database that was not chosen.
other_database() {
  OTHER=$(running_database)
  [[ -n $OTHER && $OTHER != "$DATABASE" ]]
}

# required SERVICE: succeeds if a stack cannot run without it.
required() { [[ " ${OPTIONAL[*]} " != *" $1 "* || ($1 == jaeger && -n $REQUIRE_JAEGER) ]]; }

skipped() {
  unchosen "$1" && return
  [[ " ${STACK_WITHOUT:-} " == *" $1 "* && ! ($1 == jaeger && -n $REQUIRE_JAEGER) ]]
}

stack_up() {
  local name missing=()
  end_background_at_exit
  sweep
  ! other_database || die "the stack in $STATE has $OTHER, not $DATABASE: 'deploy/stack down' first"
  for name in "${SERVICES[@]}"; do
    skipped "$name" && continue
    if alive "$name"; then say "$name already runs on 127.0.0.1:$(port "$name")"; else missing+=("$name"); fi
  done
  ((${#missing[@]} == 0)) || with_lock start_all "${missing[@]}"
}

stack_down() {
  ! owner_of "$STATE" || die "this stack belongs to a running 'deploy/stack run' and ends with it"
  if [[ ! -d $STATE ]]; then return; fi
  with_lock halt_all "${SERVICES[@]}"
  if [[ -n $1 ]]; then
    release_ports "$STATE"
    rm -rf -- "${STATE:?}"/{ports,pids,logs,requests,lock} "${SERVICES[@]/#/$STATE/}"
  fi
}

stack_status() {
  local name down=0 memory
  for name in "${SERVICES[@]}"; do
    if alive "$name"; then
      memory=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$PID/status")
      printf '%-10s up    127.0.0.1:%-6s pid %-8s %d MB\n' "$name" "$(port "$name")" "$PID" $((memory / 1024))
    elif ! unchosen "$name"; then
      printf '%-10s down\n' "$name"
      down=3
    fi
  done
  printf 'state      %s\n' "$STATE"
  return "$down"
}

stack_env() {
  local name line
  any_alive || die "no stack runs in $STATE"
  for name in "${SERVICES[@]}"; do
    alive "$name" || continue
    while IFS= read -r line; do
      printf 'export %s=%q\n' "${line%%=*}" "${line#*=}"
    done < <("${name}_variables")
  done
  printf 'export STACK_DATABASE=%q\n' "$DATABASE"
  printf 'export STACK_DIR=%q\n' "$STATE"
}

in_stack() { has_ports "$1" || die "$1 is not part of the stack in $STATE"; }
service_start() {
  in_stack "$1"
  if alive "$1"; then say "$1 already runs" && return; fi
  ! unchosen "$1" || die "the stack in $STATE has $DATABASE, not $1"
  KEEP_PORTS=1 with_lock start_one "$1"
}
start_one() {
  local since
  now && since=$NOW
  begin "$1"
  await_ready "$since" "$1"
}
service_stop() { in_stack "$1" && with_lock halt_all "$1" && say "$1 stopped"; }
service_kill() {
  in_stack "$1"
  alive "$1" || die "$1 does not run"
  slay "$1" && say "$1 killed"
}

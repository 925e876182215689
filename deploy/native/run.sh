# shellcheck shell=bash
# `run`: a stack for the time of one command. It uses a stack that `up` left running, else its own in a
# temporary folder, and starts only servers that neither the environment nor that stack has.

GRACE_SECONDS=${STACK_GRACE:-20} # after a signal, until CMD gets a stronger one
OWN_STATE=                       # the temporary folder to remove
CMD_PID=
CMD_TARGET=  # receives the signals: CMD's process or its group
SIGNALS=0    # number of INT, TERM and HUP received
DEADLINE=0

run_command() {
  local name line missing=()
  if [[ ${1:-} == --require-jaeger ]]; then REQUIRE_JAEGER=1 && shift; fi
  [[ ${1:-} == -- ]] || usage "run: expected '-- CMD…'${1:+ before '$1'}"
  shift
  (($# > 0)) || usage "run: no CMD given"

  trap finish EXIT
  trap 'interrupted INT 2' INT
  trap 'interrupted TERM 15' TERM
  trap 'interrupted HUP 1' HUP
  trap serve_requests USR1
  sweep
  MODE=child
  # CMD stops servers by name, so its addresses and these names must belong together.
  if other_database && "${DATABASE}_given"; then
    die "MYSQL_URL is set, but the stack in $STATE has $OTHER, not $DATABASE: unset it, or set STACK_DATABASE=$OTHER"
  fi
  if ! any_alive || other_database; then
    OWN_STATE=$(mktemp -d "$TEMP/ljwx-stack.XXXXXX")
    STATE=$OWN_STATE
    write_owner
  fi
  for name in "${SERVICES[@]}"; do
    unchosen "$name" && continue
    if "${name}_given"; then
      say "$name as given in the environment"
    elif ! skipped "$name" && ! alive "$name"; then
      missing+=("$name")
    fi
  done
  ((${#missing[@]} == 0)) || with_lock start_all "${missing[@]}"
  for name in "${SERVICES[@]}"; do
    if ! "${name}_given" && alive "$name"; then
      while IFS= read -r line; do export "${line?}"; done < <("${name}_variables")
    fi
  done
  export STACK_DIR=$STATE STACK_DATABASE=$DATABASE
  # Half an address is useless, so unset both. A `run` inside CMD must not try the server again.
  if ! jaeger_given; then
    unset OTEL_EXPORTER_OTLP_ENDPOINT JAEGER_URL
    export STACK_WITHOUT="${STACK_WITHOUT:+$STACK_WITHOUT }jaeger"
  fi
  if ! prometheus_given; then
    unset PROMETHEUS_URL PROMETHEUS_TARGETS
    export STACK_WITHOUT="${STACK_WITHOUT:+$STACK_WITHOUT }prometheus"
  fi
  run_and_wait "$@"
}

# CMD dies with this script, because its servers do. CMD gets the default action for Ctrl-C back, which bash
# removes from background processes. At a terminal CMD stays in the script's process group, to read from the
# terminal. Elsewhere CMD gets its own group, so that signals reach its children, too.
run_and_wait() {
  local status=0 again=0
  local wrap=(setpriv --pdeathsig TERM env --default-signal=INT --default-signal=QUIT)
  [[ -t 0 ]] || wrap=(setsid "${wrap[@]}")
  "${wrap[@]}" "$@" <&0 &
  CMD_PID=$!
  CMD_TARGET=$CMD_PID
  [[ -t 0 ]] || CMD_TARGET=-$CMD_PID
  while kill -0 "$CMD_PID" 2>/dev/null; do
    if ((SIGNALS == 0)); then
      wait "$CMD_PID" && status=0 || status=$?
    else
      now
      ((NOW < DEADLINE)) || harder
      nap
    fi
  done
  # If a signal interrupted the wait during which CMD ended, its status is still available.
  wait "$CMD_PID" 2>/dev/null && again=0 || again=$?
  ((again == 127)) || status=$again
  exit "$status"
}

# interrupted NAME NUMBER: forwards the first signal to CMD, and sends a stronger one each further time.
interrupted() {
  [[ -n $CMD_PID ]] || exit $((128 + $2))
  SIGNALS=$((SIGNALS + 1))
  if ((SIGNALS > 1)); then
    harder
    return
  fi
  now && DEADLINE=$((NOW + GRACE_SECONDS * 1000))
  # Ctrl-C at a terminal has already reached CMD, which is in the same group.
  [[ $1 == INT && -t 0 ]] || kill -s "$1" -- "$CMD_TARGET" 2>/dev/null || true
}

# First TERM, afterwards KILL.
ESCALATION=TERM
harder() {
  say "the command still runs; sending $ESCALATION"
  kill -s "$ESCALATION" -- "$CMD_TARGET" 2>/dev/null || true
  ESCALATION=KILL
  now && DEADLINE=$((NOW + 5000))
}

# At every exit: stops the started servers and removes the created folder.
finish() {
  local status=$?
  trap '' INT TERM HUP USR1
  end_background
  ((${#STARTED[@]} == 0)) || halt_all "${STARTED[@]}"
  if [[ -n ${STACK_LOGS:-} && -d $STATE/logs ]]; then
    mkdir -p "$STACK_LOGS" && cp -- "$STATE"/logs/*.log "$STACK_LOGS"/ || true
  fi
  if [[ -n $OWN_STATE ]]; then
    release_ports "$OWN_STATE"
    rm -rf -- "$OWN_STATE"
  fi
  exit "$status"
}

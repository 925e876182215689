# shellcheck shell=bash
# `run`: a stack for the time of one command. It uses a stack that `up` left running, else one of
# its own in a temporary folder, and starts only what neither the environment nor that stack has.

GRACE_SECONDS=${STACK_GRACE:-20} # after a signal, until CMD is told again and harder
OWN_STATE=                       # the temporary folder to remove
CMD_PID=
CMD_TARGET=  # what signals are sent to: CMD's process or its group
SIGNALS=0    # how many INT, TERM or HUP have come
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
  # CMD takes servers away by name, so the addresses it is given and that name must belong together.
  if other_database && "${DATABASE}_given"; then
    die "MYSQL_URL is set, but the stack in $STATE has $OTHER, not $DATABASE: unset it, or say STACK_DATABASE=$OTHER"
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
  # Half an address is none; and what could not be had here is not tried again by a `run` in CMD.
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

# CMD dies with us, since its servers do. It gets back the default action for Ctrl-C, which bash
# takes from background processes. At a terminal it stays in our process group, to be able to read
# from it; elsewhere it gets a group of its own, to be signalled together with its children.
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
  # If a signal interrupted the wait that CMD's end fell into, its status is still to be had.
  wait "$CMD_PID" 2>/dev/null && again=0 || again=$?
  ((again == 127)) || status=$again
  exit "$status"
}

# interrupted NAME NUMBER: pass it on to CMD once, and harder each further time.
interrupted() {
  [[ -n $CMD_PID ]] || exit $((128 + $2))
  SIGNALS=$((SIGNALS + 1))
  if ((SIGNALS > 1)); then
    harder
    return
  fi
  now && DEADLINE=$((NOW + GRACE_SECONDS * 1000))
  # Ctrl-C at a terminal has reached CMD, being in the same group, already.
  [[ $1 == INT && -t 0 ]] || kill -s "$1" -- "$CMD_TARGET" 2>/dev/null || true
}

# TERM first, KILL from then on.
ESCALATION=TERM
harder() {
  say "the command still runs; sending $ESCALATION"
  kill -s "$ESCALATION" -- "$CMD_TARGET" 2>/dev/null || true
  ESCALATION=KILL
  now && DEADLINE=$((NOW + 5000))
}

# At every exit: stop what was started, remove what was made.
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

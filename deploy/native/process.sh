# shellcheck shell=bash
# Starting, awaiting and stopping servers. STATE holds, per service: pids/NAME, ports/NAME,
# logs/NAME.log and its own folder NAME/. STATE/owner names the `run` that owns the stack.

# How launch starts a server: `child` (dies with this process) or `detached` (outlives it).
MODE=detached

# The process that becomes the server. It checks that the owner still lives (the death signal only covers
# the time after it is set), closes every inherited descriptor (a reader would wait for a pipe that a server
# holds open), writes its own pid and execs the server.
# shellcheck disable=SC2016
LAUNCHER='[[ -z $2 || $PPID == "$2" ]] || exit 1
for fd in /proc/self/fd/*; do fd=${fd##*/}; ((fd < 3)) || eval "exec $fd>&-"; done
echo $$ >"$1"; shift 2; exec "$@"'

# our_process PID DIR: succeeds if PID is a process of the stack in DIR, not another one with a reused pid.
our_process() {
  local line
  line=$(tr '\0' ' ' <"/proc/$1/cmdline") 2>/dev/null || return 1
  [[ $line == *"$2/"* ]]
}

# pid_of SERVICE [DIR]: sets PID if the service runs. A zombie has an empty command line, so it counts as dead.
pid_of() {
  local dir=${2:-$STATE}
  PID=$(cat "$dir/pids/$1" 2>/dev/null) && [[ $PID =~ ^[0-9]+$ ]] && our_process "$PID" "$dir" 2>/dev/null
}
alive() { pid_of "$1"; }
any_alive() {
  local name
  for name in "${SERVICES[@]}"; do alive "$name" && return 0; done
  return 1
}

# The start time reveals a reused pid. It is field 22 of stat, counted after the name.
start_time() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra fields <<<"${stat##*) }"
  printf '%s\n' "${fields[19]}"
}
write_owner() { printf '%s %s\n' "$$" "$(start_time $$)" >"$STATE/owner"; }
# owner_of DIR: sets OWNER if the `run` that made DIR still lives.
owner_of() {
  local since
  read -r OWNER since 2>/dev/null <"$1/owner" && [[ $(start_time "$OWNER") == "$since" ]]
}

# launch SERVICE: forks and returns; await_ready waits.
launch() {
  local ARGV=() wrap=(setsid) owner='' # own session: Ctrl-C at the terminal must not reach servers
  "$1_command"
  if [[ $MODE == child ]]; then
    wrap+=(setpriv --pdeathsig KILL) # also when this script is killed with SIGKILL
    owner=$$
  fi
  mkdir -p "$STATE/logs" "$STATE/pids"
  "${wrap[@]}" bash -c "$LAUNCHER" stack "$STATE/pids/$1" "$owner" "${ARGV[@]}" \
    </dev/null >>"$STATE/logs/$1.log" 2>&1 &
  disown # or bash prints a message when it is killed on purpose
}

# begin SERVICE: prepares it, then launches it, or asks the owner to: it must die with its owner.
begin() {
  claim_ports "$1"
  "$1_prepare"
  rm -f "$STATE/pids/$1"
  if owner_of "$STATE" && ((OWNER != $$)); then
    mkdir -p "$STATE/requests"
    : >"$STATE/requests/$1"
    kill -USR1 "$OWNER"
  else
    launch "$1"
  fi
}

# The owner's part of `begin`: the handler of USR1.
serve_requests() {
  local file
  for file in "$STATE"/requests/*; do
    [[ -e $file ]] || continue
    rm -f "$file"
    launch "${file##*/}"
  done
}

# await_ready SINCE SERVICE…: waits until each answers, and prints it. If one does not answer, prints the end
# of its log and fails.
await_ready() {
  local since=$1 name waiting
  shift
  while (($# > 0)); do
    waiting=()
    for name in "$@"; do
      if alive "$name" && "${name}_ready"; then
        say "$name $("${name}_version") on 127.0.0.1:$(port "$name") ($(seconds_since "$since"))"
        continue
      fi
      waiting+=("$name")
      now
      # The pid file appears with the process, so a pid file without a process means that it died.
      if { [[ -s $STATE/pids/$name ]] && ! alive "$name"; } || ((NOW - since > WAIT_SECONDS * 1000)); then
        say "$name did not start; the end of its log:"
        tail -n 20 "$STATE/logs/$name.log" 2>/dev/null | sed 's/^/    /' >&2 || true
        return 1
      fi
    done
    set -- "${waiting[@]}"
    (($# == 0)) || nap
  done
}

# await_end PID: waits until the process is a zombie without threads, or gone. Its command line disappears
# earlier, but threads end one by one, and only the last one closes the port. The wait is bounded, because
# the pid may be reused.
await_end() {
  local try tasks stat
  for ((try = 0; try < 250; try++)); do
    tasks=("/proc/$1/task"/*)
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    [[ ${#tasks[@]} != 1 || ${stat##*) } != Z* ]] || return 0
    nap 0.02
  done
}

# halt_all SERVICE…: signals all first, then waits for each, so the slowest sets the time.
halt_all() {
  local name since ending
  for name in "$@"; do
    if pid_of "$name"; then kill -TERM "$PID" 2>/dev/null || true; fi
  done
  now && since=$NOW
  for name in "$@"; do
    ending=
    while pid_of "$name"; do
      ending=$PID
      now
      if ((NOW - since > STOP_SECONDS * 1000)); then
        say "$name did not stop within $STOP_SECONDS s; killing it"
        slay "$name"
      fi
      nap 0.05
    done
    [[ -z $ending ]] || await_end "$ending"
    rm -f "$STATE/pids/$name"
  done
}

# slay SERVICE [DIR]: sends SIGKILL and waits until the process is gone.
slay() {
  local ending=
  while pid_of "$1" "${2:-$STATE}"; do
    ending=$PID
    kill -KILL "$PID" 2>/dev/null || true
    nap 0.02
  done
  [[ -z $ending ]] || await_end "$ending"
  rm -f "${2:-$STATE}/pids/$1"
}

# sweep: removes the folders of crashed runs. Their servers normally died with them.
sweep() {
  local dir name
  for dir in "$TEMP"/ljwx-stack.*; do
    [[ -d $dir && -O $dir ]] || continue
    owner_of "$dir" && continue
    # No owner yet: a run may be creating the folder at this moment.
    [[ -e $dir/owner || -n $(find "$dir" -maxdepth 0 -mmin +5) ]] || continue
    for name in "${SERVICES[@]}"; do slay "$name" "$dir"; done
    release_ports "$dir"
    rm -rf -- "$dir"
    say "removed the folder of a crashed run: $dir"
  done
}

# shellcheck shell=bash
# The worker of the last release, built from its commit once and cached. A test runs it beside the present one.

# A release moves both.
PREVIOUS_VERSION=0.2.0
PREVIOUS_COMMIT=9fdb126019a2a31a41d1a235d7b1b9e466dee370

# previous_worker: builds the program if it is not in the cache, and prints its path.
previous_worker() {
  end_background_at_exit
  cached "worker-$PREVIOUS_VERSION" previous_build ||
    die "the worker of $PREVIOUS_VERSION could not be built, see $CACHE/worker-build.log"
  echo "$CACHE/worker-$PREVIOUS_VERSION/worker"
}

# The sources and the target folder are the build's own, so no program of the checkout is replaced.
previous_build() {
  local work=$1/build log=$CACHE/worker-build.log
  say "building the worker of $PREVIOUS_VERSION, once (5 to 10 minutes on 2 cores; log: $log)"
  mkdir -p "$work"
  git -C "$HERE/../.." archive "$PREVIOUS_COMMIT" 2>"$log" | tar -x -C "$work" 2>>"$log" || return 1
  interruptible nice -n 15 env -C "$work" cargo build --locked -p ljwx-worker --bin worker \
    --target-dir "$work/target" >>"$log" 2>&1 || return 1
  mv -- "$work/target/debug/worker" "$1/worker" || return 1
  rm -rf -- "$work"
}

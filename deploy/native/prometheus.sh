# shellcheck shell=bash
# Prometheus with the alert rules of this checkout. A program that starts services writes their admin ports
# to PROMETHEUS_TARGETS. A run may go without it.

prometheus_version() { prometheus --version 2>&1 | sed -n 's/^prometheus, version \([0-9.]*\).*/\1/p'; }
prometheus_ports() { echo prometheus; }
prometheus_given() { [[ -n ${PROMETHEUS_URL:-} && -n ${PROMETHEUS_TARGETS:-} ]]; }
prometheus_variables() {
  echo "PROMETHEUS_URL=http://127.0.0.1:$(port prometheus)"
  echo "PROMETHEUS_TARGETS=$STATE/prometheus/targets"
}

# In a subshell, because `packages` ends the script if it fails.
prometheus_install() {
  have prometheus || (packages Prometheus prometheus) || { say 'no prometheus: its package could not be installed' && return 1; }
}

# The targets survive a restart. Only their writer and `down --wipe` remove them.
prometheus_prepare() {
  local home=$STATE/prometheus rules job
  rules=$(realpath -m -- "${PROMETHEUS_RULES:-$HERE/../prometheus/rules.yml}")
  [[ -f $rules ]] || { say "prometheus: there are no rules at $rules" && return 1; }
  mkdir -p "$home/targets"
  {
    cat <<EOF
global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: ["$rules"]
scrape_configs:
EOF
    for job in gateway worker alerter; do
      cat <<EOF
  - job_name: $job
    file_sd_configs:
      - files: ["$home/targets/$job-*.json"]
        refresh_interval: 1s
EOF
    done
  } >"$home/prometheus.yml"
}

# With enable-lifecycle a POST to /-/reload loads changed rules.
prometheus_command() {
  local home=$STATE/prometheus
  ARGV=(prometheus --config.file="$home/prometheus.yml" --storage.tsdb.path="$home/data"
    --web.listen-address="127.0.0.1:$(port prometheus)" --web.enable-lifecycle --log.level=warn)
}

prometheus_ready() { http_ok "$(port prometheus)" /-/ready; }

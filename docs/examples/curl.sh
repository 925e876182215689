#!/usr/bin/env bash
# Sends the bodies of a folder until the gateway has them: curl.sh URL FOLDER
#
# A body is a file FOLDER/NAME.json. A stored body is deleted, one that is refused for good, or of which
# a reading is, goes to FOLDER/refused. All others stay and are sent again. Needs bash, curl and gzip.
set -euo pipefail

(($# == 2)) || { echo "usage: curl.sh URL FOLDER" >&2 && exit 2; }
URL=${1%/} FOLDER=$2

ATTEMPT_SECONDS_MAX=30 # the gateway answers within 9 s of the last byte; a slow line needs more
PAUSE_SECONDS_MAX=300  # the pause without Retry-After grows up to this

WORK=$(mktemp -d)
trap 'rm -rf -- "$WORK"' EXIT

# post FILE: sends one body, and prints the status; 000 without an answer.
post() {
  : >"$WORK/head"
  : >"$WORK/answer"
  gzip -c "$1" >"$WORK/body"
  curl -sS --max-time "$ATTEMPT_SECONDS_MAX" -o "$WORK/answer" -D "$WORK/head" -w '%{http_code}' \
    -H 'Content-Type: application/json' -H 'Content-Encoding: gzip' --data-binary "@$WORK/body" \
    "$URL/v1/readings" || true
}

# wait_longer SECONDS: waits for this time and a random part more, else all devices come back at once.
wait_longer() {
  local most=$(($1 * 500 + 1000)) # milliseconds
  local more=$(((RANDOM * 32768 + RANDOM) % most))
  echo "status $STATUS, again in $1 s and $more ms" >&2
  sleep "$(($1 + more / 1000)).$(printf '%03d' $((more % 1000)))"
}

for body in "$FOLDER"/*.json; do
  [[ -e $body ]] || break
  pause=1
  while true; do
    STATUS=$(post "$body")
    # Only the gateway's own answer settles a body: the login page of a network says 200 as well.
    settled=$STATUS
    [[ $STATUS == 413 ]] || grep -q '"request_id"' "$WORK/answer" || settled=no
    [[ $settled != 200 ]] || grep -q '"error": *0[,}]' "$WORK/answer" || settled=partly
    case $settled in
      200)
        rm -- "$body"
        break
        ;;
      partly | 400 | 413 | 422) # the body is at fault: sent again, it would be refused again
        echo "refused for good: $body: $(cat "$WORK/answer")" >&2
        mkdir -p "$FOLDER/refused"
        mv -- "$body" "$FOLDER/refused/"
        break
        ;;
      404 | 405 | 415) # this program is at fault: its address, its method or its headers
        echo "error: nothing can be sent to $URL, the bodies are kept: $(cat "$WORK/answer")" >&2
        exit 1
        ;;
      *) # 408, 429, 503, no answer, and all else: the body stays
        after=$(sed -n '/^[Rr]etry-[Aa]fter: *[0-9]/{s/^[^0-9]*\([0-9]\{1,4\}\).*/\1/p;q;}' "$WORK/head")
        wait_longer "$((10#${after:-$pause}))"
        pause=$((pause * 2 < PAUSE_SECONDS_MAX ? pause * 2 : PAUSE_SECONDS_MAX))
        ;;
    esac
  done
done

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What every script here says while it works: one line per step with how long
# it took, one line per problem with what to do. Sourced, never run.

# The repository, and where running things keep their state. DVS_RUN moves the
# state elsewhere, so that a test can run beside somebody's own installation.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS=$ROOT/.tools
RUN=${DVS_RUN:-$ROOT/.run}
# shellcheck disable=SC2034 # used where this is sourced
LOGS=$RUN/log
export PATH="$TOOLS/bin:$PATH"
# Jobs of CI systems and systemd may have none.
export HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}

say() { printf '%s\n' "$*" >&2; }

# die WHAT: one line, then the end.
die() {
    say "$(basename "$0"): $*"
    exit 1
}

# missing WHAT HOW: a tool that could not be installed, and how to get it.
missing() { die "missing: $1. Get it with: $2"; }

have() { command -v "$1" >/dev/null 2>&1; }

# help SCRIPT: the comment at the script's head, which is its manual.
help() { sed -n '3,/^$/s/^# \{0,1\}//p' "$1"; }

# step NAME COMMAND...: runs the command, and prints the step with its time.
# The command may write to the terminal; its failure is the script's.
step() {
    local name=$1 begun=$SECONDS code
    shift
    say "==> $name"
    # In a subshell of its own, and not behind `||`: there bash would switch
    # `set -e` off inside the command.
    set +e
    (
        set -e
        "$@"
    )
    code=$?
    set -e
    ((code == 0)) || die "$name failed after $((SECONDS - begun)) s"
    say "    $name: $((SECONDS - begun)) s"
}

# quietly LOG COMMAND...: keeps a command's chatter in a log. A long one says
# every 20 s that it lives, with what it does at the moment; a failed one shows
# its last lines.
quietly() {
    local log=$1 begun=$SECONDS told=$SECONDS pid
    shift
    mkdir -p "$(dirname "$log")"
    "$@" >"$log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.1
        if ((SECONDS - told >= 20)); then
            told=$SECONDS
            say "    … $((SECONDS - begun)) s: $(tail -n 1 "$log" | tr -d '\r' | cut -c 1-100)"
        fi
    done
    if ! wait "$pid"; then
        tail -n 15 "$log" >&2
        return 1
    fi
}

# eventually SECONDS COMMAND...: repeats a quiet command until it succeeds.
eventually() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.2
    done
}

# exclusive: one script at a time may change what runs. What is started must
# not inherit the lock: see 9>&- there.
exclusive() {
    mkdir -p "$RUN"
    exec 9>"$RUN/lock"
    flock -n 9 || die "another ops/up or ops/down is at work in $RUN"
}

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Plain processes, for machines without a Docker engine. Each has a record in
# .run/processes/<name>: which process it is, and what it was started as.
# Sourced.

PROCESSES=$RUN/processes
CREDENTIALS=$RUN/credentials
DATA=$RUN/data

NATS_PORT=${DVS_NATS_PORT:-4222}
MONITOR_PORT=${DVS_NATS_MONITOR_PORT:-8222}
# Health and metrics: publisher +1, agent +2, collector +3, retry +4; agents with
# an Open vSwitch each from +11.
PORT_BASE=${DVS_PORT_BASE:-9400}

# The first to start and the last to stop come first.
NATIVE_ORDER=(nats config-publisher retry runtime-collector host-agent)

# identity PID: what no other process has, also after a reboot.
identity() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The second field is the program's name in parentheses, spaces included.
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} != Z ]] || return 1
    # Field 22 of the whole line: start time in ticks since boot.
    echo "$1 ${fields[19]} $(</proc/sys/kernel/random/boot_id)"
}

# running NAME: true, and sets PID, if the process of the record lives.
running() {
    local recorded
    recorded=$(head -n 1 "$PROCESSES/$1" 2>/dev/null) || return 1
    PID=${recorded%% *}
    [[ -n $PID && $(identity "$PID") == "$recorded" ]]
}

native_is_up() {
    local name
    for name in "${NATIVE_ORDER[@]}"; do running "$name" && return; done
    return 1
}

# native_hosts: how many there are; nothing if none was started.
native_hosts() {
    if ovs_is_up; then
        ovs_hosts_up
        return
    fi
    sed -n 's/.* --replicas \([0-9]*\)$/\1/p' "$PROCESSES/host-agent" 2>/dev/null || true
}

# stop NAME: lets the process end in order, and ends it after 20 s.
stop() {
    if running "$1"; then
        kill -TERM "$PID"
        eventually 20 not_running "$1" || {
            say "    $1 did not stop in 20 s; killed"
            kill -KILL "$PID"
            eventually 5 not_running "$1"
        }
    fi
    rm -f "$PROCESSES/$1"
}

not_running() { ! running "$1"; }

# start NAME [FILE...] -- PROGRAM ARGUMENT...: starts it, unless it runs as just
# that: the same program with the same arguments and the same text in the files,
# which it reads at its start. Another one is replaced.
start() {
    local name=$1 files=(/dev/null) as
    shift
    while [[ $1 != -- ]]; do
        files+=("$1")
        shift
    done
    shift
    as="$(stat -Lc '%d:%i %Y' "$1") $(cat "${files[@]}" | cksum) $*"
    if running "$name"; then
        [[ $(tail -n +2 "$PROCESSES/$name") == "$as" ]] && return
        stop "$name"
    fi
    mkdir -p "$PROCESSES" "$LOGS"
    # A session of its own: it outlives this script and its terminal.
    setsid "$@" </dev/null >>"$LOGS/$name" 2>&1 9>&- &
    printf '%s\n%s\n' "$(identity $!)" "$as" >"$PROCESSES/$name"
}

# ready NAME COMMAND...: waits until the command succeeds; shows the log's end
# when the process dies or takes more than a minute.
ready() {
    local name=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        if ! running "$name" || ((SECONDS >= deadline)); then
            say "--- the end of $LOGS/$name"
            tail -n 15 "$LOGS/$name" >&2
            running "$name" || die "$name ended at its start"
            die "$name is not ready after 60 s"
        fi
        sleep 0.1
    done
}

# listening PORT
listening() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# bus_healthy: what the server says of itself; curl may not be there.
bus_healthy() {
    exec 3<>"/dev/tcp/127.0.0.1/$MONITOR_PORT" || return 1
    printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
    grep -q '"status": *"ok"' <&3
}

# free PORT VARIABLE: dies when another program has the port.
free() {
    ! listening "$1" ||
        die "port $1 of 127.0.0.1 is taken by another program; end that, or choose another port: $2=… $0"
}

native_credentials() {
    "$BINARIES/dvsctl" credentials "$CREDENTIALS" 2>&1 | tee -a "$LOGS/credentials" >&2
}

native_bus() {
    running nats || {
        free "$NATS_PORT" DVS_NATS_PORT
        free "$MONITOR_PORT" DVS_NATS_MONITOR_PORT
    }
    # Beside the credentials, where it looks for the keys.
    local config=$RUN/nats-server.conf
    cp "$ROOT/ops/nats/nats-server.conf" "$config"
    start nats "$config" "$CREDENTIALS/server/keys.conf" -- \
        "$TOOLS/bin/nats-server" -c "$config" -p "$NATS_PORT" -m "$MONITOR_PORT"
    ready nats bus_healthy
}

# service NAME ROLE PORT ARGUMENT...
service() {
    local name=$1 role=$2 port=$3
    shift 3
    running "$name" || free "$port" DVS_PORT_BASE
    start "$name" -- "$BINARIES/$name" --server "nats://127.0.0.1:$NATS_PORT" \
        --nkey "$CREDENTIALS/$role/$role.nk" --data "$DATA" --listen "127.0.0.1:$port" "$@"
}

native_services() {
    mkdir -p "$DATA"
    local base=$PORT_BASE
    service config-publisher publisher $((base + 1))
    service retry retry $((base + 4))
    service runtime-collector collector $((base + 3))
    if [[ $DATAPATH == ovs ]]; then
        ovs_hosts
    else
        service host-agent agent $((base + 2)) --datapath emulated \
            --host host --replicas "$HOSTS"
        ready host-agent "$BINARIES/host-agent" healthcheck --listen "127.0.0.1:$((base + 2))"
    fi
    local name port
    while read -r name port; do
        ready "$name" "$BINARIES/$name" healthcheck --listen "127.0.0.1:$port"
    done <<-END
		config-publisher $((base + 1))
		retry $((base + 4))
		runtime-collector $((base + 3))
	END
}

native_up() {
    mkdir -p "$LOGS"
    step "credentials" native_credentials
    step "NATS" native_bus
    step "services, and $HOSTS hosts" native_services
    OPERATOR_KEY=$CREDENTIALS/operator/operator.nk
}

# native_down: stops what runs, the bus last.
native_down() {
    local i
    if ovs_is_up; then ovs_down; fi
    for ((i = ${#NATIVE_ORDER[@]} - 1; i >= 0; i--)); do stop "${NATIVE_ORDER[i]}"; done
}

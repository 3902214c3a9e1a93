# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Hosts with a real Open vSwitch each, on one machine: every host is a network
# namespace with an ovsdb-server and an ovs-vswitchd of its own, all of them on
# one wire, and two machines are plugged in. Forwards in user space, so no
# kernel module is needed. Sourced.

OVS=$RUN/ovs
FABRIC=dvs-fabric

# The machines: the ports of the quick start that they are plugged in as, with
# host, MAC address and IP address.
MACHINES=(
    "web-1 host-1 52:54:00:00:01:01 10.0.100.1"
    "web-2 host-2 52:54:00:00:01:02 10.0.100.2"
)

ovs_is_up() { [[ -d $OVS ]]; }

# ovs_hosts_up: how many hosts run.
ovs_hosts_up() { find "$PROCESSES" -name 'host-agent-host-*' 2>/dev/null | wc -l; }

ovs_tools() {
    [[ $(id -u) == 0 ]] || die "--datapath ovs makes network namespaces, and only root may: sudo $0 --datapath ovs"
    tool_openvswitch || missing "Open vSwitch or iproute2" "sudo apt-get install openvswitch-switch iproute2"
    have ping || apt iputils-ping || missing "ping" "sudo apt-get install iputils-ping"
}

# namespace NAME: makes it, unless we have. Somebody else's stays theirs.
namespace() {
    grep -qsx "$1" "$OVS/namespaces" && [[ -e /run/netns/$1 ]] && return
    [[ ! -e /run/netns/$1 ]] || grep -qsx "$1" "$OVS/namespaces" ||
        die "network namespace $1 is somebody else's; remove it with: ip netns del $1"
    echo "$1" >>"$OVS/namespaces"
    ip netns add "$1"
    ip -n "$1" link set lo up
}

# wired NAMESPACE INTERFACE OTHER NAME: a wire between two namespaces, unless it
# is there.
wired() {
    ip -n "$1" link show "$2" >/dev/null 2>&1 && return
    ip link add "$2" netns "$1" type veth peer name "$4" netns "$3"
    ip -n "$1" link set "$2" up
    ip -n "$3" link set "$4" up
}

# The wire that joins all hosts: a bridge that knows nothing of VLANs and so
# carries all of them.
fabric() {
    namespace "$FABRIC"
    ip -n "$FABRIC" link show wire >/dev/null 2>&1 || ip -n "$FABRIC" link add wire type bridge
    ip -n "$FABRIC" link set wire mtu 9000 up
}

# host NUMBER
host() {
    local name=host-$1 run=$OVS/host-$1 base=$PORT_BASE schema
    namespace "dvs-$name"
    wired "dvs-$name" eth1 "$FABRIC" "to-$name"
    ip -n "$FABRIC" link set "to-$name" mtu 9000 master wire
    mkdir -p "$run"
    schema=${OVS_PKGDATADIR:-/usr/share/openvswitch}/vswitch.ovsschema
    [[ -e $run/conf.db ]] || ovsdb-tool create "$run/conf.db" "$schema"
    start "ovsdb-$name" -- "$(type -P ovsdb-server)" "$run/conf.db" -vconsole:warn \
        --remote="punix:$run/db.sock" --unixctl="$run/ovsdb.ctl" --no-chdir
    ready "ovsdb-$name" ovs-vsctl --db="unix:$run/db.sock" --no-wait init
    OVS_RUNDIR=$run start "vswitchd-$name" -- "$(type -P ip)" netns exec "dvs-$name" \
        ovs-vswitchd "unix:$run/db.sock" --pidfile="$run/ovs-vswitchd.pid" --disable-system -vconsole:warn
    ready "vswitchd-$name" test -e "$run/ovs-vswitchd.pid"
    mkdir -p "$DATA/$name"
    start "host-agent-$name" -- "$BINARIES/host-agent" --server "nats://127.0.0.1:$NATS_PORT" \
        --nkey "$CREDENTIALS/agent/agent.nk" --data "$DATA/$name" \
        --listen "127.0.0.1:$((base + 10 + $1))" --host "$name" \
        --datapath ovs --ovs-datapath netdev --ovs-db "unix:$run/db.sock" --ovs-run-dir "$run"
    ready "host-agent-$name" "$BINARIES/host-agent" healthcheck --listen "127.0.0.1:$((base + 10 + $1))"
}

ovs_hosts() {
    mkdir -p "$OVS"
    fabric
    local number
    for ((number = 1; number <= HOSTS; number++)); do host "$number"; done
}

# vsctl HOST ARGUMENT...
vsctl() {
    local db=unix:$OVS/$1/db.sock
    shift
    ovs-vsctl --db="$db" --timeout=20 "$@"
}

# The machines, plugged in as libvirt does.
ovs_machines() {
    local machine port host mac address
    for machine in "${MACHINES[@]}"; do
        read -r port host mac address <<<"$machine"
        [[ -d $OVS/$host ]] || continue
        namespace "dvs-vm-$port"
        wired "dvs-vm-$port" eth0 "dvs-$host" "vm-$port"
        ip -n "dvs-vm-$port" link set eth0 address "$mac" up
        ip -n "dvs-vm-$port" address replace "$address/24" dev eth0
        vsctl "$host" -- --may-exist add-port dvs-prod "vm-$port" \
            -- set Interface "vm-$port" "external_ids:iface-id=$port"
    done
    ready host-agent-host-1 ip netns exec dvs-vm-web-1 ping -c 1 -W 1 10.0.100.2
}

ovs_down() {
    local record name
    for name in host-agent- vswitchd- ovsdb-; do
        for record in "$PROCESSES/$name"host-*; do
            [[ -e $record ]] || continue
            stop "$(basename "$record")"
        done
    done
    while read -r name; do
        [[ ! -e /run/netns/$name ]] || ip netns del "$name"
    done <"$OVS/namespaces"
    rm -rf "$OVS"
}

ovs_next() {
    local to=$1
    cat <<END

Two machines are plugged in, web-1 on host-1 and web-2 on host-2:
  sudo ip netns exec dvs-vm-web-1 ping 10.0.100.2

Leave that running, and in another terminal put web-2 into another VLAN, and back:
  echo '{"kind":"Port","name":"web-2","switch":"prod","group":"db","host":"host-2","mac":"52:54:00:00:01:02"}' | $to apply -f - --wait
  echo '{"kind":"Port","name":"web-2","switch":"prod","group":"web","host":"host-2","mac":"52:54:00:00:01:02"}' | $to apply -f - --wait

What Open vSwitch has:
  sudo $(command -v ovs-vsctl) --db=unix:$(realpath -m "$OVS")/host-1/db.sock show
END
}

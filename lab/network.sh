# Shell functions for the guest of lab/guest: `. lab/network.sh`. Each fails if it can't do what it says.
# shellcheck shell=bash disable=SC2034  # LAB_* are for those who use this

# The two ends of lab_veth's cable. The far end is in a network namespace of its own, so that a program there can bind
# RoCEv2's port, 4791, which rxe holds at the near end.
LAB_NEAR=near LAB_NEAR_IPV4=10.77.0.1 LAB_NEAR_IPV6=fd77::1
LAB_PEER=peer LAB_PEER_IPV4=10.77.0.2 LAB_PEER_IPV6=fd77::2

# lab_veth [MTU]: a cable from here, interface `near`, to the namespace `peer`, interface `peer`. MTU in
# bytes, 1500 if not given; 9000 lets RoCEv2 have its largest path MTU, 4096.
lab_veth() {
    local mtu=${1:-1500}
    ip netns add peer || return
    ip link add near mtu "$mtu" type veth peer name peer mtu "$mtu" netns peer || return
    lab_peer ip link set lo up || return
    # Without duplicate address detection an address can be used at once.
    ip address add $LAB_NEAR_IPV4/24 dev near && ip address add $LAB_NEAR_IPV6/64 dev near nodad || return
    lab_peer ip address add $LAB_PEER_IPV4/24 dev peer || return
    lab_peer ip address add $LAB_PEER_IPV6/64 dev peer nodad || return
    ip link set near up && lab_peer ip link set peer up || return
    # One processor takes in all packets of a flow. Without this it is the one that sent the packet, and
    # packets overtake each other, as on no cable, when the sender moves to another.
    echo 3 >/sys/class/net/near/queues/rx-0/rps_cpus
    lab_peer sh -c 'echo 3 >/sys/class/net/peer/queues/rx-0/rps_cpus'
}

# lab_peer COMMAND [ARGUMENT]...: at the far end of the cable.
lab_peer() { ip netns exec peer "$@"; }

# lab_rxe [INTERFACE [DEVICE]]: a Soft-RoCE device on an interface of this namespace; `rxe0` on `near` if not
# given. Once it returns, the interface's addresses are GIDs.
lab_rxe() {
    local interface=${1:-near} device=${2:-rxe0} address deadline=$((SECONDS + 10))
    rdma link add "$device" type rxe netdev "$interface" || return
    for address in $(ip -o address show dev "$interface" | awk '{ sub("/.*", "", $4); print $4 }'); do
        # The kernel enters them in the background.
        until lab_gid_index "$address" "$device" >/dev/null; do
            ((SECONDS < deadline)) || { echo "lab_rxe: $device has no GID for $address" >&2 && return 1; }
            sleep 0.05
        done
    done
}

# lab_gid_index ADDRESS [DEVICE]: the index of an IPv4 or IPv6 address in the GID table, as `ibv_rc_pingpong
# -g` wants it.
lab_gid_index() {
    local file
    file=$(grep -lsxF "$(lab_gid "$1")" "/sys/class/infiniband/${2:-rxe0}"/ports/1/gids/*) || return
    basename "$file"
}

# lab_gid ADDRESS: an IPv4 or IPv6 address as the kernel writes GIDs, in full.
lab_gid() {
    local head tail=() gid
    if [[ $1 != *:* ]]; then
        IFS=. read -ra head <<<"$1"
        printf '0000:0000:0000:0000:0000:ffff:%02x%02x:%02x%02x\n' "${head[@]}"
        return
    fi
    IFS=: read -ra head <<<"${1%%::*}"
    [[ $1 != *::* ]] || IFS=: read -ra tail <<<"${1#*::}"
    while ((${#head[@]} + ${#tail[@]} < 8)); do head+=(0); done
    printf -v gid '%04x:' "${head[@]/#/0x}" "${tail[@]/#/0x}"
    echo "${gid%:}"
}

# The two devices as SECURE_RDMA_ENDS names them, for the tests of the verbs.
LAB_RXE=rxe0@$LAB_NEAR_IPV4@$LAB_NEAR_IPV6
LAB_EMBEDDED=embedded@$LAB_PEER_IPV4@$LAB_PEER_IPV6@peer

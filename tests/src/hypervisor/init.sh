#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The only program of the guest: takes its addresses, and answers pings.
# From the kernel's command line: plain=ADDRESS/BITS switched=ADDRESS/BITS
# peers="ADDRESS=MAC ADDRESS=MAC".
export PATH=/bin
# In whatever order they need each other.
for _ in 1 2 3 4 5 6; do
    for module in /*.ko; do insmod "$module" 2>/null; done
done
mkdir -p /proc
mount -t proc proc /proc
ip link set lo up
ip address add "$plain" dev eth0
ip address add "$switched" dev eth1
ip link set eth0 up
ip link set eth1 up
# Known for good, so that an outage is that of frames alone.
IFS=,
for peer in $peers; do arp -s "${peer%=*}" "${peer#*=}"; done
echo "the guest is up"
while :; do sleep 3600; done

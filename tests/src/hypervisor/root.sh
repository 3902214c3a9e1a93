# SPDX-License-Identifier: Apache-2.0
# The file system and the libvirtd of one hypervisor, in mount, UTS and PID
# namespaces of its own: the system's programs with those of the opened packages
# over them, and everything that libvirt writes in memory.
#
#   sh root.sh PACKAGES SITE NAME OPENVSWITCH
#
# SITE is seen under the same path inside, so that sockets have one name.
set -eu
packages=$1 site=$2 name=$3 openvswitch=$4
root=$site/$name.root

hostname "$name"
mount --make-rprivate /
mount -t tmpfs tmpfs "$root"
mkdir -p "$root/usr" "$root/proc" "$root/sys" "$root/dev/net" "$root/dev/pts" "$root/dev/shm" \
    "$root/tmp" "$root/run/openvswitch" "$root/etc/libvirt" "$root/var/log" "$root/$site"
ln -s ../run "$root/var/run"
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
mount -t overlay overlay -o "lowerdir=$packages/usr:/usr" "$root/usr"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
# Without kvm: where it is, it may still boot no guest.
for device in null zero full random urandom net/tun; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=0666
ln -s pts/ptmx "$root/dev/ptmx"
mount --bind "$openvswitch" "$root/run/openvswitch"
mount --bind "$site" "$root/$site"
# libvirtd looks for Debian's user even if it is told to take another.
printf '%s\n' root:x:0:0::/: libvirt-qemu:x:64055:64055::/: >"$root/etc/passwd"
printf '%s\n' root:x:0: kvm:x:64054: libvirt-qemu:x:64055: >"$root/etc/group"

cat >"$root/etc/libvirt/libvirtd.conf" <<END
unix_sock_dir = "$site/$name"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
END
# Nobody else is here to be guarded from, and there is no virtlogd.
cat >"$root/etc/libvirt/qemu.conf" <<END
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
END

# This shell is the first process of its namespace, and so it is the one to take
# leave of machines that ended: libvirt waits for that.
chroot "$root" /usr/sbin/libvirtd &
wait $!

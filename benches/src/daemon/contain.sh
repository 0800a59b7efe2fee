# First process of a daemon's own process, mount and network namespaces:
#   bash -c SCRIPT contain TREE FOLDER COMMAND...
# It ends the daemon when its standard input is closed, which happens at the
# latest when the benchmark is gone, and with it everything the daemon started.
set -eu
tree=$1 folder=$2
shift 2
if [ -n "$tree" ]; then
    # An unpacked package, as if it were installed. Nobody but this process sees it.
    mount -t overlay overlay -o "lowerdir=$tree/usr:/usr" /usr
    echo root:1000000:1000000000 >"$folder/ids"
    for file in /etc/subuid /etc/subgid; do
        if [ -e $file ]; then mount --bind "$folder/ids" $file; fi
    done
fi
mount -t tmpfs -o mode=755 tmpfs /run
# A /sys that shows this network; the cgroup mounts under the old one are carried over.
mkdir "$folder/cgroup"
mount --rbind /sys/fs/cgroup "$folder/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$folder/cgroup" /sys/fs/cgroup
umount -l "$folder/cgroup"
ip link set lo up
exec 3<&0 </dev/null
"$@" 3<&- &
daemon=$!
cat <&3 >/dev/null &
wait -n || true
kill -TERM $daemon 2>/dev/null || true
wait $daemon || true

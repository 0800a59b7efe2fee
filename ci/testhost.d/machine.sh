# The test host's emulated machine: its command line, and its saved states.
# Sourced by ci/testhost, which gives `here`, after lib/common.sh and lib/tools.sh.
# shellcheck shell=bash
: "${here:?}"

# More breaks the SR-IOV card's virtual functions: their registers land above 4 GiB.
machine_memory_mib=2560

# machine_arguments KIND IMAGE DIR PORT: fills the array `machine`. The shared disk and the NVMe
# disk have their back ends here and are plugged in when the host is up: the one differs from run
# to run, the other cannot be part of a saved state.
machine_arguments() {
    local kind=$1 image=$2 dir=$3 port=$4 kernel='console=ttyS0,115200 quiet panic=-1 net.ifnames=0 systemd.show_status=0 mitigations=off'
    machine=(
        -name testhost -accel "tcg,thread=multi,tb-size=1024" -M "q35,kernel-irqchip=split" -cpu "EPYC,+svm,+npt"
        -smp 2 -m "$machine_memory_mib" -nodefaults -display none -no-reboot
        -kernel "$image/vmlinuz" -initrd "$image/initrd"
        -serial "file:$dir/console.log" -qmp "unix:$dir/qmp,server,nowait"
        -device "virtio-blk-pci,drive=root"
        -netdev "user,id=manage,restrict=on,hostfwd=tcp:127.0.0.1:$port-10.0.2.15:22"
        -device "virtio-net-pci,netdev=manage,mac=52:54:00:12:34:56"
        -object "rng-random,id=rng,filename=/dev/urandom" -device "virtio-rng-pci,rng=rng"
        # Each run of a saved state is told that it is another machine, so that it makes other random numbers.
        -device "vmgenid,guid=auto"
        -drive "if=none,id=share,file=$dir/share.raw,format=raw,readonly=on" -device "pcie-root-port,id=share_port,chassis=1,slot=1"
    )
    if [ "$kind" = full ]; then
        kernel+=' intel_iommu=on'
        machine+=(
            -device "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on"
            -device "pcie-root-port,id=rp2,chassis=2,slot=2" -netdev "user,id=sriov,restrict=on" -device "igb,bus=rp2,netdev=sriov"
            -device "pcie-root-port,id=nvme_port,chassis=3,slot=3" -drive "if=none,id=nvme,file=$dir/nvme.raw,format=raw"
            -device "pcie-root-port,id=rp4,chassis=4,slot=4" -device "secondary-vga,bus=rp4"
        )
    fi
    machine+=(-append "$kernel")
}

# machine_plugs KIND: monitor commands that plug in what machine_arguments leaves out.
machine_plugs() {
    echo "device_add virtio-blk-pci,drive=share,bus=share_port"
    [ "$1" != full ] || echo "device_add nvme,drive=nvme,bus=nvme_port,serial=virga"
}

# machine_start KIND IMAGE DIR OWNER [STATE]: starts QEMU beside this shell, from power-on or from a
# saved state; leaves its pid in DIR/pid and its ssh port in DIR/port. It ends when the process
# OWNER does. With VIRGA_TESTHOST_DISK the root disk's changes go to that file, else they are forgotten.
machine_start() {
    local kind=$1 image=$2 dir=$3 owner=$4 state=${5:-} qemu port machine=()
    qemu=$(qemu_dir)
    # A free loopback port for ssh: asked of the kernel, used at once.
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    echo "$port" >"$dir/port"
    machine_arguments "$kind" "$image" "$dir" "$port"
    if [ -n "${VIRGA_TESTHOST_DISK:-}" ]; then
        machine+=(-drive "if=none,id=root,file=$VIRGA_TESTHOST_DISK,format=qcow2,cache=unsafe")
    elif [ -n "$state" ]; then
        machine+=(-drive "if=none,id=root,file=$state/root.qcow2,format=qcow2,snapshot=on,cache=unsafe" -incoming "file:$state/memory")
    else
        machine+=(-drive "if=none,id=root,file=$image/disk.raw,format=raw,snapshot=on,cache=unsafe")
    fi
    (
        # What runs beside it must not starve it: its clock goes on, and what waits in it gives up.
        export TMPDIR=$dir/tmp VIRGA_QEMU_BY=$here/testhost.d/urgent
        run_qemu "$qemu" "${machine[@]}"
    ) >"$dir/qemu.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    machine_watch $! "$owner" "$dir" >/dev/null 2>&1 </dev/null &
    disown -a
}

# process_age_mark PID: tells a process from a later one with its number; empty when there is none.
process_age_mark() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# machine_watch PID OWNER DIR: ends QEMU when its owner is gone, whatever happens to either.
machine_watch() {
    local pid=$1 owner=$2 dir=$3 mark
    # Not this shell's: the lock is free as soon as QEMU is gone.
    exec 8>&-
    mark=$(process_age_mark "$owner")
    while kill -0 "$pid" 2>/dev/null; do
        if [ -z "$mark" ] || [ "$(process_age_mark "$owner")" != "$mark" ]; then machine_end "$pid"; fi
        sleep 1
    done
    rm -rf "$dir/tmp"
}

# machine_end PID: ends QEMU; for certain within 5 s.
machine_end() {
    local n=0
    kill "$1" 2>/dev/null || true
    while kill -0 "$1" 2>/dev/null && [ $n -lt 50 ]; do n=$((n + 1)); sleep 0.1; done
    kill -9 "$1" 2>/dev/null || true
}

# machine_state_key KIND IMAGE: everything that a saved state depends on.
machine_state_key() { { echo "$1 $(basename "$2") $(basename "$(qemu_dir)")"; cat "${BASH_SOURCE[0]}"; } | content_hash; }

# machine_saved_state KIND IMAGE: prints the folder of the saved state of a booted machine
# (memory, root.qcow2), or returns 1 when there is none yet.
machine_saved_state() { cached testhost-state "$(machine_state_key "$1" "$2")"; }

# machine_save KIND IMAGE: prints the folder of a saved state, which it makes when there is none:
# boots a machine, waits until it is at rest, and writes its memory. The caller gives
# `machine_wait DIR`, which returns when the machine in DIR answers, and `machine_settle DIR`.
machine_save() {
    local kind=$1 image=$2 dir work
    dir=$(machine_saved_state "$kind" "$image") && { echo "$dir"; return 0; }
    exec 9>"$VIRGA_CACHE/testhost-state.lock"
    flock 9
    dir=$(machine_saved_state "$kind" "$image") && { echo "$dir"; return 0; }
    step "test host: booting a machine to save its state (about 1 minute, once)"
    work=$dir.new
    rm -rf "$work"
    mkdir -p "$work/tmp"
    install -m 600 "$image/id_ed25519" "$work/id_ed25519"
    truncate -s 1M "$work/share.raw" "$work/nvme.raw"
    qemu-img create -q -f qcow2 -b "$image/disk.raw" -F raw "$work/root.qcow2"
    VIRGA_TESTHOST_DISK=$work/root.qcow2 machine_start "$kind" "$image" "$work" $BASHPID
    if machine_wait "$work" && machine_settle "$work" && "$here/testhost.d/qmp" "$work/qmp" "save $work/memory" quit; then
        local pid
        pid=$(cat "$work/pid")
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
        rm -rf "$work"/{tmp,share.raw,nvme.raw,pid,port,qmp,ssh,id_ed25519}
        cached_done "$dir"
        # Those of older images and machines are of no use any more.
        find "$(dirname "$dir")" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} +
        echo "$dir"
        return 0
    fi
    machine_end "$(cat "$work/pid")"
    return 1
}

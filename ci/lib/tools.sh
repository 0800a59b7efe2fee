# The programs of other Debian suites that the tests and benchmarks use, each
# unpacked into the cache and never installed. Sourced after common.sh.
# shellcheck shell=bash

# incus_client: path of the unmodified incus client (Debian bookworm-backports).
incus_client() {
    local version dir
    version=$(suite_version bookworm-backports incus-client)
    if ! dir=$(cached incus-client "$version"); then
        step "incus client $version"
        rm -rf "$dir.new"
        suite_extract bookworm-backports "$dir.new" incus-client
        cached_done "$dir"
    fi
    echo "$dir/usr/bin/incus"
}

# incus_server: folder with Debian's incus daemon and what it needs, for benchmarks.
incus_server() {
    local version dir
    version=$(suite_version bookworm-backports incus-base)
    if ! dir=$(cached incus-server "$version"); then
        step "incus daemon $version"
        rm -rf "$dir.new"
        suite_closure bookworm-backports "$dir.new" incus-base
        cached_done "$dir"
    fi
    echo "$dir"
}

# qemu_dir: folder with Debian's newest QEMU for x86 (bookworm-backports).
qemu_dir() {
    local version dir
    version=$(suite_version bookworm-backports qemu-system-x86)
    if ! dir=$(cached qemu "$version"); then
        step "QEMU $version"
        rm -rf "$dir.new"
        suite_closure bookworm-backports "$dir.new" qemu-system-x86 qemu-utils seabios ipxe-qemu
        cached_done "$dir"
    fi
    echo "$dir"
}

# run_qemu DIR ARGS...: QEMU out of an unpacked folder; by the command VIRGA_QEMU_BY where it is set.
run_qemu() {
    local dir=$1
    shift
    LD_LIBRARY_PATH="$dir/usr/lib/x86_64-linux-gnu:$dir/lib/x86_64-linux-gnu" exec ${VIRGA_QEMU_BY:-} "$dir/usr/bin/qemu-system-x86_64" \
        -L "$dir/usr/share/qemu" -L "$dir/usr/share/seabios" -L "$dir/usr/lib/ipxe/qemu" "$@"
}

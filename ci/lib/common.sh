# Shared by the scripts under ci/ and firmware/: where things are cached, how
# progress is shown, and how Debian packages are had without touching the
# machine's own apt sources. Sourced, never run.
# shellcheck shell=bash

VIRGA_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VIRGA_CACHE=${VIRGA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/virga}
mkdir -p "$VIRGA_CACHE"
export VIRGA_CACHE
export PATH=$PATH:/usr/sbin:/sbin

if [ -t 2 ]; then
    _bold=$'\e[1m' _red=$'\e[31m' _dim=$'\e[2m' _off=$'\e[0m'
else
    _bold='' _red='' _dim='' _off=''
fi

# step TEXT: a line that says what is being done now, with the seconds so far.
step() { printf '%s[%4ds] %s%s\n' "$_bold" "$SECONDS" "$*" "$_off" >&2; }
note() { printf '%s        %s%s\n' "$_dim" "$*" "$_off" >&2; }
die() {
    printf '%serror:%s %s\n' "$_red" "$_off" "$*" >&2
    exit 1
}

# content_hash: the first 16 digits of the SHA-256 of standard input.
content_hash() { sha256sum | cut -c1-16; }

need_root() {
    [ "$(id -u)" = 0 ] || die "$(basename "$0") needs root (containers, networks and /dev/kvm): run it with sudo"
}

# need_packages NAME...: installs the Debian packages that are missing.
need_packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    [ "$(id -u)" = 0 ] || die "missing Debian packages: ${missing[*]}; install them or run as root"
    step "installing Debian packages: ${missing[*]}"
    # One apt at a time: parallel scripts would trip over dpkg's lock.
    (
        flock 8
        DEBIAN_FRONTEND=noninteractive
        export DEBIAN_FRONTEND
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$VIRGA_CACHE/apt.log" 2>&1 8>&- ||
            { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$VIRGA_CACHE/apt.log" 2>&1 8>&- ||
            { tail -5 "$VIRGA_CACHE/apt.log" >&2; die "apt-get could not install ${missing[*]}"; }
    ) 8>"$VIRGA_CACHE/apt.lock"
}

# debian_mirror: the mirror that this machine's own apt sources name.
debian_mirror() {
    apt-get indextargets --format '$(REPO_URI)|$(LABEL)|$(CODENAME)' 'Created-By: Packages' |
        awk -F'|' '$2=="Debian" && $3=="bookworm" {print $1; exit}' |
        grep . || die "no Debian bookworm mirror in this machine's apt sources"
}

# _suite_apt SUITE: prepares a private apt that sees SUITE beside the machine's
# own release, from the machine's own mirror, and prints its configuration file.
_suite_apt() {
    local suite=$1 base="$VIRGA_CACHE/apt/$1" mirror
    if [ ! -s "$base/apt.conf" ] || [ -n "$(find "$base/updated" -mtime +3 2>/dev/null)" ]; then
        mirror=$(debian_mirror)
        mkdir -p "$base/state/lists/partial" "$base/cache/archives/partial" "$base/parts"
        printf 'Types: deb\nURIs: %s\nSuites: bookworm %s\nComponents: main\nSigned-By: %s\n' \
            "$mirror" "$suite" /usr/share/keyrings/debian-archive-keyring.gpg >"$base/parts/d.sources"
        cat >"$base/apt.conf.new" <<CONF
Dir::State "$base/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "$base/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$base/parts";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root";
CONF
        APT_CONFIG="$base/apt.conf.new" apt-get update -qq >&2 || die "could not read the package list of $suite"
        mv "$base/apt.conf.new" "$base/apt.conf"
        touch "$base/updated"
    fi
    echo "$base/apt.conf"
}

# suite_version SUITE PACKAGE: the version that SUITE offers.
suite_version() {
    local conf
    conf=$(_suite_apt "$1")
    APT_CONFIG=$conf apt-cache madison "$2" | awk -F'|' -v s="$1" '$3 ~ s {gsub(/ /,"",$2); print $2; exit}' |
        grep . || die "$1 has no package $2"
}

# suite_extract SUITE DIR PACKAGE...: unpacks the packages themselves into DIR.
suite_extract() {
    local suite=$1 dir=$2 conf work
    shift 2
    conf=$(_suite_apt "$suite")
    work=$(mktemp -d "$VIRGA_CACHE/tmp.deb.XXXXXX")
    mkdir -p "$dir"
    (cd "$work" && APT_CONFIG=$conf apt-get download -qq "${@/%//$suite}" >/dev/null 2>"$work/err") || {
        cat "$work/err" >&2
        rm -rf "$work"
        die "could not download $* from $suite"
    }
    local deb
    for deb in "$work"/*.deb; do dpkg -x "$deb" "$dir"; done
    rm -rf "$work"
}

# suite_closure SUITE DIR PACKAGE...: like suite_extract, with whatever the
# packages need that this machine has not installed.
suite_closure() {
    local suite=$1 dir=$2 conf work deb
    shift 2
    conf=$(_suite_apt "$suite")
    work=$(mktemp -d "$VIRGA_CACHE/tmp.deb.XXXXXX")
    mkdir -p "$dir" "$work/partial"
    APT_CONFIG=$conf apt-get install -y -qq --no-install-recommends --download-only \
        -o Debug::NoLocking=1 -o Dir::Cache::archives="$work" -t "$suite" "$@" >"$work/log" 2>&1 || {
        tail -5 "$work/log" >&2
        rm -rf "$work"
        die "could not download $* from $suite"
    }
    for deb in "$work"/*.deb; do dpkg -x "$deb" "$dir"; done
    rm -rf "$work"
}

# cached NAME KEY: prints the folder of a cache entry; returns 1 when it has
# still to be made. The caller fills "$dir.new" and calls cached_done "$dir".
cached() {
    # No colon in a path that ends up in LD_LIBRARY_PATH.
    local dir="$VIRGA_CACHE/$1/${2//:/_}"
    echo "$dir"
    [ -e "$dir/.complete" ]
}
cached_done() {
    touch "$1.new/.complete"
    rm -rf "$1"
    mv "$1.new" "$1"
}

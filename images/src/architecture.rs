//! Names of processor architectures: Incus uses the kernel's (`uname -m`) and knows what distributions say instead.

/// Kernel names, each followed by what else it is called.
const NAMES: &[&[&str]] = &[
    &["i686", "i386", "i586", "386", "x86", "generic_32"],
    &["x86_64", "amd64", "generic_64"],
    &["armv6l"],
    &[
        "armv7l",
        "arm",
        "armel",
        "armhf",
        "armhfp",
        "armv7a_hardfp",
        "armv7",
        "armv7a_vfpv3_hardfp",
    ],
    &["armv8l"],
    &["aarch64", "arm64", "arm64_generic"],
    &["ppc", "powerpc"],
    &["ppc64", "powerpc64"],
    &["ppc64le", "powerpc64le", "ppc64el"],
    &["s390x", "mainframe"],
    &["mips", "mipsel"],
    &["mips64", "mips64el"],
    &["riscv32"],
    &["riscv64"],
    &["loongarch64", "loong64"],
];

/// The kernel's name of an architecture, whatever it is called. `None` for one that is unknown.
pub fn canonical_architecture(name: &str) -> Option<&'static str> {
    NAMES
        .iter()
        .find(|names| names.contains(&name))
        .and_then(|names| names.first().copied())
}

//! Names of processor features and where CPUID has them. The names are those of Linux' `/proc/cpuinfo`, and of its
//! source where it does not show a feature; KVM's own begin with `kvm_`.

use kvm_bindings::kvm_cpuid_entry2;

/// A register of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// A register full of features: leaf, sub-leaf, register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u32, pub u32, pub Register);

/// A feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// What it is called.
    pub name: &'static str,
    /// Its register.
    pub word: Word,
    /// Its bit there.
    pub bit: u32,
    /// What it cannot be without.
    pub needs: &'static [&'static str],
}

impl Word {
    /// The register in a list of entries; 0 if it is not there.
    #[must_use]
    pub fn read(self, entries: &[kvm_cpuid_entry2]) -> u32 {
        let entry = entries
            .iter()
            .find(|entry| entry.function == self.0 && entry.index == self.1);
        entry.map_or(0, |entry| match self.2 {
            Register::Eax => entry.eax,
            Register::Ebx => entry.ebx,
            Register::Ecx => entry.ecx,
            Register::Edx => entry.edx,
        })
    }

    /// The register of an entry, if it is one of this leaf.
    pub fn of(self, entry: &mut kvm_cpuid_entry2) -> Option<&mut u32> {
        let here = entry.function == self.0 && entry.index == self.1;
        here.then_some(match self.2 {
            Register::Eax => &mut entry.eax,
            Register::Ebx => &mut entry.ebx,
            Register::Ecx => &mut entry.ecx,
            Register::Edx => &mut entry.edx,
        })
    }
}

impl Feature {
    /// Whether a list of entries has it.
    #[must_use]
    pub fn is_in(&self, entries: &[kvm_cpuid_entry2]) -> bool {
        self.word.read(entries) >> self.bit & 1 == 1
    }
}

/// Looks a feature up.
#[must_use]
pub fn find(name: &str) -> Option<&'static Feature> {
    FEATURES.iter().find(|feature| feature.name == name)
}

/// Names that somebody who wrote `name` may have meant, the likeliest first.
#[must_use]
pub fn similar(name: &str) -> Vec<&'static str> {
    let plain = |name: &str| name.to_lowercase().replace(['-', '.'], "_");
    let name = plain(name);
    let mut found: Vec<_> = FEATURES
        .iter()
        .map(|feature| (distance(&name, feature.name), feature.name))
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name).take(3).collect()
}

/// How many letters one would have to add, take away or change.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(b.bytes()) {
            let changed = diagonal + usize::from(a != b);
            diagonal = *cell;
            *cell = changed.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

use Register::{Eax, Ebx, Ecx, Edx};

const L1C: Word = Word(1, 0, Ecx);
const L1D: Word = Word(1, 0, Edx);
const L6A: Word = Word(6, 0, Eax);
const L7B: Word = Word(7, 0, Ebx);
const L7C: Word = Word(7, 0, Ecx);
const L7D: Word = Word(7, 0, Edx);
const L71A: Word = Word(7, 1, Eax);
const L71D: Word = Word(7, 1, Edx);
const L72D: Word = Word(7, 2, Edx);
const LD1A: Word = Word(0xd, 1, Eax);
const E1C: Word = Word(0x8000_0001, 0, Ecx);
const E1D: Word = Word(0x8000_0001, 0, Edx);
const E7D: Word = Word(0x8000_0007, 0, Edx);
const E8B: Word = Word(0x8000_0008, 0, Ebx);
const EAD: Word = Word(0x8000_000a, 0, Edx);
const E21A: Word = Word(0x8000_0021, 0, Eax);
const KVM: Word = Word(0x4000_0001, 0, Eax);

/// Registers that hold features and nothing else. What they have besides [`FEATURES`] is passed on to guests that see
/// the host's processor, and to no others.
pub const WORDS: &[Word] = &[
    L1C, L1D, L6A, L7B, L7C, L7D, L71A, L71D, L72D, LD1A, E1C, E1D, E7D, E8B, EAD, E21A, KVM,
];

const fn alone(name: &'static str, word: Word, bit: u32) -> Feature {
    needing(name, word, bit, &[])
}

const fn needing(name: &'static str, word: Word, bit: u32, needs: &'static [&'static str]) -> Feature {
    Feature {
        name,
        word,
        bit,
        needs,
    }
}

const XSAVE: &[&str] = &["xsave"];
const AVX: &[&str] = &["avx"];
const AVX2: &[&str] = &["avx2"];
const AVX512: &[&str] = &["avx512f"];
const AMX: &[&str] = &["amx_tile"];
const SVM: &[&str] = &["svm"];

/// All features with a name.
#[rustfmt::skip]
pub const FEATURES: &[Feature] = &[
    // Leaf 1 (SDM vol. 2, CPUID).
    alone("pni", L1C, 0), alone("pclmulqdq", L1C, 1), alone("vmx", L1C, 5), alone("ssse3", L1C, 9),
    needing("fma", L1C, 12, AVX), alone("cx16", L1C, 13), alone("pcid", L1C, 17), alone("sse4_1", L1C, 19),
    alone("sse4_2", L1C, 20), alone("x2apic", L1C, 21), alone("movbe", L1C, 22), alone("popcnt", L1C, 23),
    alone("tsc_deadline_timer", L1C, 24), alone("aes", L1C, 25), alone("xsave", L1C, 26),
    needing("avx", L1C, 28, XSAVE), needing("f16c", L1C, 29, AVX), alone("rdrand", L1C, 30),
    alone("hypervisor", L1C, 31),
    alone("fpu", L1D, 0), alone("vme", L1D, 1), alone("de", L1D, 2), alone("pse", L1D, 3), alone("tsc", L1D, 4),
    alone("msr", L1D, 5), alone("pae", L1D, 6), alone("mce", L1D, 7), alone("cx8", L1D, 8), alone("apic", L1D, 9),
    alone("sep", L1D, 11), alone("mtrr", L1D, 12), alone("pge", L1D, 13), alone("mca", L1D, 14),
    alone("cmov", L1D, 15), alone("pat", L1D, 16), alone("pse36", L1D, 17), alone("clflush", L1D, 19),
    alone("mmx", L1D, 23), alone("fxsr", L1D, 24), alone("sse", L1D, 25), alone("sse2", L1D, 26),
    alone("ss", L1D, 27), alone("ht", L1D, 28),
    alone("arat", L6A, 2),
    // Leaf 7.
    alone("fsgsbase", L7B, 0), alone("tsc_adjust", L7B, 1), alone("bmi1", L7B, 3), alone("hle", L7B, 4),
    needing("avx2", L7B, 5, AVX), alone("fdp_excptn_only", L7B, 6), alone("smep", L7B, 7), alone("bmi2", L7B, 8),
    alone("erms", L7B, 9), needing("invpcid", L7B, 10, &["pcid"]), alone("rtm", L7B, 11),
    alone("zero_fcs_fds", L7B, 13), needing("mpx", L7B, 14, XSAVE), needing("avx512f", L7B, 16, AVX2),
    needing("avx512dq", L7B, 17, AVX512), alone("rdseed", L7B, 18), alone("adx", L7B, 19), alone("smap", L7B, 20),
    needing("avx512ifma", L7B, 21, AVX512), alone("clflushopt", L7B, 23), alone("clwb", L7B, 24),
    needing("avx512pf", L7B, 26, AVX512), needing("avx512er", L7B, 27, AVX512), needing("avx512cd", L7B, 28, AVX512),
    alone("sha_ni", L7B, 29), needing("avx512bw", L7B, 30, AVX512), needing("avx512vl", L7B, 31, AVX512),
    needing("avx512vbmi", L7C, 1, AVX512), alone("umip", L7C, 2), needing("pku", L7C, 3, XSAVE),
    alone("waitpkg", L7C, 5), needing("avx512_vbmi2", L7C, 6, AVX512), needing("shstk", L7C, 7, &["xsaves"]),
    alone("gfni", L7C, 8), needing("vaes", L7C, 9, AVX), needing("vpclmulqdq", L7C, 10, AVX),
    needing("avx512_vnni", L7C, 11, AVX512), needing("avx512_bitalg", L7C, 12, AVX512),
    needing("avx512_vpopcntdq", L7C, 14, AVX512), alone("la57", L7C, 16), alone("rdpid", L7C, 22),
    alone("bus_lock_detect", L7C, 24), alone("cldemote", L7C, 25), alone("movdiri", L7C, 27),
    alone("movdir64b", L7C, 28),
    needing("avx512_4vnniw", L7D, 2, AVX512), needing("avx512_4fmaps", L7D, 3, AVX512), alone("fsrm", L7D, 4),
    needing("avx512_vp2intersect", L7D, 8, AVX512), alone("md_clear", L7D, 10), alone("rtm_always_abort", L7D, 11),
    alone("serialize", L7D, 14), alone("tsxldtrk", L7D, 16), needing("ibt", L7D, 20, &["xsaves"]),
    needing("amx_bf16", L7D, 22, AMX), needing("avx512_fp16", L7D, 23, &["avx512bw"]),
    needing("amx_tile", L7D, 24, &["xfd"]), needing("amx_int8", L7D, 25, AMX), alone("spec_ctrl", L7D, 26),
    alone("intel_stibp", L7D, 27), alone("flush_l1d", L7D, 28), alone("arch_capabilities", L7D, 29),
    alone("core_capabilities", L7D, 30), alone("spec_ctrl_ssbd", L7D, 31),
    needing("sha512", L71A, 0, AVX2), needing("sm3", L71A, 1, AVX), needing("sm4", L71A, 2, AVX2),
    needing("avx_vnni", L71A, 4, AVX2), needing("avx512_bf16", L71A, 5, &["avx512bw"]), alone("cmpccxadd", L71A, 7),
    alone("fzrm", L71A, 10), alone("fsrs", L71A, 11), alone("fsrc", L71A, 12), alone("fred", L71A, 17),
    alone("lkgs", L71A, 18), alone("wrmsrns", L71A, 19), needing("amx_fp16", L71A, 21, AMX),
    needing("avx_ifma", L71A, 23, AVX2), alone("lam", L71A, 26),
    needing("avx_vnni_int8", L71D, 4, AVX2), needing("avx_ne_convert", L71D, 5, AVX2),
    needing("amx_complex", L71D, 8, AMX), needing("avx_vnni_int16", L71D, 10, AVX2), alone("prefetchiti", L71D, 14),
    needing("avx10", L71D, 19, AVX512),
    alone("intel_psfd", L72D, 0), alone("ipred_ctrl", L72D, 1), alone("rrsba_ctrl", L72D, 2), alone("ddpd_u", L72D, 3),
    alone("bhi_ctrl", L72D, 4), alone("mcdt_no", L72D, 5),
    needing("xsaveopt", LD1A, 0, XSAVE), needing("xsavec", LD1A, 1, XSAVE), needing("xgetbv1", LD1A, 2, XSAVE),
    needing("xsaves", LD1A, 3, &["xsavec"]), needing("xfd", LD1A, 4, XSAVE),
    // Extended leaves (AMD, APM vol. 3, appendix E).
    alone("lahf_lm", E1C, 0), alone("cmp_legacy", E1C, 1), alone("svm", E1C, 2), alone("cr8_legacy", E1C, 4),
    alone("abm", E1C, 5), alone("sse4a", E1C, 6), alone("misalignsse", E1C, 7), alone("3dnowprefetch", E1C, 8),
    alone("osvw", E1C, 9), needing("xop", E1C, 11, AVX), needing("fma4", E1C, 16, AVX), alone("tbm", E1C, 21),
    alone("topoext", E1C, 22),
    alone("syscall", E1D, 11), alone("nx", E1D, 20), alone("mmxext", E1D, 22), alone("fxsr_opt", E1D, 25),
    alone("pdpe1gb", E1D, 26), alone("rdtscp", E1D, 27), alone("lm", E1D, 29), alone("3dnowext", E1D, 30),
    alone("3dnow", E1D, 31),
    alone("invtsc", E7D, 8),
    alone("clzero", E8B, 0), alone("xsaveerptr", E8B, 2), alone("wbnoinvd", E8B, 9), alone("amd_ibpb", E8B, 12),
    alone("amd_ibrs", E8B, 14), alone("amd_stibp", E8B, 15), alone("amd_stibp_always_on", E8B, 17),
    alone("ibrs_same_mode", E8B, 19), alone("amd_ssbd", E8B, 24), alone("virt_ssbd", E8B, 25),
    alone("amd_ssb_no", E8B, 26), alone("amd_psfd", E8B, 28), alone("btc_no", E8B, 29),
    alone("amd_ibpb_ret", E8B, 30),
    needing("npt", EAD, 0, SVM), needing("lbrv", EAD, 1, SVM), needing("svm_lock", EAD, 2, SVM),
    needing("nrip_save", EAD, 3, SVM), needing("tsc_scale", EAD, 4, SVM), needing("vmcb_clean", EAD, 5, SVM),
    needing("flushbyasid", EAD, 6, SVM), needing("decodeassists", EAD, 7, SVM), needing("pausefilter", EAD, 10, SVM),
    needing("pfthreshold", EAD, 12, SVM), needing("avic", EAD, 13, SVM), needing("v_vmsave_vmload", EAD, 15, SVM),
    needing("vgif", EAD, 16, SVM), needing("vnmi", EAD, 25, SVM),
    alone("no_nested_data_bp", E21A, 0), alone("lfence_rdtsc", E21A, 2), alone("verw_clear", E21A, 5),
    alone("null_sel_clr_base", E21A, 6), alone("autoibrs", E21A, 8), alone("no_smm_ctl_msr", E21A, 9),
    alone("sbpb", E21A, 27), alone("ibpb_brtype", E21A, 28), alone("srso_no", E21A, 29),
    alone("srso_user_kernel_no", E21A, 30),
    // KVM's own (Linux, Documentation/virt/kvm/x86/cpuid.rst).
    alone("kvm_clocksource", KVM, 0), alone("kvm_nop_io_delay", KVM, 1), alone("kvm_clocksource2", KVM, 3),
    alone("kvm_async_pf", KVM, 4), alone("kvm_steal_time", KVM, 5), alone("kvm_pv_eoi", KVM, 6),
    alone("kvm_pv_unhalt", KVM, 7), alone("kvm_pv_tlb_flush", KVM, 9), alone("kvm_async_pf_vmexit", KVM, 10),
    alone("kvm_pv_send_ipi", KVM, 11), alone("kvm_poll_control", KVM, 12), alone("kvm_pv_sched_yield", KVM, 13),
    alone("kvm_async_pf_int", KVM, 14), alone("kvm_msi_ext_dest_id", KVM, 15),
    alone("kvm_hc_map_gpa_range", KVM, 16), alone("kvm_migration_control", KVM, 17),
    alone("kvm_clocksource_stable", KVM, 24),
];

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;

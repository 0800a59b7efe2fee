//! A bundle's system call filter (config-linux.md, "Seccomp").

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

use super::unsupported;
use crate::seccomp::{Comparison, Filter, Operator, Program, Rule, syscalls};
use crate::{Error, Result};

/// Compiles it; calls that this kernel's ABI does not know are skipped, as the specification allows.
pub(super) fn convert(seccomp: &LinuxSeccomp) -> Result<(Program, u64)> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let mut rules = Vec::new();
    for group in seccomp.syscalls().iter().flatten() {
        let action = action(group.action(), group.errno_ret())?;
        if action == default {
            continue;
        }
        let conditions: Vec<Comparison> = group
            .args()
            .iter()
            .flatten()
            .map(comparison)
            .collect::<Result<_>>()?;
        for name in group.names() {
            if syscalls::by_name(name).is_some() {
                rules.push(Rule {
                    name: name.clone(),
                    conditions: conditions.clone(),
                    action,
                });
            }
        }
    }
    // The first rule that matches decides; those with conditions are the exceptions.
    rules.sort_by_key(|rule| rule.conditions.is_empty());
    let mut flags = 0;
    for flag in seccomp.flags().iter().flatten() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        };
    }
    let filter = Filter {
        rules,
        default,
        foreign: libc::SECCOMP_RET_KILL_PROCESS,
        compat: seccomp
            .architectures()
            .iter()
            .flatten()
            .any(|arch| *arch == Arch::ScmpArchX86),
    };
    let program = filter.compile().ok_or_else(|| {
        Error::spec(
            "linux.seccomp",
            "more rules than the kernel's 4096 instructions hold",
        )
    })?;
    Ok((program, flags))
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    let errno = errno.unwrap_or(libc::EPERM as u32) & libc::SECCOMP_RET_DATA;
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | errno,
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            libc::SECCOMP_RET_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActTrace => libc::SECCOMP_RET_TRACE | errno,
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActNotify => return Err(unsupported("linux.seccomp", "SCMP_ACT_NOTIFY")),
    })
}

fn comparison(arg: &LinuxSeccompArg) -> Result<Comparison> {
    let second = arg.value_two().unwrap_or_default();
    let (operator, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (Operator::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (Operator::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (Operator::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (Operator::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (Operator::GreaterOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (Operator::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (Operator::Masked(arg.value()), second),
    };
    if arg.index() > 5 {
        return Err(Error::spec(
            "linux.seccomp",
            format!("argument {} of a system call", arg.index()),
        ));
    }
    Ok(Comparison {
        argument: arg.index() as u32,
        operator,
        value,
    })
}

//! Landlock: even what a mount namespace would leave in reach is refused by the kernel, by rules that a process gives
//! itself (landlock(7)). Descriptors that are open already keep what they may do.

use std::fs::File;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};

/// The newest interface of the kernel that the rules are written for; older kernels enforce what they know.
const KNOWN: ABI = ABI::V6;

/// Confines the calling thread, and all that it starts, to making, writing, renaming and removing files in `run_dir`, if any: no
/// other files, no TCP ports, no signals to others and none of their abstract sockets. Returns how far the kernel does that.
pub(super) fn restrict(run_dir: Option<&File>) -> Result<RulesetStatus, RulesetError> {
    let in_run_dir = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(run_dir.map(|run_dir| Ok::<_, RulesetError>(PathBeneath::new(run_dir, in_run_dir))))?
        .restrict_self()?;
    Ok(status.ruleset)
}

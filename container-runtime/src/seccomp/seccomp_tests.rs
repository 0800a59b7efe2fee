//! Filters, run by a small interpreter of classic BPF and by the kernel.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

/// What the program says about a call.
fn verdict(program: &Program, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend_from_slice(&number.to_ne_bytes());
    data.extend_from_slice(&arch.to_ne_bytes());
    data.extend_from_slice(&0_u64.to_ne_bytes());
    args.iter()
        .for_each(|arg| data.extend_from_slice(&arg.to_ne_bytes()));
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    loop {
        let op = &program[at];
        at += 1;
        let code = u32::from(op.code);
        match code & 7 {
            libc::BPF_LD => {
                let k = op.k as usize;
                accumulator = u32::from_ne_bytes(data[k..k + 4].try_into().unwrap());
            }
            libc::BPF_ALU => accumulator &= op.k,
            libc::BPF_RET => return op.k,
            libc::BPF_JMP => {
                let taken = match code & 0xf0 {
                    libc::BPF_JEQ => accumulator == op.k,
                    libc::BPF_JGT => accumulator > op.k,
                    libc::BPF_JGE => accumulator >= op.k,
                    _ => {
                        at += op.k as usize;
                        continue;
                    }
                };
                at += usize::from(if taken { op.jt } else { op.jf });
            }
            other => panic!("instruction class {other}"),
        }
    }
}

fn call(program: &Program, name: &str, args: [u64; 6]) -> u32 {
    verdict(program, X86_64, syscalls::by_name(name).unwrap().0.unwrap(), args)
}

#[test]
fn the_table_is_sorted_and_agrees_with_the_c_library() {
    assert!(syscalls::TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for (name, number) in [
        ("read", libc::SYS_read),
        ("kexec_load", libc::SYS_kexec_load),
        ("openat2", libc::SYS_openat2),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("keyctl", libc::SYS_keyctl),
    ] {
        assert_eq!(syscalls::by_name(name).unwrap().0, Some(number as u32), "{name}");
    }
    assert_eq!(syscalls::by_name("socketcall"), Some((None, Some(102))));
    assert_eq!(syscalls::by_name("nonsense"), None);
}

#[test]
fn the_default_filter_refuses_what_reaches_the_host() {
    let program = default::program(false);
    for name in [
        "kexec_load",
        "init_module",
        "finit_module",
        "delete_module",
        "open_by_handle_at",
        "swapon",
        "clock_settime",
    ] {
        assert_eq!(call(&program, name, [0; 6]), errno(libc::EPERM), "{name}");
    }
    assert_eq!(call(&program, "keyctl", [0; 6]), errno(libc::ENOSYS));
    for name in [
        "read",
        "mount",
        "unshare",
        "clone3",
        "reboot",
        "ptrace",
        "setns",
        "umount2",
        "socket",
        "name_to_handle_at",
    ] {
        assert_eq!(call(&program, name, [0; 6]), ALLOW, "{name}");
    }
    assert_eq!(call(&program, "umount2", [0, 3, 0, 0, 0, 0]), errno(libc::EACCES));
    assert_eq!(call(&program, "umount2", [0, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(
        call(&program, "socket", [0xdead_0000_0000 + 40, 1, 0, 0, 0, 0]),
        errno(libc::EAFNOSUPPORT)
    );
    let nested = default::program(true);
    assert_eq!(call(&nested, "keyctl", [0; 6]), ALLOW);
    assert_eq!(call(&nested, "kexec_load", [0; 6]), errno(libc::EPERM));
}

#[test]
fn no_other_abi_gets_around_it() {
    let program = default::program(false);
    let (native, compat) = syscalls::by_name("init_module").unwrap();
    assert_eq!(
        verdict(&program, I386, compat.unwrap(), [0; 6]),
        errno(libc::EPERM)
    );
    assert_eq!(
        verdict(&program, X86_64, native.unwrap() | 0x4000_0000, [0; 6]),
        errno(libc::ENOSYS)
    );
    assert_eq!(
        verdict(
            &program,
            I386,
            syscalls::by_name("read").unwrap().1.unwrap(),
            [0; 6]
        ),
        ALLOW
    );
    assert_eq!(
        verdict(&program, 0xc000_00b7, 0, [0; 6]),
        libc::SECCOMP_RET_KILL_PROCESS
    );
    let strict = Filter {
        compat: false,
        ..default::filter(false)
    }
    .compile()
    .unwrap();
    assert_eq!(verdict(&strict, I386, 3, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(verdict(&strict, X86_64, 0, [0; 6]), ALLOW);
}

/// What the kernel really does, in a process of its own.
#[test]
fn the_kernel_takes_the_filter_and_obeys() {
    let program = default::program(false);
    // SAFETY: the child only makes system calls and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: invalid arguments on purpose; the calls must be refused before they are looked at.
        let status = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let refused = |number, expected| {
                libc::syscall(number, 0, 0, 0, 0, 0) == -1 && *libc::__errno_location() == expected
            };
            if install(&program, 0).is_err() {
                1
            } else if !refused(libc::SYS_kexec_load, libc::EPERM) {
                2
            } else if !refused(libc::SYS_keyctl, libc::ENOSYS) {
                3
            } else if libc::socket(40, libc::SOCK_STREAM, 0) != -1
                || *libc::__errno_location() != libc::EAFNOSUPPORT
            {
                4
            } else if libc::syscall(libc::SYS_getppid) < 0 {
                5
            } else {
                0
            }
        };
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    let mut status = -1;
    // SAFETY: our own child.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0, "check {} failed", status >> 8);
}

fn any_operator() -> impl Strategy<Value = Operator> {
    prop_oneof![
        Just(Operator::NotEqual),
        Just(Operator::Less),
        Just(Operator::LessOrEqual),
        Just(Operator::Equal),
        Just(Operator::GreaterOrEqual),
        Just(Operator::Greater),
        any::<u64>().prop_map(Operator::Masked),
    ]
}

/// Numbers near each other, so that halves and wholes are often equal.
fn near() -> impl Strategy<Value = u64> {
    (0_u64..3, 0_u64..3, prop::bool::ANY).prop_map(|(high, low, top)| high << 32 | low | u64::from(top) << 63)
}

proptest! {
    #[test]
    fn comparisons_mean_what_they_say(
        tests in prop::collection::vec((0_u32..6, any_operator(), near()), 0..4),
        args in prop::array::uniform6(near()),
        later in near(),
    ) {
        let conditions: Vec<Comparison> =
            tests.iter().map(|&(argument, operator, value)| Comparison { argument, operator, value }).collect();
        let expected = conditions.iter().all(|c| {
            let (arg, value) = (args[c.argument as usize], c.value);
            match c.operator {
                Operator::NotEqual => arg != value,
                Operator::Less => arg < value,
                Operator::LessOrEqual => arg <= value,
                Operator::Equal => arg == value,
                Operator::GreaterOrEqual => arg >= value,
                Operator::Greater => arg > value,
                Operator::Masked(mask) => arg & mask == value,
            }
        });
        let filter = Filter {
            rules: vec![
                Rule { name: "ioctl".into(), conditions, action: errno(1) },
                Rule { name: "read".into(), conditions: vec![], action: errno(2) },
                Rule {
                    name: "ioctl".into(),
                    conditions: vec![Comparison { argument: 5, operator: Operator::Equal, value: later }],
                    action: errno(3),
                },
            ],
            default: ALLOW,
            foreign: 0,
            compat: true,
        };
        let program = filter.compile().unwrap();
        let wanted = if expected { errno(1) } else if args[5] == later { errno(3) } else { ALLOW };
        prop_assert_eq!(call(&program, "ioctl", args), wanted);
        prop_assert_eq!(call(&program, "read", args), errno(2));
        prop_assert_eq!(call(&program, "write", args), ALLOW);
    }
}

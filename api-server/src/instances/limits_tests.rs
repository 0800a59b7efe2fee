use super::*;

fn config(pairs: &[(&str, &str)]) -> Expanded {
    Expanded {
        config: pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Expanded::default()
    }
}

#[test]
fn a_number_of_processors_is_a_quota_and_a_set_is_a_set() {
    assert_eq!(
        of_container(&config(&[("limits.cpu", "2")]))
            .unwrap()
            .cpu_quota_us,
        Some(200_000)
    );
    assert_eq!(
        of_container(&config(&[("limits.cpu", "0-1,3")]))
            .unwrap()
            .cpu_set
            .as_deref(),
        Some("0-1,3")
    );
    assert!(cpus("0").is_err());
    assert!(cpus("3-1").is_err());
    assert!(cpus("two").is_err());
    assert_eq!(count_of_set("0-1,3"), 3);
}

#[test]
fn memory_is_a_size_or_a_share_and_may_be_soft() {
    assert_eq!(
        of_container(&config(&[("limits.memory", "64MiB")]))
            .unwrap()
            .memory_bytes,
        Some(64 << 20)
    );
    let soft = of_container(&config(&[
        ("limits.memory", "64MiB"),
        ("limits.memory.enforce", "soft"),
    ]))
    .unwrap();
    assert_eq!(
        (soft.memory_bytes, soft.memory_soft_bytes),
        (None, Some(64 << 20))
    );
    let half = memory("50%").unwrap().unwrap();
    assert!(half > 0 && half <= host_memory() / 2);
    assert!(memory("0%").is_err());
    assert!(memory("much").is_err());
}

#[test]
fn a_virtual_machine_has_one_processor_and_a_gibibyte_unless_told_otherwise() {
    assert_eq!(of_vm(&config(&[])).unwrap(), (1, DEFAULT_VM_MEMORY));
    assert_eq!(
        of_vm(&config(&[("limits.cpu", "0-3"), ("limits.memory", "100MB")])).unwrap(),
        (4, 100_003_840)
    );
    assert!(of_vm(&config(&[("limits.cpu", "33")])).is_err());
}

#[test]
fn allowance_is_a_weight_or_a_quota() {
    assert_eq!(
        of_container(&config(&[("limits.cpu.allowance", "50%")]))
            .unwrap()
            .cpu_weight,
        Some(50)
    );
    let quota = of_container(&config(&[("limits.cpu.allowance", "25ms/50ms")])).unwrap();
    assert_eq!(
        (quota.cpu_quota_us, quota.cpu_period_us),
        (Some(25_000), Some(50_000))
    );
    assert!(of_container(&config(&[("limits.cpu.allowance", "fast")])).is_err());
}

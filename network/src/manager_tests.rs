//! Kills between every two steps: an operation that was stopped anywhere is finished by calling it again, or
//! undone by removal or recovery.

use std::sync::atomic::AtomicUsize;

use super::*;

/// More steps than any operation has.
const MANY: usize = 100;

/// Runs `test` in a network namespace of its own, with a fresh state directory.
fn with_networks<F: Future<Output = ()>>(test: impl FnOnce(Networks) -> F + Send + 'static) {
    let story = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("tests of networks need root");
        let state = tempfile::tempdir().unwrap();
        let networks = Networks::new(state.path().join("networks")).unwrap();
        let cleaner = Networks::new(state.path().join("networks")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(test(networks))));
        runtime.block_on(cleaner.recover(&BTreeSet::new())).unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    };
    if let Err(panic) = std::thread::spawn(story).join() {
        std::panic::resume_unwind(panic);
    }
}

fn config() -> BridgeConfig {
    let keys = [
        ("ipv4.address", "10.99.1.1/24"),
        ("ipv4.nat", "true"),
        ("ipv6.address", "fd42:9::1/64"),
    ];
    let keys = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    BridgeConfig::from_keys("vbr0", &keys).unwrap()
}

impl Networks {
    /// The same networks in a daemon that is killed after so many steps.
    fn killed_after(&self, steps: usize) -> Self {
        let step = Step {
            left: Some(Arc::new(AtomicUsize::new(steps))),
        };
        Self {
            dir: self.dir.clone(),
            marker: self.marker.clone(),
            turns: Mutex::default(),
            step,
        }
    }

    async fn assert_whole(&self) {
        let state = self.state("vbr0").await.unwrap();
        let addresses: Vec<_> = state
            .addresses
            .iter()
            .filter(|address| address.scope == "global")
            .collect();
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        assert_eq!((state.mtu, state.state.as_str()), (1500, "up"));
        assert_eq!(
            firewall::tables(&self.marker.table_prefix()).await.unwrap(),
            [self.marker.table("vbr0")]
        );
        let alias = self
            .host_links()
            .await
            .unwrap()
            .into_iter()
            .find(|link| link.name == "vbr0")
            .unwrap();
        assert!(alias.ours);
        assert!(self.folder("vbr0").pid_file().exists());
        self.reserve(
            "vbr0",
            &Reservation {
                key: "c1.eth0".to_owned(),
                hostname: "c1".to_owned(),
                hwaddr: HwAddr::from_hash(1),
                ipv4: crate::Choice::Pick,
                ipv6: crate::Choice::Dynamic,
            },
        )
        .await
        .unwrap();
    }

    async fn assert_nothing(&self) {
        assert!(self.state("vbr0").await.is_err());
        assert_eq!(
            firewall::tables(&self.marker.table_prefix()).await.unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(files::names(&self.dir).unwrap(), Vec::<String>::new());
        let dir = self.dir.display().to_string();
        assert!(crate::process::Process::with_argument(|word| word.contains(&dir)).is_empty());
    }
}

#[test]
fn network_killed_at_any_step_of_its_making_is_finished_by_making_it_again() {
    with_networks(|networks| async move {
        for steps in 0..MANY {
            let outcome = networks.killed_after(steps).ensure_bridge(&config()).await;
            networks.ensure_bridge(&config()).await.unwrap();
            networks.assert_whole().await;
            networks.remove_bridge("vbr0").await.unwrap();
            networks.assert_nothing().await;
            if outcome.is_ok() {
                assert!(steps > 5, "the steps are there");
                return;
            }
        }
        panic!("the operation never ends");
    });
}

#[test]
fn network_killed_at_any_step_of_its_making_or_removal_can_be_removed_and_recovered() {
    with_networks(|networks| async move {
        for steps in 0..MANY {
            let made = networks.killed_after(steps).ensure_bridge(&config()).await;
            networks.remove_bridge("vbr0").await.unwrap();
            networks.assert_nothing().await;

            networks.ensure_bridge(&config()).await.unwrap();
            let removed = networks.killed_after(steps).remove_bridge("vbr0").await;
            networks.recover(&BTreeSet::new()).await.unwrap();
            networks.assert_nothing().await;
            if made.is_ok() && removed.is_ok() {
                return;
            }
        }
        panic!("the operation never ends");
    });
}

#[test]
fn marker_is_stable_and_separates_state_directories() {
    assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
    let (one, two) = (
        Marker::new(Path::new("/var/lib/virga/networks")),
        Marker::new(Path::new("/srv/networks")),
    );
    assert_ne!(one.alias(), two.alias());
    assert_ne!(one.hwaddr("br0"), two.hwaddr("br0"));
    assert_ne!(one.hwaddr("br0"), one.hwaddr("br1"));
}

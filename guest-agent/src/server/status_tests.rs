use super::*;

#[test]
fn busy_time_leaves_idle_and_waiting_out() {
    let stat = "cpu  100 10 50 9999 777 3 2 0 40 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n";
    assert_eq!(cpu(stat).usage, 165 * 10_000_000);
    assert_eq!(cpu("nothing here").usage, 0);
}

#[test]
fn memory_in_use_is_what_is_not_available() {
    let meminfo =
        "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\n";
    let memory = memory(meminfo);
    assert_eq!(
        (memory.total, memory.usage, memory.swap_usage),
        (1_024_000, 614_400, 30_720)
    );
}

#[test]
fn os_release_values_lose_their_quotes() {
    let release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nID=debian\n";
    assert_eq!(
        os_release_field(release, "NAME").as_deref(),
        Some("Debian GNU/Linux")
    );
    assert_eq!(os_release_field(release, "VERSION_ID").as_deref(), Some("12"));
    assert_eq!(os_release_field(release, "ID").as_deref(), Some("debian"));
    assert_eq!(os_release_field(release, "VERSION"), None);
}

#[test]
fn full_name_comes_from_the_hosts_file() {
    let hosts = "127.0.0.1 localhost\n127.0.1.1 web1.example.net web1 # ours\n";
    assert_eq!(full_name(hosts, "web1").as_deref(), Some("web1.example.net"));
    assert_eq!(full_name(hosts, "web"), None);
}

#[tokio::test]
async fn loopback_is_reported_as_the_rest_api_wants_it() {
    let state = gather().await;
    let lo = &state.network["lo"];
    assert_eq!(
        (lo.kind.as_str(), lo.hwaddr.as_str(), lo.mtu),
        ("loopback", "", 65536)
    );
    assert!(state.processes > 0 && state.memory.total > state.memory.usage);
    assert!(!state.os_info.kernel_version.is_empty());
    assert!(state.disk["root"].total > 0);
}

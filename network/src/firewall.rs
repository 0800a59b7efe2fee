//! The firewall of a network: one nftables table, made in one transaction and removed by one command.
//!
//! A table of the `inet` family named `virga-<id>-<network>` holds three chains. `postrouting` masquerades
//! what leaves the subnet; `forward` and `input` accept the instances' traffic and their DHCP and DNS
//! requests (or drop forwarded packets where the network is not routed). Nothing else on the host is touched,
//! and since an accept in one table does not overrule a drop in another, the host's own firewall keeps the
//! last word.

use std::io::ErrorKind;
use std::process::Stdio;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{BridgeConfig, Error, Result};

/// `NF_IP_PRI_NAT_SRC`: where source addresses are translated.
const PRIORITY_SOURCE_NAT: i32 = 100;
/// `NF_IP_PRI_FILTER`.
const PRIORITY_FILTER: i32 = 0;

/// Makes the table as `config` says, in the place of whatever it was.
pub(crate) async fn apply(table: &str, config: &BridgeConfig) -> Result<()> {
    run(&config.name, &ruleset(table, config)).await
}

/// Removes the table. Succeeds when there is none.
pub(crate) async fn remove(table: &str, network: &str) -> Result<()> {
    // Deleting a table that is not there fails; adding one that is there does not.
    run(
        network,
        &json!({ "nftables": [add_table(table), delete_table(table)] }),
    )
    .await
}

/// The names of all tables of our family that start with `prefix`.
pub(crate) async fn tables(prefix: &str) -> Result<Vec<String>> {
    let output = Command::new("nft")
        .args(["-j", "list", "tables", "inet"])
        .stdin(Stdio::null())
        .output()
        .await;
    let output = output.map_err(|error| failed("", start_failure(&error)))?;
    if !output.status.success() {
        return Err(failed(
            "",
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    let listing: Listing =
        serde_json::from_slice(&output.stdout).map_err(|error| failed("", error.to_string()))?;
    let names = listing
        .nftables
        .into_iter()
        .filter_map(|entry| entry.table)
        .map(|table| table.name);
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    table: Option<Table>,
}

#[derive(Deserialize)]
struct Table {
    name: String,
}

async fn run(network: &str, ruleset: &Value) -> Result<()> {
    let attempt = async {
        let mut child = Command::new("nft")
            .args(["-j", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(ruleset.to_string().as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = attempt
        .await
        .map_err(|error| failed(network, start_failure(&error)))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        network,
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

fn failed(network: &str, message: String) -> Error {
    Error::Program {
        program: "nft",
        network: network.to_owned(),
        message,
    }
}

fn start_failure(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "it is not installed (Debian's package nftables)".to_owned(),
        _ => error.to_string(),
    }
}

fn add_table(table: &str) -> Value {
    json!({ "add": { "table": { "family": "inet", "name": table } } })
}

fn delete_table(table: &str) -> Value {
    json!({ "delete": { "table": { "family": "inet", "name": table } } })
}

/// The whole transaction (libnftables-json(5)): afterwards the table is exactly this, with no moment in
/// between.
fn ruleset(table: &str, config: &BridgeConfig) -> Value {
    let mut commands = vec![add_table(table), delete_table(table), add_table(table)];
    let chain = |name: &str, kind: &str, priority: i32| {
        json!({ "add": { "chain": {
            "family": "inet", "table": table, "name": name,
            "type": kind, "hook": name, "prio": priority, "policy": "accept",
        } } })
    };
    let rule = |chain: &str, expression: Vec<Value>| {
        let mut rule = json!({ "family": "inet", "table": table, "chain": chain });
        rule["expr"] = Value::Array(expression);
        json!({ "add": { "rule": rule } })
    };
    commands.push(chain("postrouting", "nat", PRIORITY_SOURCE_NAT));
    commands.push(chain("forward", "filter", PRIORITY_FILTER));
    commands.push(chain("input", "filter", PRIORITY_FILTER));

    let bridge = config.name.as_str();
    let subnets = [
        config.ipv4.map(|net| {
            (
                IpNet::V4(net),
                config.ipv4_nat,
                config.ipv4_firewall,
                config.ipv4_routing,
            )
        }),
        config.ipv6.map(|net| {
            (
                IpNet::V6(net),
                config.ipv6_nat,
                config.ipv6_firewall,
                config.ipv6_routing,
            )
        }),
    ];
    for (net, nat, firewall, routing) in subnets.into_iter().flatten() {
        if nat {
            let masquerade = json!({ "masquerade": null });
            let expression = vec![
                address("saddr", "==", net),
                address("daddr", "!=", net),
                masquerade,
            ];
            commands.push(rule("postrouting", expression));
        }
        if !firewall {
            continue;
        }
        let verdict = if routing == Some(false) {
            json!({ "drop": null })
        } else {
            json!({ "accept": null })
        };
        for direction in ["iifname", "oifname"] {
            commands.push(rule(
                "forward",
                vec![meta(direction, bridge), family(net), verdict.clone()],
            ));
        }
        for (protocol, ports) in services(net) {
            let accept = json!({ "accept": null });
            let expression = vec![
                meta("iifname", bridge),
                family(net),
                port(protocol, &ports),
                accept,
            ];
            commands.push(rule("input", expression));
        }
        // Neighbours find each other, routers are asked and paths report their MTU by ICMP.
        let protocol = if matches!(net, IpNet::V4(_)) {
            "icmp"
        } else {
            "icmpv6"
        };
        let icmp =
            json!({ "match": { "op": "==", "left": { "meta": { "key": "l4proto" } }, "right": protocol } });
        commands.push(rule(
            "input",
            vec![
                meta("iifname", bridge),
                family(net),
                icmp,
                json!({ "accept": null }),
            ],
        ));
    }
    json!({ "nftables": commands })
}

/// The ports that dnsmasq serves: DNS, and DHCP (RFC 2131 §4.1) or DHCPv6 (RFC 8415 §7.2).
fn services(net: IpNet) -> [(&'static str, Vec<u16>); 2] {
    let dhcp = if matches!(net, IpNet::V4(_)) { 67 } else { 547 };
    [("udp", vec![53, dhcp]), ("tcp", vec![53])]
}

fn meta(key: &str, value: &str) -> Value {
    json!({ "match": { "op": "==", "left": { "meta": { "key": key } }, "right": value } })
}

fn family(net: IpNet) -> Value {
    meta(
        "nfproto",
        if matches!(net, IpNet::V4(_)) {
            "ipv4"
        } else {
            "ipv6"
        },
    )
}

fn address(field: &str, operator: &str, net: IpNet) -> Value {
    let protocol = if matches!(net, IpNet::V4(_)) { "ip" } else { "ip6" };
    json!({ "match": {
        "op": operator,
        "left": { "payload": { "protocol": protocol, "field": field } },
        "right": { "prefix": { "addr": net.network().to_string(), "len": net.prefix_len() } },
    } })
}

fn port(protocol: &str, ports: &[u16]) -> Value {
    let left = json!({ "payload": { "protocol": protocol, "field": "dport" } });
    json!({ "match": { "op": "==", "left": left, "right": { "set": ports } } })
}

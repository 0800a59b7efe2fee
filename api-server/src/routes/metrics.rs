//! `/1.0/metrics`: OpenMetrics text, with Incus' names.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderValue, header};

use crate::Daemon;
use crate::metrics::{Family, Kind, instances};
use crate::request::{Project, Query};
use crate::response::Reply;
use crate::store::keys;

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route("/1.0/metrics", get(show))
}

async fn show(State(daemon): State<Arc<Daemon>>, project: Project, query: Query) -> Reply {
    let only = query.get_non_empty("project").map(|_| project.0.as_str());
    let mut families = instances(&daemon, only).await?;
    families.extend(server(&daemon)?);
    let mut text = String::new();
    for family in &families {
        family.write(&mut text);
    }
    text.push_str("# EOF\n");
    let mut response = Response::new(Body::from(text));
    // Incus says text/plain, and clients that look ask for it.
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(response)
}

fn server(daemon: &Daemon) -> Result<Vec<Family>, crate::ApiError> {
    let count = daemon.store.list(keys::WARNINGS)?.len() as f64;
    let operations = daemon.operations.list(None).len() as f64;
    let (resident, threads) = own_process();
    Ok(vec![
        Family::new(
            "incus_operations_total",
            "The number of running operations",
            Kind::Counter,
        )
        .sample(&[], operations),
        Family::new(
            "incus_uptime_seconds",
            "The daemon uptime in seconds.",
            Kind::Gauge,
        )
        .sample(&[], daemon.started.elapsed().as_secs_f64().floor()),
        Family::new(
            "incus_warnings_total",
            "The number of active warnings.",
            Kind::Counter,
        )
        .sample(&[], count),
        Family::new(
            "virga_daemon_resident_bytes",
            "Memory of the daemon.",
            Kind::Gauge,
        )
        .sample(&[], resident),
        Family::new("virga_daemon_threads", "Threads of the daemon.", Kind::Gauge).sample(&[], threads),
    ])
}

/// Resident memory in bytes and threads of this process.
fn own_process() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let number = |key: &str| {
        status
            .lines()
            .find_map(|line| {
                line.strip_prefix(key)?
                    .split_whitespace()
                    .next()?
                    .parse::<f64>()
                    .ok()
            })
            .unwrap_or(0.0)
    };
    (number("VmRSS:") * 1024.0, number("Threads:"))
}

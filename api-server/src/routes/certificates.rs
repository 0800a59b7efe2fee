//! `/1.0/certificates`: stored, for the day the API is served over HTTPS. Over the unix socket the peer's user counts.

use std::sync::Arc;

use api::{Certificate, CertificatePut, CertificatesPost};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;

use crate::certificate_text::{der_of_base64, der_of_pem, fingerprint, pem_of_der};
use crate::events::Lifecycle;
use crate::listing::Listing;
use crate::request::{IfMatch, JsonBody, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::{Document, Revision, keys, list_as, put_as};
use crate::update::Update;
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/certificates", get(list).post(add))
        .route(
            "/1.0/certificates/{fingerprint}",
            get(show).put(update).patch(update).delete(remove),
        )
}

/// The certificate whose fingerprint begins like this.
fn find(daemon: &Daemon, start: &str) -> Result<(Certificate, Document), ApiError> {
    let mut found = list_as::<Certificate>(&*daemon.store, &keys::certificate(start))?.into_iter();
    match (found.next(), found.next()) {
        (Some(only), None) if !start.is_empty() => Ok(only),
        (Some(_), Some(_)) => Err(ApiError::bad_request("More than one certificate matches")),
        _ => Err(ApiError::not_found("Certificate")),
    }
}

fn url(fingerprint: &str) -> String {
    format!("/1.0/certificates/{fingerprint}")
}

fn check_kind(kind: &str) -> Result<(), ApiError> {
    match kind {
        "client" | "metrics" => Ok(()),
        other => Err(ApiError::bad_request(format!("Unknown request type {other:?}"))),
    }
}

async fn list(State(daemon): State<Arc<Daemon>>, query: Query) -> Reply {
    let listing = Listing::from_query(&query)?;
    let items = list_as::<Certificate>(&*daemon.store, keys::CERTIFICATES)?
        .into_iter()
        .map(|(certificate, _)| (url(&certificate.fingerprint), certificate))
        .collect();
    listing.reply(items)
}

async fn add(
    State(daemon): State<Arc<Daemon>>,
    requestor: Requestor,
    JsonBody(post): JsonBody<CertificatesPost>,
) -> Reply {
    check_kind(&post.put.kind)?;
    if post.token {
        return Err(ApiError::bad_request(
            "Tokens need an HTTPS address for clients to connect to, and this server has none",
        ));
    }
    if post.put.certificate.is_empty() {
        return Err(ApiError::bad_request("No certificate was provided"));
    }
    let der = der_of_base64(&post.put.certificate).map_err(ApiError::bad_request)?;
    let fingerprint = fingerprint(&der);
    let certificate = Certificate {
        name: if post.put.name.is_empty() {
            fingerprint[..12].to_owned()
        } else {
            post.put.name
        },
        kind: post.put.kind,
        restricted: post.put.restricted,
        projects: post.put.projects,
        certificate: pem_of_der(&der),
        description: post.put.description,
        fingerprint: fingerprint.clone(),
    };
    put_as(
        &*daemon.store,
        &keys::certificate(&fingerprint),
        &certificate,
        Revision::Absent,
    )
    .map_err(|_| ApiError::conflict("Certificate already in trust store"))?;
    let url = url(&fingerprint);
    daemon
        .events
        .lifecycle(Lifecycle::new("certificate-created", &url).requestor(&requestor));
    Ok(response::created(&url))
}

async fn show(State(daemon): State<Arc<Daemon>>, Path(start): Path<String>) -> Reply {
    let (certificate, document) = find(&daemon, &start)?;
    Ok(response::sync_etag(certificate, &document.etag()))
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    requestor: Requestor,
    if_match: IfMatch,
    Path(start): Path<String>,
    update: Update,
) -> Reply {
    let (mut certificate, document) = find(&daemon, &start)?;
    let expect = if_match.check(&document)?;
    let put: CertificatePut = update.over(&certificate)?;
    check_kind(&put.kind)?;
    if !put.certificate.is_empty() {
        let der = der_of_pem(&put.certificate).map_err(ApiError::bad_request)?;
        if fingerprint(&der) != certificate.fingerprint {
            return Err(ApiError::bad_request(
                "A certificate cannot be replaced by another one: add that one",
            ));
        }
    }
    certificate.name = put.name;
    certificate.kind = put.kind;
    certificate.restricted = put.restricted;
    certificate.projects = put.projects;
    certificate.description = put.description;
    put_as(&*daemon.store, document.key(), &certificate, expect)?;
    let url = url(&certificate.fingerprint);
    daemon
        .events
        .lifecycle(Lifecycle::new("certificate-updated", url).requestor(&requestor));
    Ok(response::empty())
}

async fn remove(State(daemon): State<Arc<Daemon>>, requestor: Requestor, Path(start): Path<String>) -> Reply {
    let (certificate, document) = find(&daemon, &start)?;
    daemon
        .store
        .delete(document.key(), Revision::Exact(document.revision()))?;
    let url = url(&certificate.fingerprint);
    daemon
        .events
        .lifecycle(Lifecycle::new("certificate-deleted", url).requestor(&requestor));
    Ok(response::empty())
}

//! One connection: HTTP/1.1 with upgrades.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::ApiError;
use crate::request::Requestor;

/// Serves requests until the client leaves or the daemon ends; a request in progress is answered first.
pub(super) async fn serve(
    stream: UnixStream,
    requestor: Option<Requestor>,
    router: Router,
    stop: CancellationToken,
) {
    let service = hyper::service::service_fn(move |request| {
        let (requestor, router) = (requestor.clone(), router.clone());
        async move { Ok::<_, Infallible>(answer(request, requestor, router).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let connection = builder
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection.with_upgrades());
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = outcome {
        // A client that goes away in the middle is no news.
        tracing::trace!(%error, "connection ended");
    }
}

/// Bodies up to this size are read before the handler runs.
const SMALL_BODY: u64 = 64 * 1024;

/// Reads a body of known, small size whole. Clients send bodies with requests that need none (`""` with a DELETE); one
/// that nobody reads would make closing the connection a reset, and the client would lose its answer.
async fn read_small_body(request: Request<Incoming>) -> Result<Request<Body>, ApiError> {
    match request.body().size_hint().exact() {
        Some(size) if size <= SMALL_BODY => {
            let (parts, body) = request.into_parts();
            let bytes = body
                .collect()
                .await
                .map_err(|error| ApiError::bad_request(format!("Failed reading the request: {error}")))?
                .to_bytes();
            Ok(Request::from_parts(parts, Body::from(bytes)))
        }
        _ => Ok(request.map(Body::new)),
    }
}

async fn answer(mut request: Request<Incoming>, requestor: Option<Requestor>, router: Router) -> Response {
    let Some(requestor) = requestor else {
        return ApiError::forbidden("not authorized").into_response();
    };
    tracing::debug!(
        method = %request.method(),
        url = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
        protocol = requestor.protocol,
        ip = %requestor.address,
        username = %requestor.username,
        "Handling API request"
    );
    request.extensions_mut().insert(requestor);
    let request = match read_small_body(request).await {
        Ok(request) => request,
        Err(error) => return error.into_response(),
    };
    // A handler that panics is a bug; it costs its own request only.
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            ApiError::internal("The request failed inside the daemon; its log says where").into_response()
        }
    }
}

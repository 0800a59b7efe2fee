//! One connection: HTTP/1.1 with upgrades.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use axum::Router;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::Request;
use hyper::body::Incoming;
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
    let request = request.map(axum::body::Body::new);
    // A handler that panics is a bug; it costs its own request only.
    match AssertUnwindSafe(router.oneshot(request)).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            ApiError::internal("The request failed inside the daemon; its log says where").into_response()
        }
    }
}

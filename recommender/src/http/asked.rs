//! Layers that only some requests need, told by a header: the others pass by them. A layer that every request went
//! through would be copied for each, with all that it is configured with, and put its own body around each answer; two
//! such layers cost more than looking an answer up.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::{Either, MapOk};
use futures::{FutureExt as _, TryFutureExt as _};
use http::HeaderName;
use tower::{Layer, Service, ServiceExt as _};

/// Puts a layer around a service for requests that have this header.
#[derive(Clone)]
pub(super) struct Asked<L> {
    header: HeaderName,
    layer: Arc<L>,
    otherwise: fn(Response) -> Response,
}

impl<L> Asked<L> {
    /// `otherwise` is done to answers to other requests, in place of the layer.
    pub fn by(header: HeaderName, layer: L, otherwise: fn(Response) -> Response) -> Self {
        Self {
            header,
            layer: Arc::new(layer),
            otherwise,
        }
    }
}

impl<S, L> Layer<S> for Asked<L> {
    type Service = AskedService<S, L>;

    fn layer(&self, inner: S) -> Self::Service {
        AskedService {
            header: self.header.clone(),
            layer: Arc::clone(&self.layer),
            otherwise: self.otherwise,
            inner,
        }
    }
}

/// See [`Asked`].
#[derive(Clone)]
pub(super) struct AskedService<S, L> {
    header: HeaderName,
    layer: Arc<L>,
    otherwise: fn(Response) -> Response,
    inner: S,
}

type Boxed = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl<S, L> Service<Request> for AskedService<S, L>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone,
    L: Layer<S>,
    L::Service: Service<Request, Error = Infallible> + Send + 'static,
    <L::Service as Service<Request>>::Response: IntoResponse,
    <L::Service as Service<Request>>::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<MapOk<S::Future, fn(Response) -> Response>, Boxed>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if !request.headers().contains_key(&self.header) {
            return Either::Left(self.inner.call(request).map_ok(self.otherwise));
        }
        let layered = self.layer.layer(self.inner.clone());
        let answer = layered.oneshot(request).map_ok(IntoResponse::into_response);
        Either::Right(answer.boxed())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::header::{ACCEPT_ENCODING, VARY};
    use tower::service_fn;
    use tower_http::compression::CompressionLayer;

    use super::*;

    #[tokio::test]
    async fn only_who_asks_for_it_gets_the_layer() {
        let layer = Asked::by(
            ACCEPT_ENCODING,
            CompressionLayer::new(),
            |mut answer: Response| {
                answer.headers_mut().insert(VARY, ACCEPT_ENCODING.into());
                answer
            },
        );
        let answer = |_| async { Ok::<_, Infallible>("x".repeat(10_000).into_response()) };
        for (encodings, encoding) in [
            (None, None),
            (Some("gzip"), Some("gzip")),
            (Some("identity"), None),
        ] {
            let mut request = Request::new(Body::empty());
            if let Some(encodings) = encodings {
                request
                    .headers_mut()
                    .insert(ACCEPT_ENCODING, encodings.parse().unwrap());
            }
            let answer = layer.layer(service_fn(answer)).oneshot(request).await.unwrap();
            let found = answer.headers().get("content-encoding");
            assert_eq!(
                found.map(|found| found.to_str().unwrap()),
                encoding,
                "{encodings:?}"
            );
            assert_eq!(
                answer.headers()[VARY],
                "accept-encoding",
                "a cache must not mix them up"
            );
        }
    }
}

//! What an operator asks of the API server, and what it is refused.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use kube::client::Body;
use tower::{Layer, Service};

/// Methods and addresses.
type Requests = Arc<Mutex<Vec<(String, String)>>>;

/// Where requests are noted.
#[derive(Clone, Default)]
pub struct Noted {
    asked: Requests,
    refused: Requests,
}

impl Noted {
    /// Every request so far.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().clone()
    }

    /// Those that were forbidden.
    pub fn refused(&self) -> Vec<(String, String)> {
        self.refused.lock().unwrap().clone()
    }
}

impl<S> Layer<S> for Noted {
    type Service = NotedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        NotedService {
            inner,
            noted: self.clone(),
        }
    }
}

/// See [`Noted`].
#[derive(Clone)]
pub struct NotedService<S> {
    inner: S,
    noted: Noted,
}

impl<S, B> Service<Request<Body>> for NotedService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Send,
    S::Future: Send + 'static,
    B: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let line = (request.method().to_string(), request.uri().to_string());
        self.noted.asked.lock().unwrap().push(line.clone());
        let refused = Arc::clone(&self.noted.refused);
        let call = self.inner.call(request);
        Box::pin(async move {
            let answer = call.await?;
            if answer.status() == StatusCode::FORBIDDEN {
                refused.lock().unwrap().push(line);
            }
            Ok(answer)
        })
    }
}

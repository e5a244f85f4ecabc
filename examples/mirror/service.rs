//! A small service to put behind the ServiceStack gate: it shows whoever calls what of their request has come through.
//!
//! It keeps no accounts, and whoever comes is let in by what Gatepost says of them. A token is verified all the same: one that the
//! gate has not signed for this service is answered 401, and none means that nobody is signed in. By the last part of the path:
//!
//! ```text
//! …/fails   409, in words of its own     …/flood   bytes without an end
//! …/slow    nothing, for an hour         …/copy    the body, as it comes in
//! …/half    the head, and half a body    …/cookie  tries to set cookies, the gate's too
//! else      the request line, the header fields in order, who is there, the body
//! ```

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::keys::Keys;

/// The longest body that is shown, in bytes.
const LONGEST: usize = 1024 * 1024;

/// How the service is set up.
pub(crate) struct Mirror {
    /// Where the gate publishes its keys: `host:port` of its HTTP listener.
    pub(crate) keys: String,
    /// What a token must be meant for.
    pub(crate) audience: String,
}

/// Serves whoever connects, until it is dropped.
pub(crate) async fn serve(listener: TcpListener, mirror: Mirror) {
    let keys = Arc::new(Keys::new(mirror.keys, mirror.audience));
    // Those who are served go when the service goes.
    let mut served = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let keys = Arc::clone(&keys);
                    let answer = service_fn(move |request| {
                        let keys = Arc::clone(&keys);
                        async move { Ok::<_, Infallible>(answered(&keys, request).await) }
                    });
                    served.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = served.join_next() => {}
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Told = Response<Either<Full<Bytes>, Either<Endless, Incoming>>>;

async fn answered(keys: &Keys, request: Request<Incoming>) -> Told {
    let bearer = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default().to_owned());
    let who = match bearer.as_deref() {
        None => "nobody".to_owned(),
        Some(bearer) => match keys.verify(bearer.strip_prefix("Bearer ").unwrap_or_default()).await {
            Some(claims) => claims["sub"].as_str().unwrap_or_default().to_owned(),
            None => return told(StatusCode::UNAUTHORIZED, "The gate has not signed this.\n".to_owned()),
        },
    };
    match request.uri().path().rsplit('/').next().unwrap_or_default() {
        "fails" => {
            let mut response = told(
                StatusCode::CONFLICT,
                "{\"ResponseStatus\":{\"ErrorCode\":\"Full\",\"Message\":\"The shelf is full\"}}".to_owned(),
            );
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
            response.extensions_mut().insert(ReasonPhrase::from_static(b"Full"));
            response
        }
        "slow" => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            told(StatusCode::OK, String::new())
        }
        "half" => Response::new(Either::Right(Either::Left(Endless { pieces: 1 }))),
        "flood" => Response::new(Either::Right(Either::Left(Endless { pieces: usize::MAX }))),
        "copy" => Response::new(Either::Right(Either::Right(request.into_body()))),
        "cookie" => {
            let mut response = told(StatusCode::OK, String::new());
            for cookie in ["basket=1; path=/", "ss-id=theirs; path=/", "SS-TOK=theirs"] {
                response.headers_mut().append(SET_COOKIE, HeaderValue::from_static(cookie));
            }
            response
        }
        _ => shown(&who, request).await,
    }
}

/// The request, as it has come through.
async fn shown(who: &str, request: Request<Incoming>) -> Told {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let mut text = format!("{} {target}\n", request.method());
    let mut lines: Vec<String> =
        request.headers().iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))).collect();
    lines.sort();
    text.extend(lines);
    text.push_str(&format!("by {who}\n\n"));
    match Limited::new(request.into_body(), LONGEST).collect().await {
        Ok(body) => text.push_str(&String::from_utf8_lossy(&body.to_bytes())),
        Err(_) => return told(StatusCode::PAYLOAD_TOO_LARGE, String::new()),
    }
    told(StatusCode::OK, text)
}

fn told(status: StatusCode, text: String) -> Told {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// So many pieces of 16 KiB, and then nothing more, but no end either.
struct Endless {
    pieces: usize,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        const PIECE: &[u8] = &[b'x'; 16 * 1024];
        match self.pieces {
            0 => Poll::Pending,
            left => {
                self.pieces = left - 1;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
            }
        }
    }
}

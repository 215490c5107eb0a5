#![allow(clippy::unwrap_used)]
use axum::{body::Body, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tower::ServiceExt;

use super::*;

async fn panicking() -> &'static str {
    std::panic::panic_any("boom".to_owned())
}

fn router() -> Router {
    leaving_router(CancellationToken::new())
}

fn leaving_router(leaving: CancellationToken) -> Router {
    let routes = Router::new().route("/panic", get(panicking)).route("/fine", get(|| async { "fine" }));
    with_basics(routes, leaving)
}

#[tokio::test]
async fn answers_of_a_leaving_process_close_their_connection() {
    let leaving = CancellationToken::new();
    let router = leaving_router(leaving.clone());
    let ask = || router.clone().oneshot(Request::get("/fine").body(Body::empty()).unwrap());
    assert!(!ask().await.unwrap().headers().contains_key(header::CONNECTION));
    leaving.cancel();
    assert_eq!(ask().await.unwrap().headers()[header::CONNECTION], "close");
}

async fn get_with_id(path: &str, id: &str) -> Response {
    let request = Request::get(path).header(REQUEST_ID, id).body(Body::empty()).unwrap();
    router().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn panic_is_answered_as_json_with_the_request_id() {
    let response = get_with_id("/panic", "my-id.1").await;
    assert_eq!(response.status(), 500);
    assert_eq!(response.headers()[REQUEST_ID], "my-id.1");
    let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
    let body: ErrorBody = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((body.error.code, body.error.kind.as_str()), (500, "InternalError"));
}

#[tokio::test]
async fn wild_request_id_is_replaced() {
    let response = get_with_id("/fine", "a b\"c").await;
    let id = response.headers()[REQUEST_ID].to_str().unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
}

/// Starts a server whose only request begins, and is never answered unless `answer` fires.
async fn begun(
    drain: Duration,
) -> (TcpStream, CancellationToken, oneshot::Sender<()>, tokio::task::JoinHandle<io::Result<Drained>>) {
    let (answer, asked) = oneshot::channel::<()>();
    let (entered, began) = oneshot::channel::<()>();
    let once = std::sync::Arc::new(tokio::sync::Mutex::new(Some((entered, asked))));
    let slow = move || {
        let once = once.clone();
        async move {
            let (entered, asked) = once.lock().await.take().unwrap();
            entered.send(()).unwrap();
            asked.await.ok();
            "done"
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, Router::new().route("/", get(slow)), shutdown.clone(), drain));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    began.await.unwrap();
    (stream, shutdown, answer, server)
}

#[tokio::test]
async fn begun_request_is_answered_during_the_drain() {
    let (mut stream, shutdown, answer, server) = begun(Duration::from_secs(60)).await;
    shutdown.cancel();
    answer.send(()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("done"), "{text}");
    assert_eq!(server.await.unwrap().unwrap(), Drained::Completely);
}

#[tokio::test]
async fn drain_ends_at_its_deadline() {
    let (_stream, shutdown, _answer, server) = begun(Duration::from_millis(20)).await;
    shutdown.cancel();
    assert_eq!(server.await.unwrap().unwrap(), Drained::CutOff);
}

//! How many clients may be connected, and what becomes of one too many.

use futures_util::future::join_all;
use http::Method;

use crate::support::connection::Raw;
use crate::support::{
    BOTH_LISTENERS, Behaviour, Config, Fault, Gateway, ONE_ORIGIN, Origin, Place, own_answer,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";

/// One origin behind both listeners, with this in `runtime`.
fn with_runtime(runtime: &str, origin: &Origin) -> Config {
    let yaml = format!("runtime: {{ {runtime} }}\n{BOTH_LISTENERS}{ONE_ORIGIN}");
    Config::new(yaml).value("origin", origin.address())
}

/// A connection to the plain listener that was served a request and is kept.
async fn served(gateway: &Gateway) -> Raw {
    let mut raw = gateway.raw_tcp().await;
    raw.send(GET).await;
    assert_eq!(raw.answer().await.status, 200);
    raw
}

/// Whether a new connection to the plain listener gets an answer; it is closed again.
async fn is_served(gateway: &Gateway) -> bool {
    let mut raw = gateway.raw_tcp().await;
    // One that was closed at once may take no bytes any more.
    let request = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    raw.try_send(request).await.is_ok() && !raw.read_to_end().await.0.is_empty()
}

async fn refused(gateway: &Gateway) -> f64 {
    gateway.metrics().await.sum("connections_refused_total", &[])
}

#[tokio::test]
async fn out_of_files_newcomers_are_turned_away_and_who_is_connected_is_served() {
    const FILES: u64 = 256;
    let origin = Origin::script(Behaviour::echo_body()).start().await;
    let place = Place::new(with_runtime("threads: 1", &origin)).open_files(FILES);
    let gateway = Gateway::run_in(place).await;
    let most = gateway.metrics().await.sum("max_connections", &[]) as usize;
    assert!((64..96).contains(&most), "{most} of {FILES} files");
    // Each client holds an exchange with the origin: as many files as there can be.
    let hold = async || gateway.request(Method::POST, "/").plain().upload().await;
    let mut held = Vec::new();
    for _ in 0..most {
        held.push(hold().await);
    }
    gateway.eventually("all are at the origin", async || origin.hits() == most).await;

    let crowd = 4 * FILES as usize;
    let newcomers = join_all((0..crowd).map(|_| is_served(&gateway))).await;
    assert_eq!(newcomers.iter().filter(|served| **served).count(), 0, "of {crowd} newcomers");
    assert_eq!(refused(&gateway).await as usize, crowd, "and the admin listener still answers");
    assert!((gateway.open_fds() as u64) < FILES, "{} files", gateway.open_fds());
    assert_eq!(gateway.admin("GET", "/readyz").await.status, 200);
    for upload in held {
        upload.send("still here").await;
        let answer = upload.finish().await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "still here"));
    }
    gateway.eventually("there is room again", async || is_served(&gateway).await).await;
    assert!(!gateway.log().contains("Too many open files"), "{}", gateway.log());
}

#[tokio::test]
async fn listeners_share_the_number_and_a_reload_changes_it() {
    let origin = Origin::always(200).start().await;
    let config = with_runtime("max_connections: 2", &origin);
    let gateway = Gateway::run(&config).await;
    let mut plain = served(&gateway).await;
    let mut tls = gateway.raw_tls().await;
    assert!(!is_served(&gateway).await);
    assert!(gateway.tls().connect().await.is_err(), "closed before the handshake");
    let metrics = gateway.metrics().await;
    for listener in ["http", "https"] {
        assert_eq!(metrics.sum("connections_refused_total", &[("listener", listener)]), 1.0, "{listener}");
    }

    gateway.change_config(config.replace("max_connections: 2", "max_connections: 3")).await;
    assert_eq!(gateway.metrics().await.sum("max_connections", &[]), 3.0);
    let third = served(&gateway).await;
    gateway.change_config(config.replace("max_connections: 2", "max_connections: 1")).await;
    drop(third);
    gateway
        .eventually("the third has left", async || gateway.metrics().await.sum("connections", &[]) <= 2.0)
        .await;
    assert!(!is_served(&gateway).await);
    for kept in [&mut plain, &mut tls] {
        kept.send(GET).await;
        assert_eq!(kept.answer().await.status, 200, "who is connected stays");
    }
    drop((plain, tls));
    gateway.eventually("there is room again", async || is_served(&gateway).await).await;
}

#[tokio::test]
async fn more_connections_than_there_are_files_for_are_warned_of_and_not_taken() {
    let origin = Origin::always(200).start().await;
    let place = Place::new(with_runtime("max_connections: 5000", &origin)).open_files(512);
    let check = place.command(&["check"]).await;
    assert_eq!(check.code(), 0);
    let warning = "5000 connections need more open files than the 512 allowed here";
    assert!(check.text().contains(warning), "{check:?}");
    let gateway = Gateway::run_in(place).await;
    assert!(gateway.log().contains(warning), "{}", gateway.log());
    assert_eq!(gateway.metrics().await.sum("max_connections", &[]), 448.0);

    let place = Place::new(with_runtime("max_connections: 440", &origin)).open_files(512);
    let check = place.command(&["check"]).await;
    assert!(!check.text().contains("open files"), "{check:?}");
}

#[tokio::test]
async fn streams_that_take_more_files_than_their_share_leave_those_that_are_kept_back() {
    const FILES: u64 = 128;
    let origin = Origin::script(Behaviour::echo_body()).start().await;
    let gateway = Gateway::run_in(Place::new(with_runtime("threads: 1", &origin)).open_files(FILES)).await;
    // Each stream takes a connection to the origin.
    let request = gateway.request(Method::POST, "/").http2();
    let mut client = request.connect().await.unwrap();
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..100 {
        let mut upload = client.upload(&request).await;
        let answer = upload.started().await.unwrap();
        match answer.status.as_u16() {
            200 => held.push((upload, answer)),
            status => {
                assert_eq!((status, answer.headers["retry-after"].as_bytes()), (503, &b"1"[..]));
                assert_eq!(own_answer(&answer.finish().await.unwrap())["error"], "overloaded");
                refused += 1;
            }
        }
    }
    assert!(held.len() > 20 && refused > 20, "{} served, {refused} refused", held.len());
    assert!((gateway.open_fds() as u64) < FILES - 20, "{} files", gateway.open_fds());
    assert_eq!(gateway.admin("GET", "/readyz").await.status, 200);
    assert_eq!(gateway.reload().await.code(), 0, "files can be read");
    assert_eq!(
        gateway.metrics().await.sum("upstream_attempts_total", &[("outcome", "local")]),
        f64::from(refused)
    );
    for (upload, mut answer) in held {
        upload.send("still here").await;
        assert_eq!(answer.chunk().await.unwrap().unwrap(), "still here");
    }
    gateway.eventually("there is room again", async || gateway.get("/").await.status == 200).await;
    assert!(!gateway.log().contains("Too many open files"), "{}", gateway.log());
}

#[tokio::test]
async fn a_request_for_which_there_is_no_file_left_is_told_to_come_again() {
    let origin = Origin::script(Behaviour::status(200).fault(Fault::CloseAfterResponse)).start().await;
    let gateway = Gateway::run(with_runtime("threads: 1", &origin)).await;
    let mut client = served(&gateway).await;
    // Where a file was closed in the meantime it is served, and asks once more.
    let refused = async || {
        gateway.eventually("the origin has closed", async || origin.open_connections() == 0).await;
        gateway.forbid_more_files();
        client.send(GET.replace("GET /", "GET /refused")).await;
        let answer = client.answer().await;
        if answer.status != 200 {
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.head);
            assert!(answer.text().contains("\"overloaded\""), "{}", answer.text());
        }
        answer.status != 200
    };
    gateway.eventually("no file is left", refused).await;
    let logged = async || gateway.access_log().iter().any(|line| line["termination"] == "overloaded");
    gateway.eventually("the log says so", logged).await;
}
